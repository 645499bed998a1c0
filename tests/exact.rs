//! Exact: home never has more open than the limit, only the surplus leaves, and the count is right from the first request.

use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{HOME, HOST, PEER, Upstream, plugin_config};
use envoy_test::{Client, World};
use serde_json::Value;

/// A load, and what must be true of it whatever the order in which the workers ran. `busy`: requests last long enough for
/// all clients to overlap.
async fn check(
    world: &World,
    limit: usize,
    clients: usize,
    requests: usize,
    http2: bool,
    busy: bool,
) -> Result<()> {
    let case = format!("limit {limit}, {clients} clients, http2 {http2}");
    world.home.clear();
    world.peer.clear();
    let (before, _) = spilled(world).await?;
    let load = LoadOptions::new(world.url(), clients, Until::Requests(requests)).http2(http2);
    let outcomes = closed_loop(load).await?;
    world.wait_idle().await?;

    assert_eq!((outcomes.len(), failed(&outcomes)), (requests, 0), "{case}");
    let most = world.home.max_in_flight();
    assert!(most <= limit, "{case}: {most} open at home");
    let (home, peer) = (answered_by(&outcomes, HOME), answered_by(&outcomes, PEER));
    assert_eq!(
        (world.home.count(), world.peer.count()),
        (home, peer),
        "{case}: what arrived is what was answered"
    );
    let (after, _) = spilled(world).await?;
    assert_eq!(
        after - before,
        peer as i64,
        "{case}: every spill is counted"
    );
    if clients <= limit {
        assert_eq!(peer, 0, "{case}: below the limit all stay home");
    } else if busy {
        assert_eq!(most, limit, "{case}: home is used up to its limit");
    }
    Ok(())
}

/// Spilled in all, and spilled for contention.
async fn spilled(world: &World) -> Result<(i64, i64)> {
    let contention = world.decided(PEER, "contention").await?;
    Ok((world.decided(PEER, "limit").await? + contention, contention))
}

async fn loads(workers: u32, upstream: Upstream) -> Result<()> {
    let http2 = upstream == Upstream::Http2;
    for (limit, delay_ms) in [(1, 1), (4, 5), (16, 0)] {
        let delay = Duration::from_millis(delay_ms);
        let world = World::builder()
            .filter(plugin_config(limit as u32))
            .workers(workers)
            .upstream(upstream)
            .delays(delay, delay)
            .start()
            .await?;
        for (clients, requests) in [(1, 50), (limit, 200), (3, 300), (32, 1500), (200, 3000)] {
            check(&world, limit, clients, requests, http2, delay_ms > 0).await?;
        }
        // A spill by `contention` is one that left although the filter's own count said there was room. Its share is
        // bounded over all the loads: a worker that the machine halts for a moment with a slot half given back makes one
        // or two of them, which is more than the share of a load of 180 spills.
        let (left, contended) = spilled(&world).await?;
        assert!(
            contended * 200 <= left,
            "limit {limit}, {workers} workers: {contended} of {left} left though there was room"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_home_than_the_limit_with_one_worker() -> Result<()> {
    loads(1, Upstream::Http1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_home_than_the_limit_with_two_workers() -> Result<()> {
    loads(2, Upstream::Http2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_home_than_the_limit_with_four_workers() -> Result<()> {
    loads(4, Upstream::Http1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_at_home_than_the_limit_with_eight_workers() -> Result<()> {
    loads(8, Upstream::Http2).await
}

/// All the clients' first requests race on all workers of a proxy that has served nothing: a count that begins wrong
/// stays wrong.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_requests_of_a_cold_proxy_are_counted_right() -> Result<()> {
    for workers in [2, 4, 8] {
        let world = World::builder()
            .filter(plugin_config(4))
            .workers(workers)
            .start()
            .await?;
        let mut open = Vec::new();
        for _ in 0..64 {
            open.push(Client::http1(world.addr()).await?);
        }
        let held = open.into_iter().map(|mut client| {
            tokio::spawn(async move { client.get(HOST, &[("x-hold", "race")]).await })
        });
        let held: Vec<_> = held.collect();
        world.home.wait_in_flight(4).await?;
        world.peer.wait_in_flight(60).await?;
        assert_eq!(world.in_flight().await?, 4);
        world.home.release("race");
        world.peer.release("race");
        for answer in held {
            assert_eq!(answer.await??.status, 200);
        }
        assert_eq!(world.home.max_in_flight(), 4, "{workers} workers");
        world.wait_idle().await?;
    }
    Ok(())
}

/// Which request is the surplus is known: with four held at home the fifth leaves, and the next after one has ended stays.
#[tokio::test]
async fn exactly_the_surplus_leaves_and_comes_back_at_once() -> Result<()> {
    let world = World::builder()
        .filter(plugin_config(4))
        .workers(2)
        .start()
        .await?;
    let mut held = Vec::new();
    for n in 0..4 {
        let mut client = world.client(false).await?;
        let key = format!("h{n}");
        held.push(tokio::spawn(async move {
            client.get(HOST, &[("x-hold", &key)]).await
        }));
        world.home.wait_in_flight(n + 1).await?;
    }
    for _ in 0..20 {
        assert_eq!(world.get(&[]).await?.served_by(), PEER);
    }
    world.home.release("h0");
    assert_eq!(held.remove(0).await??.served_by(), HOME);
    world.wait_count(3).await?;
    for _ in 0..20 {
        assert_eq!(world.get(&[]).await?.served_by(), HOME);
        // The slot is given back when Envoy deletes the stream, a moment after the client has its answer.
        world.wait_count(3).await?;
    }
    world.home.release_all();
    for answer in held {
        assert_eq!(answer.await??.served_by(), HOME);
    }
    world.wait_idle().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_on_a_limit_of_one_never_spills() -> Result<()> {
    for workers in [1, 2] {
        for http2 in [false, true] {
            let world = World::builder()
                .filter(plugin_config(1))
                .workers(workers)
                .start()
                .await?;
            let load = LoadOptions::new(world.url(), 1, Until::Requests(2000)).http2(http2);
            let outcomes = closed_loop(load).await?;
            assert_eq!(
                answered_by(&outcomes, HOME),
                2000,
                "{workers} workers, http2 {http2}"
            );
        }
    }
    Ok(())
}

/// The limit is the service's: it holds whatever the way of the client, and without one nothing leaves.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_nothing_leaves() -> Result<()> {
    let mut config = plugin_config(1);
    config["services"][0]["trafficPolicy"] = Value::Object(Default::default());
    let world = World::builder().filter(config).workers(2).start().await?;
    let outcomes = closed_loop(LoadOptions::new(world.url(), 50, Until::Requests(500))).await?;
    assert_eq!(answered_by(&outcomes, HOME), 500);
    world.wait_idle().await
}
