//! One request at a time finds out whether home is well again.

use std::time::Duration;

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::{self, Answer, Client};
use envoy_test::wait::until_some_by;
use envoy_test::world::{HOME, PEER, decisions};
use serde_json::{Value, json};

use crate::common::{Service, builder, on_each_worker};

fn soon() -> Value {
    json!({"consecutive5xxErrors": 1, "interval": "1ms", "baseEjectionTime": "200ms"})
}

async fn ejected(n: usize) -> Result<World> {
    let world = builder(&vec![soon(); n]).workers(2).start().await?;
    for n in 0..n {
        let service = Service::new(&world, n);
        service.get(&[("x-status", "500")]).await?;
        assert_eq!(service.stat("ejections").await?, 1);
    }
    world.home.clear();
    Ok(world)
}

async fn probes(service: &Service<'_>) -> Result<i64> {
    let decided = decisions(&service.world.envoy, &service.host).await?;
    let probes = decided.get(&("home".to_owned(), "probe".to_owned()));
    Ok(probes.copied().unwrap_or(0))
}

/// While a probe is on its way everything else goes to the peer, on whichever worker. Then its answer decides.
#[tokio::test]
async fn one_probe_at_a_time() -> Result<()> {
    let world = ejected(1).await?;
    let service = Service::new(&world, 0);
    for (round, status) in ["500", "200"].into_iter().enumerate() {
        let probe = service.hold_probe(&[("x-status", status)]).await?;
        for mut client in on_each_worker(&world, 2).await? {
            for _ in 0..50 {
                let answer = client.get(&service.host, &[]).await?;
                assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
            }
        }
        assert_eq!((world.home.count(), world.home.in_flight()), (1, 1));
        assert_eq!(service.stat("in_flight").await?, 1, "a probe is counted");
        assert_eq!(service.stat("ejected").await?, 1);
        world.home.release("probe");
        let answer = probe.await??;
        assert_eq!(answer.header("x-peer-spillover"), "home; reason=probe");
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(probes(&service).await?, round as i64 + 1);
        world.home.clear();
    }
    assert_eq!(service.ejected_for(), [200, 400]);
    service.wait("ejected", 0).await?;
    assert_eq!(service.get(&[]).await?.served_by(), HOME);
    Ok(())
}

/// A probe whose client goes away tells nothing, before its answer and in it: another request is the probe, and no ejection
/// began anew. (Not always the next one: a worker may not know for a tick that the place is free.)
#[tokio::test]
async fn a_probe_that_tells_nothing_frees_its_place() -> Result<()> {
    let world = ejected(1).await?;
    let service = Service::new(&world, 0);
    for round in 1..=2 {
        let probe = service.hold_probe(&[]).await?;
        assert_eq!(probes(&service).await?, round);
        probe.abort();
        world.home.wait_in_flight(0).await?;
        service.wait_done().await?;
        assert_eq!(service.stat("ejected").await?, 1);
    }
    loop {
        let answer = service.get(&[]).await?;
        if answer.header("x-peer-spillover") == "home; reason=probe" {
            break;
        }
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
    }
    service.wait("ejected", 0).await?;
    assert_eq!(service.ejected_for(), [200]);
    Ok(())
}

/// A filter behind ours answers the probe, well or not. Home never saw it.
#[tokio::test]
async fn a_probe_that_another_filter_answers_tells_nothing() -> Result<()> {
    let world = builder(&[soon()])
        .filters_after(
            "- name: behind
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    abort: {header_abort: {}, percentage: {numerator: 100}}
",
        )
        .start()
        .await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    for (round, status) in ["503", "403", "200"].into_iter().enumerate() {
        // To the peer it is answered likewise.
        while probes(&service).await? == round as i64 {
            service
                .get(&[("x-envoy-fault-abort-request", status)])
                .await?;
        }
        assert_eq!(service.stat("ejected").await?, 1, "{status}");
        assert_eq!(service.ejected_for(), [200], "{status}");
    }
    while probes(&service).await? == 3 {
        assert_eq!(service.get(&[]).await?.status, 200);
    }
    service.wait("ejected", 0).await
}

/// Sends requests until one is home's probe, of which the head of the answer is there.
async fn begun(
    service: &Service<'_>,
    client: &mut Client,
    headers: &[(&str, &str)],
) -> Result<impl Future<Output = Result<Answer>>> {
    let home = &service.world.home;
    loop {
        let seen = home.count();
        let answer = client.start(client::get(&service.host, headers)?).await?;
        if home.count() > seen {
            return Ok(client::read(answer));
        }
        client::read(answer).await?;
    }
}

/// A gRPC stream that lasts is an answer: home takes its load back after half a minute of it.
#[tokio::test]
async fn a_grpc_probe_that_goes_on_is_well() -> Result<()> {
    let world = builder(&[soon()]).start().await?;
    let service = Service::new(&world, 0);
    service.grpc(&[("x-grpc-trailer-status", "14")]).await?;
    service.wait("ejected", 1).await?;
    let headers = [("content-type", "application/grpc"), ("x-hold-body", "end")];
    world.peer.release("end");
    let mut client = world.client(true).await?;
    let probe = begun(&service, &mut client, &headers).await?;
    let minute = Duration::from_secs(60);
    until_some_by("home has its load back", minute, async || {
        (service.stat("ejected").await.ok()? != 1).then_some(())
    })
    .await?;
    assert_eq!(service.stat("ejections").await?, 1);
    service.wait("ejected", 0).await?;
    world.home.release("end");
    probe.await?;
    service.wait_done().await
}

/// What a gRPC probe tells is known at its end, whatever its headers say; and of any probe that it broke off.
#[tokio::test]
async fn a_grpc_probe_is_judged_by_its_trailers() -> Result<()> {
    let world = builder(&[soon()]).workers(2).start().await?;
    let service = Service::new(&world, 0);
    service.grpc(&[("x-grpc-trailer-status", "14")]).await?;
    service.wait("ejected", 1).await?;
    let mut client = world.client(true).await?;
    for (round, status) in ["14", "0"].into_iter().enumerate() {
        let headers = [
            ("content-type", "application/grpc"),
            ("x-hold-body", "end"),
            ("x-grpc-trailer-status", status),
        ];
        world.peer.release("end");
        let probe = begun(&service, &mut client, &headers).await?;
        assert_eq!(service.stat("ejected").await?, 1, "its headers were good");
        assert_eq!(service.get(&[]).await?.served_by(), PEER);
        world.home.release("end");
        probe.await?;
        service.wait_done().await?;
        let ejections = service.stat("ejections").await?;
        assert_eq!(ejections, 2, "round {round}");
        world.home.clear();
    }
    service.wait("ejected", 0).await
}
