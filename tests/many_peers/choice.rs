//! Which of the peers gets a request.

use anyhow::Result;
use envoy_test::World;
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{HOME, PEER};
use serde_json::json;

use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_goes_to_the_peer_of_the_lowest_priority_value_that_has_room() -> Result<()> {
    let peers = [
        peer(PEER, json!({"priority": 1})),
        peer("eks", json!({"trafficPolicy": limit(2)})),
        peer("aks", json!({"priority": 2})),
    ];
    let world = builder(config(1, &peers)).workers(2).start().await?;
    let mut held = vec![hold(&world, "home").await?];
    assert_eq!(in_flight(&world), (1, vec![0, 0, 0]));
    for n in 1..=2 {
        held.push(hold(&world, &format!("eks{n}")).await?);
        assert_eq!(in_flight(&world), (1, vec![0, n, 0]));
    }
    for _ in 0..20 {
        assert_eq!(said(&world, &[]).await?, "gke; reason=limit");
    }
    assert_eq!(declined(&world, "eks", "full").await?, 20);
    assert_eq!(stat(&world, "eks", "peer_in_flight").await?, 2);
    at(&world, "eks")?.release("eks1");
    wait(&world, "eks", "peer_in_flight", 1).await?;
    assert_eq!(said(&world, &[]).await?, "eks; reason=limit");
    wait(&world, "eks", "peer_in_flight", 1).await?;
    assert_eq!(received(&world), (1, vec![20, 3, 0]));
    assert_eq!(stat(&world, "eks", "peer_limit").await?, 2);
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}

/// Over ten thousand requests, from four workers, each of which draws by itself.
#[tokio::test(flavor = "multi_thread")]
async fn peers_of_one_priority_share_the_surplus_by_weight() -> Result<()> {
    let weights = [1, 3, 6];
    let mut peers: Vec<_> = NAMES
        .iter()
        .zip(weights)
        .map(|(name, weight)| peer(name, json!({"weight": weight})))
        .collect();
    peers.push(peer("last", json!({"weight": 1000, "priority": 1})));
    let others = ["eks", "aks", "last"];
    let world = World::builder()
        .filter(evacuating(&peers))
        .more_peers(others)
        .workers(4)
        .start()
        .await?;
    let requests = 10_000;
    let load = LoadOptions::new(world.url(), 16, Until::Requests(requests));
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0);
    for (name, weight) in NAMES.iter().zip(weights) {
        let share = 100.0 * answered_by(&outcomes, name) as f64 / requests as f64;
        let due = f64::from(weight) * 10.0;
        assert!((share - due).abs() <= 2.0, "{name}: {share} % of {due} %");
        assert_eq!(at(&world, name)?.count(), answered_by(&outcomes, name));
    }
    assert_eq!((world.home.count(), at(&world, "last")?.count()), (0, 0));
    wait_nothing_counted(&world).await
}

/// The part of a peer that is full goes to the others by their weights.
#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_a_full_peer_goes_to_the_others_by_weight() -> Result<()> {
    let peers = [
        peer(PEER, json!({"weight": 7, "trafficPolicy": limit(1)})),
        peer("eks", json!({"weight": 1})),
        peer("aks", json!({"weight": 2})),
    ];
    let world = builder(evacuating(&peers)).workers(2).start().await?;
    let mut held = Vec::new();
    while world.peer.in_flight() == 0 {
        held.push(hold(&world, "full").await?);
    }
    for name in ["eks", "aks"] {
        at(&world, name)?.release_all();
    }
    let requests = 5000;
    let load = LoadOptions::new(world.url(), 8, Until::Requests(requests));
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0);
    assert_eq!(answered_by(&outcomes, PEER), 0);
    let share = 100.0 * answered_by(&outcomes, "eks") as f64 / requests as f64;
    assert!((share - 100.0 / 3.0).abs() <= 3.0, "{share} %");
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_sixteen_peers_gets_what_it_has_room_for() -> Result<()> {
    let names: Vec<String> = (1..16).map(|n| format!("p{n}")).collect();
    let all = [PEER].into_iter().chain(names.iter().map(String::as_str));
    let peers: Vec<_> = all
        .zip(0..)
        .map(|(name, n)| peer(name, json!({"priority": n / 4, "trafficPolicy": limit(1)})))
        .collect();
    let world = World::builder()
        .filter(config(1, &peers))
        .more_peers(names)
        .workers(2)
        .start()
        .await?;
    let mut held = vec![hold(&world, "all").await?];
    assert_eq!(world.home.in_flight(), 1);
    for n in 0..16 {
        held.push(hold(&world, "all").await?);
        let (home, peers) = in_flight(&world);
        assert_eq!(home, 1);
        let groups: Vec<usize> = peers.chunks(4).map(|group| group.iter().sum()).collect();
        let due: Vec<usize> = (0..4)
            .map(|group| (n + 1_usize).saturating_sub(4 * group).min(4))
            .collect();
        assert_eq!(
            groups, due,
            "those of a lower priority value are full first"
        );
        assert!(peers.iter().all(|n| *n <= 1), "{peers:?}");
    }
    assert_eq!(said(&world, &[]).await?, "home; reason=when-full");
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_peer_gets_nothing() -> Result<()> {
    let peers = [
        peer(PEER, json!({"mode": "drain", "weight": 1000})),
        peer("eks", json!({"priority": 1})),
        peer("aks", json!({"mode": "drain", "priority": 2})),
    ];
    let world = builder(evacuating(&peers)).start().await?;
    for _ in 0..200 {
        assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
    }
    assert_eq!(received(&world), (0, vec![0, 200, 0]));
    let drained: Vec<_> = NAMES
        .iter()
        .map(|name| peer(name, json!({"mode": "drain"})))
        .collect();
    world.set_filter_config(evacuating(&drained)).await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    assert_eq!(said(&world, &[]).await?, "home; reason=when-full");
    wait_nothing_counted(&world).await
}

/// The peers whose route is missing, and one that is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_passes_by_a_peer_to_which_nothing_leads() -> Result<()> {
    let peers = [
        peer("nowhere", json!({})),
        peer("eks", json!({"priority": 1})),
    ];
    let world = builder(evacuating(&peers)).start().await?;
    for _ in 0..50 {
        world.get(&[]).await?;
    }
    let (home, peers) = received(&world);
    assert_eq!(peers[0] + peers[2], 0);
    assert!(peers[1] >= 45, "{home} at home, {peers:?}");
    assert!(declined(&world, "nowhere", "misroute").await? >= 45);
    assert_ne!(stat(&world, "nowhere", "peer_misrouted").await?, 0);
    assert_eq!(said(&world, &[]).await?, "eks; reason=evacuate");
    wait_nothing_counted(&world).await
}
