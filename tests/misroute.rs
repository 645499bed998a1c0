//! The misroute guard: a peer that nothing leads to costs no request, or few, and one request's fate is its own.

use std::time::{Duration, Instant};

use anyhow::Result;
use envoy_test::World;
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{CatchAll, HOME, HOST, PEER, PeerRoute, metric, plugin_config};
use serde_json::Value;

#[path = "errors/common.rs"]
mod common;
#[path = "misroute/empty.rs"]
mod empty;
#[path = "misroute/fate.rs"]
mod fate;
#[path = "misroute/names.rs"]
mod names;

fn routed(routing: &str) -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["routing"] = routing.into();
    config
}

fn misroutes() -> String {
    let plugin = envoy_test::world::PLUGIN;
    metric(
        &[
            ("plugin", plugin),
            ("role", "client"),
            ("service", HOST),
            ("peer", PEER),
        ],
        "misroutes",
    )
}

/// What 300 requests of 8 clients at limit 1 lost, under a peer route that leads nowhere.
struct Lost {
    requests: usize,
    /// How long they took.
    time: Duration,
}

impl Lost {
    /// The most that two workers may have lost where the peer's cluster exists without a route, as docs/limits.md says.
    fn allowed(&self) -> usize {
        let again = [1, 3, 7, 15, 25].map(Duration::from_secs);
        2 * (3 + again.iter().filter(|at| self.time >= **at).count())
    }
}

async fn lost(world: &World) -> Result<Lost> {
    let begin = Instant::now();
    let load = LoadOptions::new(world.url(), 8, Until::Requests(300)).header("x-delay-ms", "2");
    let outcomes = closed_loop(load).await?;
    let time = begin.elapsed();
    world.wait_idle().await?;
    assert_eq!(answered_by(&outcomes, PEER), 0);
    assert_eq!(answered_by(&outcomes, HOME) + failed(&outcomes), 300);
    assert!(
        world.envoy.stat(&misroutes()).await?.unwrap_or(0) > 0,
        "misroutes are counted"
    );
    let log = world.envoy.log();
    assert_eq!(
        log.matches("nothing leads to peer gke at a.istio.gke.global")
            .count(),
        1,
        "logged once"
    );
    Ok(Lost {
        requests: failed(&outcomes),
        time,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_service_entry_costs_no_request() -> Result<()> {
    for catch_all in [
        CatchAll::Passthrough,
        CatchAll::BlackHole,
        CatchAll::BlockAll,
        CatchAll::Absent,
    ] {
        let world = World::builder()
            .filter(routed("authority"))
            .peer_route(PeerRoute::Missing)
            .catch_all(catch_all)
            .workers(2)
            .start()
            .await?;
        let lost = lost(&world).await?;
        // On a machine that takes longer than five seconds for them, one has tried whether there is a way all the same.
        if lost.time < Duration::from_secs(5) {
            assert_eq!(lost.requests, 0, "{catch_all:?}");
        }
        // What is undone goes home beyond the limit, under a name of its own, and is in flight there.
        assert!(world.decided("home", "misroute").await? > 0);
        let tried = usize::try_from(world.decided(PEER, "limit").await?)?;
        assert_eq!(tried, lost.requests, "{catch_all:?}");
        // The requests arrive as they were sent.
        let received = world.home.requests();
        assert!(
            received
                .iter()
                .all(|r| r.host == HOST && r.header("x-peer-spillover-from").is_none())
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_misrouted_request_is_in_flight_at_home() -> Result<()> {
    let world = World::builder()
        .filter(routed("authority"))
        .peer_route(PeerRoute::Missing)
        .start()
        .await?;
    let mut held = Vec::new();
    for n in 1..=3 {
        let mut client = world.client(false).await?;
        held.push(tokio::spawn(async move {
            client.get(HOST, &[("x-hold", "all")]).await
        }));
        world.home.wait_in_flight(n).await?;
    }
    assert_eq!(world.in_flight().await?, 3);
    world.home.release_all();
    for answer in held {
        answer.await??;
    }
    world.wait_idle().await
}

/// By header the request falls to home's own route: nothing is lost, whatever is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_service_without_the_match_costs_no_request() -> Result<()> {
    for peer_route in [PeerRoute::Missing, PeerRoute::Unrouted] {
        let world = World::builder()
            .filter(routed("header"))
            .peer_route(peer_route)
            .workers(2)
            .start()
            .await?;
        assert_eq!(lost(&world).await?.requests, 0, "{peer_route:?}");
        assert!(world.decided("home", "misroute").await? > 0);
    }
    Ok(())
}

/// What the guard cannot do: where the peer's cluster exists and its route leads nowhere, Envoy tells the filter only with
/// its own error answer. Two or three requests on each worker find out, and few try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_route_costs_a_worker_a_few_requests() -> Result<()> {
    for (peer_route, catch_all) in [
        (PeerRoute::Unrouted, CatchAll::Passthrough),
        (PeerRoute::Unrouted, CatchAll::BlackHole),
        (PeerRoute::Unrouted, CatchAll::BlockAll),
        (PeerRoute::Unrouted, CatchAll::Absent),
        (PeerRoute::BlackHole, CatchAll::Absent),
    ] {
        let world = World::builder()
            .filter(routed("authority"))
            .peer_route(peer_route)
            .catch_all(catch_all)
            .workers(2)
            .start()
            .await?;
        let lost = lost(&world).await?;
        assert!(
            (2..=lost.allowed()).contains(&lost.requests),
            "{peer_route:?}, {catch_all:?}: {} lost in {:?}",
            lost.requests,
            lost.time
        );
    }
    Ok(())
}

/// The route answers: whoever wrote it wanted that.
#[tokio::test]
async fn a_direct_response_of_the_peers_route_is_no_misroute() -> Result<()> {
    let world = World::builder()
        .filter(routed("authority"))
        .peer_route(PeerRoute::DirectResponse)
        .start()
        .await?;
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "one")]).await });
    world.home.wait_in_flight(1).await?;
    for _ in 0..20 {
        assert_eq!(world.get(&[]).await?.status, 418);
    }
    assert_eq!(world.envoy.stat(&misroutes()).await?.unwrap_or(0), 0);
    world.home.release_all();
    held.await??;
    Ok(())
}

/// The look for the peer's cluster is none of the peer's business: no request arrives there, and Envoy's outlier detection
/// holds nothing against it.
#[tokio::test]
async fn the_look_for_a_cluster_is_not_seen_by_the_peer() -> Result<()> {
    let world = World::builder().filter(routed("authority")).start().await?;
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "one")]).await });
    world.home.wait_in_flight(1).await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    assert_eq!(world.peer.count(), 1);
    world.home.release_all();
    held.await??;
    Ok(())
}
