//! One request's fate is its own: what becomes of it stops no other.

use anyhow::Result;
use envoy_test::client::{self, Answer};
use envoy_test::world::{CatchAll, PEER, PeerRoute};
use serde_json::json;

use crate::common::{Service, after, builder, detecting};

/// Filters behind ours, which answer some requests, before or after somebody asks for the route.
const BEHIND: &str = "- name: lua
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
    default_source_code:
      inline_string: |
        function envoy_on_request(handle)
          local status = handle:headers():get('x-lua')
          if status then
            handle:respond({[':status'] = status}, 'not today')
          end
        end
- name: fault
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    abort: {header_abort: {}, percentage: {numerator: 100}}
- name: limit
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
    max_request_bytes: 1000
- name: cors
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
";
/// What a VirtualService of the peer's host can say.
const ROUTES: &str = "- {match: {prefix: /direct}, direct_response: {status: 418}}
- {match: {prefix: /redirect}, redirect: {host_redirect: elsewhere}}
- {match: {prefix: /tls}, redirect: {https_redirect: true}}
- {match: {prefix: /no-such-cluster}, route: {cluster: no-such-cluster}}
- {match: {prefix: /by-header}, route: {cluster_header: x-cluster}}
- {match: {prefix: /black-hole}, route: {cluster: BlackHoleCluster}}
- {match: {prefix: /passthrough}, route: {cluster: PassthroughCluster}}
- {match: {prefix: /home}, route: {cluster: HOME_CLUSTER}}
- {match: {prefix: /timeout}, route: {cluster: PEER_CLUSTER, host_rewrite_literal: SERVICE, timeout: 0.02s}}
- match: {prefix: /one-in-ten}
  route:
    host_rewrite_literal: SERVICE
    weighted_clusters:
      clusters: [{name: PEER_CLUSTER, weight: 90}, {name: no-such-cluster, weight: 10}]
- match: {prefix: /, headers: [{name: x-odd, present_match: false}]}
  route: {cluster: PEER_CLUSTER, host_rewrite_literal: SERVICE}
  typed_per_filter_config:
    cors:
      '@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
      allow_origin_string_match: [{exact: 'https://a.example'}]
      allow_methods: GET
";

/// An odd request: method, path, headers, bytes of its body.
type Odd = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    usize,
);

const ODD: [Odd; 20] = [
    ("GET", "/direct", &[], 0),
    ("GET", "/redirect", &[], 0),
    ("GET", "/tls", &[], 0),
    ("GET", "/no-such-cluster", &[], 0),
    ("GET", "/by-header", &[], 0),
    ("GET", "/by-header", &[("x-cluster", "anything")], 0),
    ("GET", "/black-hole", &[], 0),
    ("GET", "/passthrough", &[], 0),
    ("GET", "/home", &[], 0),
    ("GET", "/timeout", &[("x-delay-ms", "200")], 0),
    ("GET", "/one-in-ten", &[], 0),
    // The same path as all others have.
    ("GET", "/", &[("x-odd", "unmatched")], 0),
    ("GET", "/", &[("x-lua", "403")], 0),
    ("GET", "/", &[("x-envoy-fault-abort-request", "503")], 0),
    ("POST", "/", &[], 2000),
    (
        "OPTIONS",
        "/",
        &[
            ("origin", "https://a.example"),
            ("access-control-request-method", "GET"),
        ],
        0,
    ),
    ("POST", "/", &[("x-odd", "unmatched")], 10),
    // The service's second port, which the peer lacks.
    ("GET", "/8080", &[], 0),
    ("GET", "/", &[("x-status", "503")], 0),
    ("GET", "/", &[("x-reset", "before")], 0),
];

async fn send(service: &Service<'_>, (method, path, headers, body): Odd) -> Result<Answer> {
    let body = match body {
        0 => client::empty(),
        n => client::full(vec![b'x'; n]),
    };
    let request = client::request(method, &service.host, path, headers, body)?;
    service.world.client(false).await?.send(request).await
}

/// So many odd requests before the first other, then one among a few others: these are all answered by the peer, for this
/// reason, as they are without any odd one.
async fn others_are_spilled(service: &Service<'_>, reason: &str, odd: Odd) -> Result<()> {
    let (method, path, ..) = odd;
    // Those of one path have to share what is believed of it where they are many in a row.
    let first = if (method, path) == ("GET", "/") {
        1
    } else {
        10
    };
    for _ in 0..first {
        send(service, odd).await?;
    }
    let expected = (200, PEER, format!("{PEER}; reason={reason}"));
    for round in 0..8 {
        for _ in 0..5 {
            let answer = service.get(&[]).await?;
            let decision = answer.header("x-peer-spillover").to_owned();
            let got = (answer.status, answer.served_by(), decision);
            assert_eq!(got, expected, "{odd:?}, round {round}");
        }
        send(service, odd).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_home_is_ejected_an_odd_request_among_others_stops_none_of_them() -> Result<()> {
    let world = builder(&vec![after(1); ODD.len()])
        .filters_after(BEHIND)
        .peer_route(PeerRoute::OnlySome)
        .peer_routes(ROUTES)
        .catch_all(CatchAll::Absent)
        .second_port()
        .start()
        .await?;
    for (n, odd) in ODD.into_iter().enumerate() {
        let service = Service::new(&world, n);
        service.get(&[("x-status", "500")]).await?;
        service.wait("ejected", 1).await?;
        others_are_spilled(&service, "ejected", odd).await?;
    }
    // Each was what it was meant to be.
    let log = world.access_log(1).await?;
    for (path, flags, lost) in [
        ("/direct", "-", 0),
        ("/redirect", "-", 0),
        ("/no-such-cluster", "NC", 2),
        ("/black-hole", "UH", 2),
        ("/home", "-", 0),
    ] {
        let of = log.iter().filter(|line| line["path"] == path);
        let (home, away): (Vec<_>, Vec<_>) =
            of.partition(|line| line["decision"] == "home; reason=misroute");
        assert!(away.iter().all(|line| line["flags"] == flags), "{away:?}");
        if lost > 0 {
            assert!(home.len() > away.len(), "{path}: {} away", away.len());
        }
    }
    let unmatched = log.iter().filter(|line| line["flags"] == "NR").count();
    assert!(unmatched > 8, "{unmatched}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_home_is_full_an_odd_request_among_others_stops_none_of_them() -> Result<()> {
    // By header, an odd one can also fall to home's own route.
    let to = "headers: [{name: x-peer-spillover-to, present_match: true}]";
    let by_header = format!(
        "- {{match: {{prefix: /direct, {to}}}, direct_response: {{status: 418}}}}
- {{match: {{prefix: /home, {to}}}, route: {{cluster: HOME_CLUSTER}}}}
- {{match: {{prefix: /no-such-cluster, {to}}}, route: {{cluster: no-such-cluster}}}}
"
    );
    for routing in ["authority", "header"] {
        let mut config = detecting(&[json!({})]);
        config["services"][0]["routing"] = routing.into();
        config["services"][0]["trafficPolicy"] =
            json!({"connectionPool": {"http": {"http2MaxRequests": 1}}});
        let mut builder = builder(&[json!({})]).filter(config).peer_routes(ROUTES);
        if routing == "header" {
            builder = builder.more_routes(&by_header);
        }
        let world = builder.start().await?;
        let service = Service::new(&world, 0);
        let held = service.begin(true, &[("x-hold-body", "all")]).await?;
        for path in ["/direct", "/home", "/no-such-cluster"] {
            others_are_spilled(&service, "limit", ("GET", path, &[], 0)).await?;
        }
        world.home.release_all();
        held.rest.await?;
    }
    Ok(())
}

/// Many odd requests at once, of as many paths, stop no other path while others arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_odd_requests_stops_none_of_the_others() -> Result<()> {
    let world = builder(&[after(1)])
        .peer_route(PeerRoute::OnlySome)
        .peer_routes(
            "- {match: {path: /}, route: {cluster: PEER_CLUSTER, host_rewrite_literal: SERVICE}}",
        )
        .catch_all(CatchAll::Absent)
        .start()
        .await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    service.wait("ejected", 1).await?;
    let mut many = world.client(true).await?;
    for round in 0..5 {
        let mut odd = Vec::new();
        for n in 0..40 {
            // Something arrived just before.
            if n == 0 {
                assert_eq!(service.get(&[]).await?.served_by(), PEER);
            }
            let path = format!("/{round}-{n}");
            let request = client::request("GET", &service.host, &path, &[], client::empty())?;
            odd.push(tokio::spawn(many.start(request)));
        }
        let mut lost = 0;
        for answer in odd {
            lost += usize::from(answer.await??.status() == 404);
        }
        assert!(lost > 16, "{lost}");
        for _ in 0..5 {
            assert_eq!(service.get(&[]).await?.served_by(), PEER, "{round}");
        }
    }
    Ok(())
}
