//! An entry of `spill.match` matches the requests that Envoy's route matches which Istio makes of the same entry of a
//! VirtualService (`TranslateRouteMatch` of Istio's `pilot/pkg/networking/core/route/route.go`). Envoy compares each of several
//! values of a header since 1.39; before, it compared them joined by commas.

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::{self, Client};
use envoy_test::world::HOST;
use serde_json::{Value, json};

use crate::common::*;
use crate::with;

fn entries() -> Value {
    json!([
        {"method": {"exact": "GET"}, "uri": {"prefix": "/api"}},
        {"uri": {"exact": "/exact"}},
        {"headers": {"X-Class": {"exact": "batch"}, "x-any": {}}},
        {"uri": {"exact": "/without"}, "withoutHeaders": {"x-tx": {"prefix": "t"}, "x-never": {}}},
    ])
}

const ROUTES: &str = r#"
- match: {prefix: "/api", headers: [{name: ":method", string_match: {exact: GET}}]}
  direct_response: {status: 204}
- match: {path: "/exact"}
  direct_response: {status: 204}
- match: {prefix: "/", headers: [{name: "X-Class", string_match: {exact: batch}}, {name: x-any, present_match: true}]}
  direct_response: {status: 204}
- match: {path: "/without", headers: [
    {name: x-tx, string_match: {prefix: t}, invert_match: true, treat_missing_header_as_empty: true},
    {name: x-never, present_match: true, invert_match: true}]}
  direct_response: {status: 204}
"#;

const PATHS: [&str; 18] = [
    "/",
    "/api",
    "/apix",
    "/api/x",
    "/api?q=/exact",
    "/a?/api",
    "/API",
    "//api",
    "/%61pi",
    "/api%2Fx",
    "/./api",
    "/exact",
    "/exact/",
    "/exact?x=1",
    "/exact;v=1",
    "/exact%3F",
    "/without",
    "/without?t",
];

const HEADERS: [&[(&str, &[u8])]; 14] = [
    &[],
    &[("x-class", b"batch"), ("x-any", b"")],
    &[("x-class", b"batch")],
    &[("x-class", b"batch,other"), ("x-any", b"1")],
    &[
        ("x-class", b"other"),
        ("x-class", b"batch"),
        ("x-any", b"1"),
    ],
    &[("x-class", b"Batch"), ("x-any", b"1")],
    &[("x-class", b"batch\xff"), ("x-any", b"1")],
    &[("x-tx", b"t1")],
    &[("x-tx", b"T1")],
    &[("x-tx", b"")],
    &[("x-tx", b"t\xff\xfe")],
    &[("x-tx", b"a"), ("x-tx", b"t")],
    &[("x-tx", b"a"), ("x-tx", b"b")],
    &[("x-never", b"")],
];

async fn send(
    client: &mut Client,
    method: &str,
    path: &str,
    headers: &[(&'static str, &[u8])],
) -> Result<client::Answer> {
    let mut request = client::request(method, HOST, path, &[], client::empty())?;
    for (name, value) in headers {
        request.headers_mut().append(*name, (*value).try_into()?);
    }
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_be_spilled_if_envoys_route_of_the_same_words_matches_it() -> Result<()> {
    let peers = [peer("gke", json!({}))];
    let config = with(evacuating(&peers), "spill", json!({"match": entries()}));
    let filtered = World::builder().filter(config).start().await?;
    let routed = World::builder()
        .without_filter()
        .more_routes(ROUTES)
        .start()
        .await?;
    for http2 in [false, true] {
        let mut clients = (filtered.client(http2).await?, routed.client(http2).await?);
        let mut matched = 0;
        for method in ["GET", "HEAD", "POST"] {
            for path in PATHS {
                for headers in HEADERS {
                    let spilled = send(&mut clients.0, method, path, headers).await?;
                    let spilled = match spilled.header("x-peer-spillover") {
                        "gke; reason=evacuate" => true,
                        "home; reason=unmatched" => false,
                        other => panic!("{other}"),
                    };
                    let route = send(&mut clients.1, method, path, headers).await?;
                    let case = format!("{method} {path} {headers:?}, http2 {http2}");
                    assert_eq!(spilled, route.status == 204, "{case}");
                    matched += usize::from(spilled);
                }
            }
        }
        let all = 3 * PATHS.len() * HEADERS.len();
        assert!((100..all - 100).contains(&matched), "{matched} of {all}");
    }
    wait_nothing_counted(&filtered).await
}
