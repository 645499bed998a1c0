//! Peers that are added, removed and put in another order.

use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use envoy_test::world::{PEER, Update};
use serde_json::{Value, json};

use crate::common::*;

/// These of [`NAMES`], each with a limit and error detection. If `ranked`, each is asked before those that follow.
fn these(names: &[&str], ranked: bool) -> Vec<Value> {
    let peers = names.iter().zip(0..).map(|(name, n)| {
        let mut policy = after(2);
        policy["connectionPool"] = limit(50)["connectionPool"].clone();
        let priority = if ranked { n } else { 0 };
        peer(name, json!({"priority": priority, "trafficPolicy": policy}))
    });
    peers.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_is_lost_and_no_count_is_left() -> Result<()> {
    let delay = Duration::from_millis(5);
    let world = builder(config(2, &these(&NAMES, false)))
        .workers(4)
        .delays(delay, delay)
        .start()
        .await?;
    let load = LoadOptions::new(world.url(), 32, Until::Requests(12_000));
    let load = tokio::spawn(closed_loop(load));
    let mut updates = 0;
    for names in [
        &["aks", "gke", "eks"][..],
        &["eks"],
        &["eks", "aks"],
        &["gke"],
        &["aks", "eks", "gke"],
        &["gke", "aks"],
    ]
    .into_iter()
    .cycle()
    {
        if load.is_finished() || updates == 24 {
            break;
        }
        let update = world
            .set_filter_config(config(2, &these(names, false)))
            .await?;
        assert_eq!(update, Update::Accepted);
        updates += 1;
    }
    let outcomes = load.await??;
    assert!(updates >= 3, "{updates}");
    assert_eq!((outcomes.len(), failed(&outcomes)), (12_000, 0));
    let (home, peers) = received(&world);
    assert_eq!(home + peers.iter().sum::<usize>(), 12_000);
    assert!(peers.iter().all(|n| *n > 0), "{peers:?}");
    wait_nothing_counted(&world).await
}

/// A request that is at a peer when that leaves the configuration, or gets another place in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_a_peer_is_counted_there_whatever_the_configuration_becomes() -> Result<()> {
    let world = builder(evacuating(&these(&[PEER], true)))
        .workers(2)
        .start()
        .await?;
    let held = hold(&world, "first").await?;
    assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 1);
    for names in [&["eks", "aks", PEER][..], &["eks"], &["aks", PEER]] {
        let update = world
            .set_filter_config(evacuating(&these(names, true)))
            .await?;
        assert_eq!(update, Update::Accepted);
        world.get(&[]).await?;
        assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 1, "{names:?}");
    }
    world.peer.release("first");
    assert_eq!(held.await??.served_by(), PEER);
    wait_nothing_counted(&world).await
}

/// And it is ejected no more if it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_left_the_configuration_shows_no_limit_and_no_ejection() -> Result<()> {
    let both = [PEER, "eks"];
    let world = builder(evacuating(&these(&both, true)))
        .workers(2)
        .start()
        .await?;
    for _ in 0..2 {
        world.get(&[("x-status", "503")]).await?;
    }
    assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
    assert_eq!(stat(&world, PEER, "peer_limit").await?, 50);
    // As it was, with another peer.
    world
        .set_filter_config(evacuating(&these(&[PEER, "eks", "aks"], true)))
        .await?;
    world.wait_ticks(2).await?;
    assert_eq!(stat(&world, PEER, "peer_ejected").await?, 1);
    assert_eq!(stat(&world, PEER, "peer_limit").await?, 50);
    world
        .set_filter_config(evacuating(&these(&["eks"], true)))
        .await?;
    assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
    wait(&world, PEER, "peer_ejected", 0).await?;
    wait(&world, PEER, "peer_limit", 0).await?;
    assert_eq!(stat(&world, "eks", "peer_limit").await?, 50);
    world
        .set_filter_config(evacuating(&these(&[PEER], true)))
        .await?;
    assert_eq!(said(&world, &[]).await?, "gke; reason=evacuate");
    wait(&world, "eks", "peer_limit", 0).await?;
    // It stays, and its errors are looked at no more.
    for _ in 0..2 {
        world.get(&[("x-status", "503")]).await?;
    }
    wait(&world, PEER, "peer_ejected", 1).await?;
    let unwatched = peer(PEER, json!({"trafficPolicy": limit(7)}));
    world.set_filter_config(evacuating(&[unwatched])).await?;
    wait(&world, PEER, "peer_limit", 7).await?;
    wait(&world, PEER, "peer_ejected", 0).await?;
    assert_eq!(said(&world, &[]).await?, "gke; reason=evacuate");
    wait_nothing_counted(&world).await
}
