//! What ejects nobody: what other filters, the route, the client and Envoy's own circuit breakers do.

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::{self, Answer};
use envoy_test::world::HOME;
use serde_json::Value;

use crate::common::{Service, after, builder, detecting};

const FAULT_BEFORE: &str = "- name: before
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    headers: [{name: x-fault-before, present_match: true}]
    abort: {http_status: 503, percentage: {numerator: 100}}
";
/// Two that answer what they are asked for: Envoy's own, and one in Lua.
const BEHIND: &str = "- name: behind
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    abort: {header_abort: {}, percentage: {numerator: 100}}
- name: lua
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
";
const DIRECT: &str = "- {match: {path: /direct}, direct_response: {status: 503}}\n";

/// Answers that never reached home, by a service of each: a request's headers or path, and the client's status.
const LOCAL: [(&str, &str, u16); 6] = [
    ("x-fault-before", "1", 503),
    ("x-envoy-fault-abort-request", "503", 503),
    ("x-envoy-fault-abort-request", "500", 500),
    ("x-envoy-fault-abort-grpc-request", "14", 200),
    ("x-lua", "503", 503),
    ("/direct", "", 503),
];

async fn send_local(service: &Service<'_>, (name, value): (&str, &str)) -> Result<Answer> {
    if name == "/direct" {
        let request = client::request("GET", &service.host, name, &[], client::empty())?;
        return service.world.client(false).await?.send(request).await;
    }
    match name.contains("grpc") {
        true => service.grpc(&[(name, value)]).await,
        false => service.get(&[(name, value)]).await,
    }
}

#[tokio::test]
async fn faults_and_other_local_answers() -> Result<()> {
    let world = builder(&vec![after(1); LOCAL.len()])
        .filters_before(FAULT_BEFORE)
        .filters_after(BEHIND)
        .more_routes(DIRECT)
        .start()
        .await?;
    for (n, (name, value, status)) in LOCAL.into_iter().enumerate() {
        let service = Service::new(&world, n);
        for _ in 0..3 {
            let answer = send_local(&service, (name, value)).await?;
            assert_eq!((answer.status, answer.served_by()), (status, ""), "{name}");
        }
        assert_eq!(world.home.count(), 0, "{name}: it never reached home");
        assert_eq!(service.errors_and_ejected().await?, (0, 0), "{name}");
    }
    // The same services, with an error of home's own.
    for n in 0..LOCAL.len() {
        let service = Service::new(&world, n);
        service.get(&[("x-status", "503")]).await?;
        assert_eq!(service.errors_and_ejected().await?, (1, 1));
    }
    Ok(())
}

/// Envoy injects a delay, and home answers with an error all the same: that one is home's.
#[tokio::test]
async fn a_delay_that_is_injected_excuses_nobody() -> Result<()> {
    let world = builder(&[after(1)])
        .filters_after(
            "- name: delay
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    delay: {fixed_delay: 0.01s, percentage: {numerator: 100}}
",
        )
        .start()
        .await?;
    let service = Service::new(&world, 0);
    assert_eq!(service.get(&[]).await?.served_by(), HOME);
    assert_eq!(service.stat("ejected").await?, 0);
    service.get(&[("x-status", "500")]).await?;
    assert_eq!(service.errors_and_ejected().await?, (1, 1));
    let log = world.access_log(2).await?;
    assert!(log.iter().all(|line| line["flags"] == "DI"), "{log:?}");
    Ok(())
}

/// What tells nothing of home neither ends a run of errors nor is a good answer of its probe.
#[tokio::test]
async fn a_local_answer_speaks_neither_for_nor_against_home() -> Result<()> {
    let statuses = ["200", "302", "403", "429", "503"];
    let world = builder(&vec![after(2); statuses.len()])
        .filters_after(BEHIND)
        .start()
        .await?;
    for (n, status) in statuses.into_iter().enumerate() {
        let service = Service::new(&world, n);
        service.get(&[("x-status", "500")]).await?;
        let local = service.get(&[("x-lua", status)]).await?;
        assert_eq!(local.status.to_string(), status);
        assert_eq!(service.errors_and_ejected().await?, (1, 0), "{status}");
        service.get(&[("x-status", "500")]).await?;
        assert_eq!(service.errors_and_ejected().await?, (2, 1), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_of_4xx() -> Result<()> {
    let world = builder(&[after(1)]).start().await?;
    let service = Service::new(&world, 0);
    for status in ["400", "404", "408", "429", "499"] {
        let answer = service.get(&[("x-status", status)]).await?;
        assert_eq!(answer.status.to_string(), status);
    }
    assert_eq!(service.errors_and_ejected().await?, (0, 0));
    Ok(())
}

/// A client goes away before the answer, and in the middle of it.
#[tokio::test]
async fn clients_that_go_away() -> Result<()> {
    let world = builder(&[after(1)]).start().await?;
    let service = Service::new(&world, 0);
    let home = &world.home;
    for http2 in [false, true] {
        for round in 1..=3 {
            let mut client = world.client(http2).await?;
            let request = client::get(&service.host, &[("x-hold", "never")])?;
            let waiting = tokio::spawn(client.start(request));
            home.wait_in_flight(1).await?;
            waiting.abort();
            drop(client);
            home.wait_in_flight(0).await?;
            service.wait_done().await?;

            let begun = service.begin(http2, &[("x-hold-body", "never")]).await?;
            service.wait("in_flight", 1).await?;
            drop(begun);
            home.wait_in_flight(0).await?;
            service.wait_done().await?;
            let seen = service.errors_and_ejected().await?;
            assert_eq!(seen, (0, 0), "http2 {http2}, round {round}");
        }
    }
    Ok(())
}

/// Envoy's own circuit breaker is full: for Envoy that is not the host's fault, and here only where an overflow is an error.
#[tokio::test]
async fn an_overflow_of_envoys_circuit_breaker() -> Result<()> {
    let mut config = detecting(&[after(1), after(1)]);
    config["services"][1]["overflow"] = "eject".into();
    let world: World = builder(&[Value::Null, Value::Null])
        .filter(config)
        .home_cluster("circuit_breakers: {thresholds: [{max_requests: 1}]}")
        .start()
        .await?;
    for (n, ejects) in [(0, 0), (1, 1)] {
        let service = Service::new(&world, n);
        let held = service.begin(true, &[("x-hold-body", "go")]).await?;
        let answer = service.get2(&[]).await?;
        assert_eq!((answer.status, answer.served_by()), (503, ""), "{answer:?}");
        assert_eq!(service.errors_and_ejected().await?, (ejects, ejects));
        world.home.release("go");
        assert_eq!(held.rest.await?.status, 200);
        world.home.clear();
    }
    let log = world.access_log(4).await?;
    assert_eq!(
        log.iter().filter(|line| line["flags"] == "UO").count(),
        2,
        "{log:?}"
    );
    Ok(())
}
