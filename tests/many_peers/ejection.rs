//! Errors of a peer eject that peer, and no other destination.

use anyhow::{Result, bail};
use envoy_test::client::{self, Answer};
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use envoy_test::world::{HOST, PEER, service_metric};
use envoy_test::{World, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::*;

/// [`PEER`] is asked first, the others after it, and so many errors eject each.
fn failing(errors: u32) -> Vec<Value> {
    let peers = NAMES.iter().zip(0..);
    peers
        .map(|(name, priority)| {
            let fields = json!({"priority": priority, "trafficPolicy": after(errors)});
            peer(name, fields)
        })
        .collect()
}

/// The same, but [`PEER`] is ejected for a moment after one error, with a ramp of this length, and the others never.
fn soon(interval: &str) -> Vec<Value> {
    let mut peers = failing(0);
    peers[0]["trafficPolicy"]["outlierDetection"] = json!({
        "consecutive5xxErrors": 1, "interval": interval, "baseEjectionTime": "200ms"
    });
    peers
}

async fn home_stat(world: &World, name: &str) -> Result<i64> {
    let stat = world.envoy.stat(&service_metric(HOST, name)).await?;
    Ok(stat.unwrap_or(0))
}

/// With nothing said about how the errors look, the first request after the last of them is another peer's.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_ejected_after_its_threshold_and_the_next_request_goes_to_another() -> Result<()>
{
    for errors in [
        ("x-status", "503"),
        ("x-status", "500"),
        ("x-reset", "before"),
    ] {
        let world = builder(evacuating(&failing(3))).workers(2).start().await?;
        for n in 0..3 {
            assert_eq!(stat(&world, PEER, "peer_ejected").await?, 0, "{n}");
            assert_eq!(said(&world, &[errors]).await?, "gke; reason=evacuate");
        }
        assert_eq!(stat(&world, PEER, "peer_errors").await?, 3);
        assert_eq!(stat(&world, PEER, "peer_ejected").await?, 1);
        assert_eq!(stat(&world, PEER, "peer_ejections").await?, 1);
        for _ in 0..50 {
            assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
        }
        assert_eq!(declined(&world, PEER, "ejected").await?, 50);
        assert_eq!(received(&world), (0, vec![3, 50, 0]));
        let told = world.envoy.wait_log("peer gke is ejected for").await?;
        assert!(told.contains(HOST), "{told}");
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// Good answers between errors part them.
#[tokio::test(flavor = "multi_thread")]
async fn errors_that_are_not_in_a_row_eject_no_peer() -> Result<()> {
    let world = builder(evacuating(&failing(3))).workers(2).start().await?;
    for _ in 0..10 {
        for status in ["503", "503", "200"] {
            assert_eq!(
                said(&world, &[("x-status", status)]).await?,
                "gke; reason=evacuate"
            );
        }
    }
    assert_eq!(stat(&world, PEER, "peer_errors").await?, 20);
    assert_eq!(stat(&world, PEER, "peer_ejections").await?, 0);
    Ok(())
}

/// A service that is gone behind the gateway, and then all gateways.
#[tokio::test(flavor = "multi_thread")]
async fn if_all_peers_are_dead_when_full_decides() -> Result<()> {
    for (when_full, destination) in [("home", "home"), ("reject", "rejected")] {
        let mut config = evacuating(&failing(2));
        config["services"][0]["whenFull"] = json!(when_full);
        let mut world = builder(config).workers(2).start().await?;
        world.peer.close().await?;
        for _ in 0..2 {
            assert_eq!(world.get(&[]).await?.status, 503);
        }
        assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
        world.gateway.kill()?;
        for name in ["eks", "eks", "aks", "aks"] {
            assert_eq!(said(&world, &[]).await?, format!("{name}; reason=evacuate"));
        }
        for name in NAMES {
            assert_eq!(stat(&world, name, "peer_ejected").await?, 1, "{name}");
        }
        world.home.clear();
        for _ in 0..10 {
            let status = if when_full == "home" { 200 } else { 503 };
            assert_eq!(world.get(&[]).await?.status, status);
        }
        assert_eq!(world.decided(destination, "when-full").await?, 10);
        let home = if when_full == "home" { 10 } else { 0 };
        assert_eq!(world.home.count(), home);
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// Sends requests until one is the probe of [`PEER`] and is held there.
async fn hold_probe(world: &World, status: &str) -> Result<JoinHandle<Result<Answer>>> {
    let headers = [("x-hold", "probe"), ("x-status", status)];
    at(world, "eks")?.release_all();
    for _ in 0..10_000 {
        let before = world.peer.count();
        let mut client = world.client(false).await?;
        let answer = client.start(client::get(HOST, &headers)?);
        let task = tokio::spawn(async move {
            let _client = client;
            client::read(answer.await?).await
        });
        until("an answer of another peer, or a probe", || {
            task.is_finished() || world.peer.count() > before
        })
        .await?;
        if world.peer.count() > before {
            return Ok(task);
        }
        task.await??;
    }
    bail!("there was no probe")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_at_a_time_probes_a_peer() -> Result<()> {
    let world = builder(evacuating(&soon("1ms"))).workers(2).start().await?;
    world.get(&[("x-status", "503")]).await?;
    assert_eq!(stat(&world, PEER, "peer_ejections").await?, 1);
    for (round, status) in ["503", "200"].into_iter().enumerate() {
        world.peer.clear();
        let probe = hold_probe(&world, status).await?;
        for _ in 0..4 {
            let load = LoadOptions::new(world.url(), 8, Until::Requests(100));
            assert_eq!(failed(&closed_loop(load).await?), 0);
        }
        assert_eq!((world.peer.count(), world.peer.in_flight()), (1, 1));
        assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 1);
        assert_eq!(stat(&world, PEER, "peer_ejected").await?, 1);
        world.peer.release("probe");
        assert_eq!(probe.await??.status.to_string(), status);
        assert_eq!(stat(&world, PEER, "peer_ejections").await?, 2, "{round}");
    }
    wait(&world, PEER, "peer_ejected", 0).await?;
    assert_eq!(said(&world, &[]).await?, "gke; reason=evacuate");
    assert_eq!(world.home.count(), 0);
    wait_nothing_counted(&world).await
}

/// An hour's ramp has only just begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_takes_its_load_back_step_by_step() -> Result<()> {
    let world = builder(evacuating(&soon("1h"))).workers(2).start().await?;
    world.get(&[("x-status", "503")]).await?;
    let probe = hold_probe(&world, "200").await?;
    world.peer.release("probe");
    assert_eq!(probe.await??.status, 200);
    wait(&world, PEER, "peer_ejected", 2).await?;
    clear(&world);
    let load = LoadOptions::new(world.url(), 8, Until::Requests(1000));
    assert_eq!(failed(&closed_loop(load).await?), 0);
    let (home, peers) = received(&world);
    assert_eq!((home, peers[2]), (0, 0));
    assert!(peers[0] < 100, "{peers:?}");
    let at_once = world.set_filter_config(evacuating(&soon("1ms"))).await?;
    assert_eq!(at_once, envoy_test::world::Update::Accepted);
    wait(&world, PEER, "peer_ejected", 0).await?;
    assert_eq!(said(&world, &[]).await?, "gke; reason=evacuate");
    wait_nothing_counted(&world).await
}

const RETRIED_AT_HOME: &str = "timeout: 0s
retry_policy:
  retry_on: gateway-error
  num_retries: 1
  retry_priority:
    name: envoy.retry_priorities.previous_priorities
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig
      update_frequency: 1";

/// Home's answer is good, and says nothing of the peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_came_home_is_an_error_of_the_peer_that_it_was_sent_to() -> Result<()> {
    let world = builder(evacuating(&failing(3)))
        .way_back()
        .peer_route_yaml(RETRIED_AT_HOME)
        .workers(2)
        .start()
        .await?;
    world.peer.close().await?;
    for _ in 0..3 {
        let answer = world.get(&[]).await?;
        assert_eq!(answer.status, 200);
        let returned = "gke; reason=evacuate; returned";
        assert_eq!(answer.header("x-peer-spillover"), returned);
    }
    assert_eq!(stat(&world, PEER, "peer_errors").await?, 3);
    assert_eq!(stat(&world, PEER, "peer_ejected").await?, 1);
    assert_eq!(stat(&world, PEER, "peer_good_answers").await?, 0);
    for _ in 0..20 {
        assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
    }
    assert_eq!(received(&world), (3, vec![0, 20, 0]));
    wait_nothing_counted(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_peer_eject_no_other_destination_and_those_of_home_no_peer() -> Result<()> {
    let mut config = config(1, &failing(2));
    config["services"][0]["trafficPolicy"]["outlierDetection"] =
        json!({"consecutive5xxErrors": 2, "interval": "1h", "baseEjectionTime": "10h"});
    let world = builder(config).workers(2).start().await?;
    let held = hold(&world, "home").await?;
    for name in [PEER, PEER, "eks"] {
        let said = said(&world, &[("x-status", "503")]).await?;
        assert_eq!(said, format!("{name}; reason=limit"));
    }
    for (name, ejected, errors) in [(PEER, 1, 2), ("eks", 0, 1), ("aks", 0, 0)] {
        assert_eq!(stat(&world, name, "peer_ejected").await?, ejected, "{name}");
        assert_eq!(stat(&world, name, "peer_errors").await?, errors, "{name}");
    }
    assert_eq!(home_stat(&world, "errors").await?, 0);
    assert_eq!(home_stat(&world, "ejected").await?, 0);
    release_all(&world);
    assert_eq!(held.await??.status, 200);
    world.wait_count(0).await?;
    for _ in 0..2 {
        let answer = world.get(&[("x-status", "500")]).await?;
        assert_eq!(answer.header("x-peer-spillover"), "home; reason=room");
        world.wait_count(0).await?;
    }
    assert_eq!(home_stat(&world, "errors").await?, 2);
    assert_eq!(home_stat(&world, "ejected").await?, 1);
    assert_eq!(said(&world, &[]).await?, "eks; reason=ejected");
    for (name, ejected, errors) in [(PEER, 1, 2), ("eks", 0, 1), ("aks", 0, 0)] {
        assert_eq!(stat(&world, name, "peer_ejected").await?, ejected, "{name}");
        assert_eq!(stat(&world, name, "peer_errors").await?, errors, "{name}");
    }
    wait_nothing_counted(&world).await
}
