//! At a proxy that many clients share, those who cause less than half of the answers do not divert the others' requests.

use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Service, builder};
use envoy_test::World;
use envoy_test::client::{self, Client};
use envoy_test::world::{HOME, PEER};
use serde_json::{Value, json};

#[path = "errors/common.rs"]
mod common;

const ROUTER: &str = "router~127.0.0.1~gateway.istio~istio.svc.cluster.local";
const WAYPOINT: &str = "waypoint~127.0.0.1~waypoint.istio~istio.svc.cluster.local";
const SIDECAR: &str = "sidecar~127.0.0.1~client.istio~istio.svc.cluster.local";
const INTERVAL: Duration = Duration::from_secs(2);

/// A proxy of this kind, and what its one service says of the least percentage.
async fn world(node: &str, percent: Option<u32>) -> Result<World> {
    let detection = json!({"consecutive5xxErrors": 5, "interval": "2s", "baseEjectionTime": "1h"});
    let mut config = common::detecting(&[detection]);
    // A gateway's default asks for a route by header, which all hosts have here.
    if let Some(percent) = percent {
        config["services"][0]["minErrorPercent"] = percent.into();
    }
    builder(&[Value::Null])
        .filter(config)
        .node_id(node)
        .workers(2)
        .start()
        .await
}

/// A burst of eight errors at once, by clients of their own on whatever workers.
async fn burst(service: &Service<'_>) -> Result<()> {
    let error = || service.get(&[("x-status", "500")]);
    #[rustfmt::skip]
    tokio::try_join!(error(), error(), error(), error(), error(), error(), error(), error())?;
    Ok(())
}

/// Honest requests, with a burst of eight errors after each 24 of them, for some intervals: how many of the honest ones
/// were diverted.
async fn diverted(service: &Service<'_>) -> Result<usize> {
    let mut honest = service.world.client(false).await?;
    let (mut sent, mut diverted) = (0, 0);
    let begin = Instant::now();
    while begin.elapsed() < 3 * INTERVAL {
        let answer = honest.get(&service.host, &[]).await?;
        diverted += usize::from(answer.served_by() != HOME);
        sent += 1;
        if sent % 24 == 0 {
            burst(service).await?;
        }
    }
    assert!(sent > 200, "{sent} honest requests");
    Ok(diverted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_with_bursts_of_errors_diverts_nobody() -> Result<()> {
    for (node, percent) in [(ROUTER, None), (WAYPOINT, None), (SIDECAR, Some(50))] {
        let world = world(node, percent).await?;
        let service = Service::new(&world, 0);
        assert_eq!(diverted(&service).await?, 0, "{node}");
        assert!(service.stat("errors").await? > 20, "{node}");
        assert_eq!(service.stat("ejections").await?, 0, "{node}");
        // A real failure ejects all the same.
        let mut honest = world.client(false).await?;
        let fails = [("x-status", "500")];
        while honest.get(&service.host, &fails).await?.served_by() == HOME {}
        assert_eq!(service.get(&[]).await?.served_by(), PEER);
        assert_eq!(service.stat("ejections").await?, 1, "{node}");
    }
    Ok(())
}

/// Envoy's meaning, and what it costs: five errors in a row divert everybody.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_least_percentage_a_burst_diverts_everybody() -> Result<()> {
    for (node, percent) in [(SIDECAR, None), (ROUTER, Some(0))] {
        let world = world(node, percent).await?;
        let service = Service::new(&world, 0);
        assert!(diverted(&service).await? > 100, "{node}");
        assert_eq!(service.stat("ejections").await?, 1, "{node}");
    }
    Ok(())
}

/// Good answers that a worker in a long calm does not read count as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_minority_after_a_long_calm_diverts_nobody() -> Result<()> {
    let world = world(ROUTER, None).await?;
    let service = Service::new(&world, 0);
    let mut clients = common::on_each_worker(&world, 2).await?;
    let good = async |n: usize, clients: &mut Vec<Client>| {
        for _ in 0..n {
            for client in clients.iter_mut() {
                assert_eq!(client.get(&service.host, &[]).await?.served_by(), HOME);
            }
        }
        anyhow::Ok(())
    };
    good(1_010, &mut clients).await?;
    // In the window are five hundred answers, a hundred of which are read, and then two hundred errors.
    let begin = Instant::now();
    while begin.elapsed() < 2 * INTERVAL {
        good(1, &mut clients).await?;
    }
    let read = service.stat("good_answers").await?;
    good(250, &mut clients).await?;
    let counted = service.stat("good_answers").await? - read;
    assert!(
        (450..=550).contains(&counted),
        "of 500 {counted} are counted"
    );
    for client in &mut clients {
        for _ in 0..100 {
            let error = client::get(&service.host, &[("x-status", "500")])?;
            assert_eq!(client.send(error).await?.served_by(), HOME);
        }
    }
    assert_eq!(service.stat("ejections").await?, 0);
    Ok(())
}
