//! A peer never has more open than its limit, and what is over it goes to the next.

use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, closed_loop};
use envoy_test::world::{HOST, PEER};
use envoy_test::{Client, World};
use serde_json::{Value, json};

use crate::common::*;

/// The limits of home and of [`NAMES`], of which the last is asked last.
const LIMITS: (u32, [u32; 3]) = (2, [3, 4, 1]);

fn limited(when_full: &str) -> Value {
    let (home, limits) = LIMITS;
    let peers: Vec<Value> = NAMES
        .iter()
        .zip(limits)
        .zip([0, 0, 1])
        .map(|((name, most), priority)| {
            let fields = json!({"priority": priority, "trafficPolicy": limit(most)});
            peer(name, fields)
        })
        .collect();
    let mut config = config(home, &peers);
    config["services"][0]["whenFull"] = json!(when_full);
    config
}

/// A load of many more clients than all limits together, and what must be true of it.
async fn check(world: &World, when_full: &str, clients: usize, case: &str) -> Result<()> {
    let requests = 2000;
    clear(world);
    let rejected = world.decided("rejected", "when-full").await?;
    let beyond = world.decided("home", "when-full").await?;
    let load = LoadOptions::new(world.url(), clients, Until::Requests(requests));
    let outcomes = closed_loop(load).await?;
    wait_nothing_counted(world).await?;
    let (home_limit, limits) = LIMITS;
    for (echo, limit) in world.peers().zip(limits) {
        let most = echo.max_in_flight();
        assert!(most <= limit as usize, "{case}: {most} at {}", echo.name());
        assert_eq!(most, limit as usize, "{case}: {} is used up", echo.name());
    }
    let rejected = world.decided("rejected", "when-full").await? - rejected;
    let beyond = world.decided("home", "when-full").await? - beyond;
    let refused = outcomes.iter().filter(|o| o.status == 503).count();
    let served = outcomes.iter().filter(|o| o.is_ok()).count();
    assert_eq!(served + refused, requests, "{case}");
    assert_eq!(refused as i64, rejected, "{case}");
    let (home, peers) = received(world);
    assert_eq!(home + peers.iter().sum::<usize>(), served, "{case}");
    if when_full == "reject" {
        assert_eq!(beyond, 0, "{case}");
        assert!(rejected > 0, "{case}: all were full");
        assert!(world.home.max_in_flight() <= home_limit as usize, "{case}");
    } else {
        assert_eq!(refused, 0, "{case}");
        assert!(beyond > 0, "{case}: all were full");
    }
    Ok(())
}

async fn loads(workers: u32) -> Result<()> {
    for when_full in ["home", "reject"] {
        let delay = Duration::from_millis(5);
        let world = builder(limited(when_full))
            .workers(workers)
            .delays(delay, delay)
            .start()
            .await?;
        for clients in [16, 64] {
            let case = format!("{workers} workers, whenFull {when_full}, {clients} clients");
            check(&world, when_full, clients, &case).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_a_peer_than_its_limit_with_one_worker() -> Result<()> {
    loads(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_a_peer_than_its_limit_with_two_workers() -> Result<()> {
    loads(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_a_peer_than_its_limit_with_four_workers() -> Result<()> {
    loads(4).await
}

/// All first requests race on all workers of a proxy that has served nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_requests_of_a_cold_proxy_fill_one_peer_after_the_other() -> Result<()> {
    let peers = [
        peer(PEER, json!({"trafficPolicy": limit(8)})),
        peer("eks", json!({"priority": 1, "trafficPolicy": limit(16)})),
        peer("aks", json!({"priority": 2})),
    ];
    for workers in [1, 2, 4] {
        let world = builder(config(4, &peers)).workers(workers).start().await?;
        let mut open = Vec::new();
        for _ in 0..64 {
            open.push(Client::http1(world.addr()).await?);
        }
        let held = open.into_iter().map(|mut client| {
            tokio::spawn(async move { client.get(HOST, &[("x-hold", "race")]).await })
        });
        let held: Vec<_> = held.collect();
        at(&world, "aks")?.wait_in_flight(36).await?;
        assert_eq!(in_flight(&world), (4, vec![8, 16, 36]), "{workers} workers");
        for (name, n) in NAMES.iter().zip([8, 16, 36]) {
            assert_eq!(stat(&world, name, "peer_in_flight").await?, n);
        }
        release_all(&world);
        for answer in held {
            assert_eq!(answer.await??.status, 200);
        }
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// Home gets it only if every peer is full, and then as `whenFull` says.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_peer_takes_goes_home_or_is_rejected() -> Result<()> {
    for (when_full, then) in [
        ("home", "home; reason=when-full"),
        ("reject", "rejected; reason=when-full"),
    ] {
        let world = builder(limited(when_full)).workers(2).start().await?;
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(hold(&world, "all").await?);
        }
        assert_eq!(in_flight(&world), (2, vec![3, 4, 1]));
        clear(&world);
        let answer = world.get(&[]).await?;
        let status = if when_full == "home" { 200 } else { 503 };
        assert_eq!(answer.status, status);
        let rest = received(&world);
        assert_eq!(rest, (usize::from(when_full == "home"), vec![0; 3]));
        if when_full == "home" {
            assert_eq!(answer.header("x-peer-spillover"), then);
        }
        let (destination, reason) = then.split_once("; reason=").unwrap_or_default();
        assert_eq!(world.decided(destination, reason).await?, 1);
        release_all(&world);
        for answer in held {
            assert_eq!(answer.await??.status, 200);
        }
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}
