//! Error detection compared with Envoy's own outlier detection (`outlier_detection` of the cluster, one host): the same
//! answers in the same order eject here and there, at the same one.
//!
//! Where and why we differ. Each is shown here or in the file named:
//!
//! | what happens | Envoy | we | why |
//! |---|---|---|---|
//! | a gRPC status that is an error, in trailers | the 200 of the headers is a good answer | an error | Envoy's router tells its detector at the headers, and reads no trailers (`router.cc` says so) |
//! | a gRPC answer broken off after its headers | a good answer, then an error | an error | gRPC is judged at its end, so broken answers one after the other are a run |
//! | a gRPC status in the headers of an answer to a request that is not `application/grpc`, such as gRPC-Web's | the 200 | an error where it is all of the answer | Envoy looks where the request was gRPC |
//! | a stream of gRPC that its client ends | a good answer at its headers | a good answer at its end (`errors_protocols.rs`) | as above |
//! | a deadline that the client chose is not met | an error | nothing (`errors_protocols.rs`) | otherwise any client ejects home for all |
//! | a probe that ends by the stream's idle timeout or longest duration | there are no probes | an error (`errors_protocols.rs`); other requests that end so are nothing for both | it was not answered |
//! | errors of a minority at a gateway or waypoint | eject | do not, unless `minErrorPercent: 0` (`errors_share.rs`) | one client would eject home for all |
//! | a route's timeout in the middle of a body | nothing | an error | Envoy's router reports a timeout while it waits for headers only; home did not finish its answer |
//! | another filter of the same proxy answers well | nothing | nothing (`errors/innocent.rs`); a good answer where the worker has long seen no error | to ask every good answer whence it came would be dear |
//! | retries by the router | each attempt | the last one, as the client sees it | the filter is before the router |
//! | no healthy upstream (UH) | nothing: there is no host | an error of a gateway (`errors_kinds.rs`) | what we eject is home, not a host of it |
//! | a full circuit breaker (UO) | nothing | nothing; an error with `overflow: eject` (`errors/innocent.rs`, `errors/overflow.rs`) | that is what `eject` asks for |
//! | good answers on a worker that has seen a thousand in a row | each begins the run anew | one in five does, or in as many as the smallest threshold | not to read them all is what makes it cheap; a worker that sees an error reads all |
//! | errors after such a calm | eject at the threshold | up to four errors later for each worker (`errors.rs`), up to nineteen where answers break off | the same |
//! | the end of an ejection | when its time is over, all at once | one probe at a time, and then a ramp (`errors/probe.rs`, `errors.rs`) | a home that is still ill costs one request and not a run of them |
//! | `maxEjectionPercent` | of the hosts | of the requests (`errors.rs`) | home is one |

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use common::{Service, detecting, host, hosts, on_each_worker};
use envoy_test::wait::until_some;
use envoy_test::world::{Builder, HOME, Upstream};
use envoy_test::{World, client};
use serde_json::{Value, json};

#[path = "errors/common.rs"]
mod common;

/// What home can be asked to answer: a client's headers, and whether it is gRPC.
const ANSWERS: [(&str, &str, bool); 10] = [
    ("x-status", "200", false),
    ("x-status", "404", false),
    ("x-status", "500", false),
    ("x-status", "502", false),
    ("x-status", "503", false),
    ("x-status", "501", false),
    ("x-reset", "before", false),
    ("x-grpc-status", "14", true),
    ("x-grpc-status", "13", true),
    ("x-grpc-status", "0", true),
];

/// Sequences, and the longest prefix of each that is sent.
const SEEDS: u64 = 4;
const LENGTH: usize = 9;

/// Answers of a pseudo-random sequence (Knuth's MMIX).
fn sequence(seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % ANSWERS.len()
    };
    (0..LENGTH).map(|_| next()).collect()
}

fn builder(services: usize) -> Builder {
    World::builder()
        .hosts(hosts(services))
        .upstream(Upstream::AsClient)
        .more_routes(ROUTES)
        .workers(2)
}

/// Routes to home for requests that ask for them: `x-route: retries`, `x-route: timeout`.
const ROUTES: &str = "
- match: {prefix: /, headers: [{name: x-route, string_match: {exact: retries}}]}
  route: {cluster: HOME_CLUSTER, timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 1}}
- match: {prefix: /, headers: [{name: x-route, string_match: {exact: timeout}}]}
  route: {cluster: HOME_CLUSTER, timeout: 0.1s}
";

/// Two worlds: one with Envoy's detection and no filter, one with ours.
async fn worlds(services: usize, envoys: &str, ours: &Value) -> Result<[World; 2]> {
    worlds_with(services, Upstream::AsClient, envoys, ours).await
}

async fn worlds_with(
    services: usize,
    upstream: Upstream,
    envoys: &str,
    ours: &Value,
) -> Result<[World; 2]> {
    let envoys = format!(
        "outlier_detection: {{{envoys}, interval: 3600s, base_ejection_time: 3600s, max_ejection_percent: 100, enforcing_success_rate: 0}}"
    );
    let envoys = builder(services).without_filter().home_cluster(&envoys);
    let envoys = envoys.upstream(upstream);
    let ours = builder(services).filter(detecting(&vec![ours.clone(); services]));
    let (envoys, ours) = tokio::join!(envoys.start(), ours.start());
    Ok([envoys?, ours?])
}

/// The services whose home is ejected: by Envoy, and by us.
async fn ejected(world: &World) -> Result<BTreeSet<usize>> {
    let mut ejected = BTreeSet::new();
    for (name, value) in world.envoy.stats_matching("eject").await? {
        let ours = name.ends_with(";.;ejected");
        if value == 1 && (ours || name.ends_with(".ejections_active")) {
            let (_, rest) = name
                .split_once(if ours { "service=.=s" } else { "80||s" })
                .with_context(|| name.clone())?;
            let number = rest.split('.').next().unwrap_or_default();
            ejected.insert(number.parse()?);
        }
    }
    Ok(ejected)
}

/// Waits until Envoy, which ejects on its main thread a moment later, has ejected these and no others.
async fn envoy_ejects(world: &World, expected: &BTreeSet<usize>) -> Result<()> {
    let mut last = None;
    let waited = until_some("Envoy ejects the same", async || {
        last = ejected(world).await.ok();
        (last.as_ref() == Some(expected)).then_some(())
    })
    .await;
    waited.with_context(|| format!("it has {last:?}, and we {expected:?}"))
}

/// Each service gets a prefix of a sequence, over connections to both workers in turn.
async fn compare(envoys: &str, detection: Value) -> Result<()> {
    let services = SEEDS as usize * LENGTH;
    let worlds = worlds(services, envoys, &detection).await?;
    for world in &worlds {
        let mut clients = on_each_worker(world, 2).await?;
        let mut grpc = world.client(true).await?;
        for service in 0..services {
            let sequence = sequence((service / LENGTH) as u64);
            for (at, answer) in sequence[..=service % LENGTH].iter().enumerate() {
                let (name, value, is_grpc) = ANSWERS[*answer];
                let mut headers = vec![(name, value)];
                let client = if is_grpc {
                    headers.push(("content-type", "application/grpc"));
                    &mut grpc
                } else {
                    &mut clients[at % 2]
                };
                client.get(&host(service), &headers).await?;
            }
        }
    }
    let [envoys, ours] = &worlds;
    let ejected = ejected(ours).await?;
    assert!(
        (services / 10..services * 9 / 10).contains(&ejected.len()),
        "sequences that tell something: {ejected:?}"
    );
    envoy_ejects(envoys, &ejected).await
}

#[tokio::test]
async fn consecutive_5xx_errors_eject_as_envoys() -> Result<()> {
    compare(
        "consecutive_5xx: 3, enforcing_consecutive_5xx: 100, enforcing_consecutive_gateway_failure: 0",
        json!({"consecutive5xxErrors": 3, "baseEjectionTime": "1h"}),
    )
    .await
}

#[tokio::test]
async fn consecutive_gateway_errors_eject_as_envoys() -> Result<()> {
    compare(
        "enforcing_consecutive_5xx: 0, consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100",
        json!({"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 2, "baseEjectionTime": "1h"}),
    )
    .await
}

#[tokio::test]
async fn where_we_differ() -> Result<()> {
    const CASES: usize = 6;
    let two = json!({"consecutive5xxErrors": 2, "baseEjectionTime": "1h"});
    let worlds = worlds(CASES, "consecutive_5xx: 2", &two).await?;
    for world in &worlds {
        let service = |n| Service::new(world, n);
        for _ in 0..2 {
            // 0: statuses in trailers. 1: a gRPC answer that is broken off. 2: gRPC-Web's.
            service(0).grpc(&[("x-grpc-trailer-status", "14")]).await?;
            let grpc = ("content-type", "application/grpc");
            let broken = [("x-reset", "mid"), ("x-hold-body", "break"), grpc];
            let begun = service(1).begin(true, &broken).await?;
            world.home.release("break");
            assert!(begun.rest.await.is_err());
            world.home.clear();
            let web = [
                ("x-grpc-status", "14"),
                ("content-type", "application/grpc-web"),
            ];
            service(2).get(&web).await?;
        }
        // 3: attempts of the router.
        let retried = [("x-status", "503"), ("x-route", "retries")];
        let seen = world.home.count();
        assert_eq!(service(3).get(&retried).await?.status, 503);
        assert_eq!(world.home.count(), seen + 2);
        // 4: two answers that a timeout cuts off. 5: two that home itself breaks off, which are errors for both.
        for (n, headers) in [
            (4, &[("x-route", "timeout"), ("x-hold-body", "never")]),
            (5, &[("x-reset", "mid"), ("x-hold-body", "both")]),
        ] {
            let first = service(n).begin(false, headers).await?;
            let second = service(n).begin(false, headers).await?;
            world.home.release("both");
            for begun in [first, second] {
                assert!(begun.rest.await.is_err(), "{n}: it is cut off");
            }
            world.home.clear();
        }
    }
    let [envoys, ours] = &worlds;
    envoy_ejects(envoys, &BTreeSet::from([3, 5])).await?;
    for n in [0, 1, 2, 4, 5] {
        Service::new(ours, n).wait("ejected", 1).await?;
    }
    assert_eq!(ejected(ours).await?, BTreeSet::from([0, 1, 2, 4, 5]));
    assert_eq!(Service::new(ours, 3).stat("errors").await?, 1);
    Ok(())
}

/// A list of codes takes the place of 5xx: one below 500 stands for a 500, and what is not listed is a good answer; what
/// home did not answer, or what a gRPC status stands for, is what it was. Istio's field is Envoy's `error_matcher`.
#[tokio::test]
async fn listed_codes_are_errors_as_with_envoys_matcher() -> Result<()> {
    // What home is asked for, and whether it ejects where two errors do, and where two of a gateway do.
    type Case<'a> = (&'a [(&'a str, &'a str, bool)], bool, bool);
    let cases: [Case<'_>; 9] = [
        (&[("x-status", "429", false); 2], true, false),
        (&[("x-status", "503", false); 3], false, false),
        (&[("x-status", "502", false); 2], true, true),
        (
            &[
                ("x-status", "429", false),
                ("x-status", "503", false),
                ("x-status", "429", false),
            ],
            false,
            false,
        ),
        (&[("x-reset", "before", false); 2], true, true),
        (&[("x-grpc-status", "14", true); 2], true, true),
        (&[("x-grpc-status", "8", true); 2], false, false),
        (&[("x-status", "200", false); 2], false, false),
        (&[("x-status", "429", false); 1], false, false),
    ];
    for gateway in [false, true] {
        let (five, two) = if gateway { (0, 2) } else { (2, 0) };
        let ours = json!({
            "consecutive5xxErrors": five, "consecutiveGatewayErrors": two,
            "outlierDetectionHttpErrorCodes": [429, 502], "baseEjectionTime": "1h",
        });
        let envoys = if gateway {
            "enforcing_consecutive_5xx: 0, consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100"
        } else {
            "consecutive_5xx: 2, enforcing_consecutive_gateway_failure: 0"
        };
        let codes = Upstream::AsClientWithCodes;
        let worlds = worlds_with(cases.len(), codes, envoys, &ours).await?;
        for world in &worlds {
            for (n, (answers, ..)) in cases.iter().enumerate() {
                let service = Service::new(world, n);
                for (name, value, grpc) in *answers {
                    match grpc {
                        true => service.grpc(&[(name, value)]).await?,
                        false => service.get(&[(name, value)]).await?,
                    };
                }
            }
        }
        let expected = cases
            .iter()
            .enumerate()
            .filter(|(_, (_, five, two))| match gateway {
                true => *two,
                false => *five,
            });
        let expected: BTreeSet<usize> = expected.map(|(n, _)| n).collect();
        let [envoys, ours] = &worlds;
        envoy_ejects(envoys, &expected).await?;
        assert_eq!(ejected(ours).await?, expected, "gateway: {gateway}");
    }
    Ok(())
}

/// Errors on one worker, and good answers on another that has long read only some of them: a run for us.
#[tokio::test]
async fn good_answers_in_a_calm_are_not_all_seen() -> Result<()> {
    let five = json!({"consecutive5xxErrors": 5, "baseEjectionTime": "1h"});
    let worlds = worlds(1, "consecutive_5xx: 5", &five).await?;
    for world in &worlds {
        let mut clients = on_each_worker(world, 2).await?;
        for _ in 0..1000 {
            assert_eq!(clients[0].get(&host(0), &[]).await?.served_by(), HOME);
        }
        for _ in 0..5 {
            let error = client::get(&host(0), &[("x-status", "500")])?;
            clients[1].send(error).await?;
            clients[0].get(&host(0), &[]).await?;
        }
    }
    let [envoys, ours] = &worlds;
    assert_eq!(ejected(ours).await?, BTreeSet::from([0]));
    assert_eq!(ejected(envoys).await?, BTreeSet::new());
    Ok(())
}
