//! The peer is the host whose route leads there, whatever its cluster is called.

use anyhow::Result;
use envoy_test::World;
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::wait::until_some;
use envoy_test::world::{CatchAll, HOME, PEER, PeerRoute};

use crate::common::{Service, after, builder};
use crate::routed;

/// 100 requests of 8 clients at limit 1, none of which may fail. How many the peer answered.
async fn spilled(world: &World) -> Result<usize> {
    let load = LoadOptions::new(world.url(), 8, Until::Requests(100)).header("x-delay-ms", "2");
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0, "{outcomes:?}");
    Ok(answered_by(&outcomes, PEER))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_service_entry_is_found_without_a_try() -> Result<()> {
    for name in [
        "outbound|80||*.gke.global",
        "outbound|80||*.istio.gke.global",
    ] {
        let world = World::builder()
            .filter(routed("authority"))
            .peer_cluster_name(name)
            .catch_all(CatchAll::BlackHole)
            .workers(2)
            .start()
            .await?;
        assert!(spilled(&world).await? > 0, "{name}");
        assert_eq!(world.decided("home", "misroute").await?, 0, "{name}");
    }
    Ok(())
}

/// A VirtualService of the peer's host names another port, or another host: no look can find that. One request tries, and
/// then all workers know.
#[tokio::test(flavor = "multi_thread")]
async fn another_destination_is_found_by_one_request_for_all_workers() -> Result<()> {
    for name in [
        "outbound|15443||a.istio.gke.global",
        "outbound|443||gateway.example",
    ] {
        let world = World::builder()
            .filter(routed("authority"))
            .peer_cluster_name(name)
            .catch_all(CatchAll::BlackHole)
            .workers(2)
            .start()
            .await?;
        until_some("some are spilled", async || {
            (spilled(&world).await.ok()? > 0).then_some(())
        })
        .await?;
        until_some("none is a misroute any more", async || {
            let before = world.decided("home", "misroute").await.ok()?;
            spilled(&world).await.ok()?;
            (world.decided("home", "misroute").await.ok()? == before).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Where home is ejected there is little to lose: the first request tries.
#[tokio::test]
async fn another_destination_is_found_at_once_where_home_is_ejected() -> Result<()> {
    let world = builder(&[after(1)])
        .peer_cluster_name("outbound|443||gateway.example")
        .start()
        .await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    service.wait("ejected", 1).await?;
    for _ in 0..10 {
        let answer = service.get(&[]).await?;
        assert_eq!((answer.status, answer.served_by()), (200, PEER));
    }
    Ok(())
}

/// What the search for another destination costs where there is none: one request of the proxy, after some seconds.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_leads_to_the_peer_one_request_tries_for_all_workers() -> Result<()> {
    let world = World::builder()
        .filter(routed("authority"))
        .peer_route(PeerRoute::Missing)
        .catch_all(CatchAll::BlockAll)
        .workers(2)
        .start()
        .await?;
    let mut lost = 0;
    let mut rounds = 0;
    // A dozen rounds after the first that lost one.
    while rounds < 12 {
        let load = LoadOptions::new(world.url(), 8, Until::Requests(100)).header("x-delay-ms", "2");
        let outcomes = closed_loop(load).await?;
        assert_eq!(answered_by(&outcomes, HOME) + failed(&outcomes), 100);
        lost += failed(&outcomes);
        rounds += usize::from(lost > 0);
    }
    let tried = world.decided(PEER, "limit").await?;
    assert_eq!(tried, i64::try_from(lost)?);
    // Two workers may try at the same moment.
    assert!((1..=2).contains(&lost), "{lost} lost");
    Ok(())
}
