//! Peers that are renamed, get another host or another mode, or go, while something is known of them or in flight there.

use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use envoy_test::world::{HOST, PEER, Update, peer_host};
use serde_json::{Value, json};

use crate::common::*;

/// A peer of this name whose host is that of `at`, with a limit and error detection.
fn named(name: &str, at: &str, more: Value) -> Value {
    let mut policy = after(2);
    policy["connectionPool"] = limit(50)["connectionPool"].clone();
    let mut fields = json!({"host": peer_host(HOST, at), "trafficPolicy": policy});
    for (field, value) in more.as_object().into_iter().flatten() {
        fields[field] = value.clone();
    }
    peer(name, fields)
}

fn drained(name: &str) -> Value {
    named(name, name, json!({"mode": "drain"}))
}

/// What [`PEER`] becomes: the peers, and the name of the one that gets the next request.
fn becomes() -> [(&'static str, Vec<Value>, &'static str); 5] {
    let other = || named("eks", "eks", json!({"priority": 1}));
    let first = |name, at| named(name, at, json!({}));
    [
        ("it is drained", vec![drained(PEER), other()], "eks"),
        ("it is renamed", vec![first("new", PEER), other()], "new"),
        (
            "its host is another's",
            vec![first(PEER, "aks"), other()],
            PEER,
        ),
        ("it is gone", vec![other()], "eks"),
        (
            "the two change hosts",
            vec![
                first("eks", PEER),
                named(PEER, "eks", json!({"priority": 1})),
            ],
            "eks",
        ),
    ]
}

fn before() -> Vec<Value> {
    vec![
        named(PEER, PEER, json!({})),
        named("eks", "eks", json!({"priority": 1})),
    ]
}

/// What is in flight at a peer is counted under the name that it had, and not under another.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_at_a_peer_is_counted_there_whatever_it_becomes() -> Result<()> {
    for (what, peers, next) in becomes() {
        let world = builder(evacuating(&before())).workers(2).start().await?;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(hold(&world, "first").await?);
        }
        assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 3, "{what}");
        let update = world.set_filter_config(evacuating(&peers)).await?;
        assert_eq!(update, Update::Accepted, "{what}");
        for _ in 0..8 {
            assert_eq!(world.get(&[]).await?.status, 200, "{what}");
        }
        assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 3, "{what}");
        for name in ["new", "eks"] {
            assert_eq!(stat(&world, name, "peer_in_flight").await?, 0, "{what}");
        }
        // One more, under the name that its peer has now, and another under that of before.
        held.push(hold(&world, "second").await?);
        let there = |name| if name == next { 1 } else { 0 };
        for (name, n) in [(PEER, 3), ("new", 0), ("eks", 0)] {
            let counted = stat(&world, name, "peer_in_flight").await?;
            assert_eq!(counted, n + there(name), "{what}: {name}");
        }
        world.set_filter_config(evacuating(&before())).await?;
        held.push(hold(&world, "third").await?);
        for (name, n) in [(PEER, 4), ("new", 0), ("eks", 0)] {
            let counted = stat(&world, name, "peer_in_flight").await?;
            assert_eq!(counted, n + there(name), "{what}, and back: {name}");
        }
        release_all(&world);
        for answer in held {
            assert_eq!(answer.await??.status, 200, "{what}");
        }
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_a_peer_that_becomes_another_loses_nothing_and_leaves_no_count() -> Result<()> {
    let delay = Duration::from_millis(5);
    let configs = becomes().map(|(_, peers, _)| config(2, &peers));
    let world = builder(config(2, &before()))
        .workers(4)
        .delays(delay, delay)
        .start()
        .await?;
    let load = LoadOptions::new(world.url(), 32, Until::Requests(12_000));
    let load = tokio::spawn(closed_loop(load));
    let mut updates = 0;
    for config in configs.iter().cycle() {
        if load.is_finished() || updates == 25 {
            break;
        }
        let update = world.set_filter_config(config.clone()).await?;
        assert_eq!(update, Update::Accepted);
        updates += 1;
    }
    let outcomes = load.await??;
    assert!(updates >= 3, "{updates}");
    assert_eq!((outcomes.len(), failed(&outcomes)), (12_000, 0));
    let (home, peers) = received(&world);
    assert_eq!(home + peers.iter().sum::<usize>(), 12_000);
    wait_nothing_counted(&world).await
}

/// What was not sent any more when it was drained could not be probed, so it would be ejected for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_ejected_peer_that_is_drained_or_gone_is_ejected_no_more() -> Result<()> {
    for (what, peers, _) in becomes() {
        if !["it is drained", "it is gone"].contains(&what) {
            continue;
        }
        let world = builder(evacuating(&before())).workers(2).start().await?;
        // As many are on their way, and end after the change.
        let mut late = Vec::new();
        for _ in 0..2 {
            let mut client = world.client(false).await?;
            let error = [("x-hold", "late"), ("x-status", "503")];
            late.push(tokio::spawn(async move { client.get(HOST, &error).await }));
        }
        world.peer.wait_in_flight(2).await?;
        for _ in 0..2 {
            world.get(&[("x-status", "503")]).await?;
        }
        assert_eq!(stat(&world, PEER, "peer_ejected").await?, 1, "{what}");
        world.set_filter_config(evacuating(&peers)).await?;
        wait(&world, PEER, "peer_ejected", 0).await?;
        assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
        release_all(&world);
        for late in late {
            assert_eq!(late.await??.status, 503, "{what}");
        }
        wait(&world, PEER, "peer_ejected", 0).await?;
        // If it is open again, it is a peer like any other, and its errors eject it.
        world.set_filter_config(evacuating(&before())).await?;
        assert_eq!(said(&world, &[]).await?, "gke; reason=evacuate", "{what}");
        for _ in 0..2 {
            world.get(&[("x-status", "503")]).await?;
        }
        assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate", "{what}");
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// It stays, if only the others change.
#[tokio::test(flavor = "multi_thread")]
async fn misroutes_of_one_of_several_peers_end_when_it_leaves_or_is_drained_or_moved() -> Result<()>
{
    let nowhere = |more| named("nowhere", "nowhere", more);
    let other = || named("eks", "eks", json!({"priority": 1}));
    for (what, peers) in [
        (
            "gone",
            vec![other(), named("aks", "aks", json!({"priority": 2}))],
        ),
        ("the other is the only one", vec![other()]),
        ("drained", vec![nowhere(json!({"mode": "drain"})), other()]),
        ("moved", vec![named("nowhere", PEER, json!({})), other()]),
    ] {
        let world = builder(evacuating(&[nowhere(json!({})), other()]))
            .workers(2)
            .start()
            .await?;
        for _ in 0..8 {
            assert_eq!(world.get(&[]).await?.served_by(), "eks", "{what}");
        }
        assert_eq!(
            stat(&world, "nowhere", "peer_misrouted").await?,
            1,
            "{what}"
        );
        assert_eq!(stat(&world, "eks", "peer_misrouted").await?, 0, "{what}");
        let with = [
            nowhere(json!({})),
            other(),
            named("aks", "aks", json!({"priority": 2})),
        ];
        world.set_filter_config(evacuating(&with)).await?;
        world.wait_ticks(6).await?;
        assert_eq!(
            stat(&world, "nowhere", "peer_misrouted").await?,
            1,
            "{what}"
        );
        world.set_filter_config(evacuating(&peers)).await?;
        wait(&world, "nowhere", "peer_misrouted", 0).await?;
        let to = if what == "moved" { "nowhere" } else { "eks" };
        assert_eq!(said(&world, &[]).await?, format!("{to}; reason=evacuate"));
        world.wait_ticks(6).await?;
        assert_eq!(
            stat(&world, "nowhere", "peer_misrouted").await?,
            0,
            "{what}"
        );
    }
    Ok(())
}
