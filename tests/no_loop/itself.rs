//! Home as its own peer: what cannot be configured, and what a route does all the same.

use anyhow::Result;
use envoy_test::World;
use envoy_test::world::{Clusters, HOST, Member};

use crate::common::*;

/// By its name or by its host the configuration tells that it is home.
#[tokio::test]
async fn a_configuration_that_names_home_as_a_peer_is_refused() -> Result<()> {
    let mut by_name = config("one", 1, &["two"], "authority");
    by_name["services"][0]["peers"][0]["name"] = "one".into();
    let mut by_host = config("one", 1, &["two"], "authority");
    by_host["services"][0]["peers"][0]["host"] = HOST.into();
    for (config, told) in [
        (
            by_name,
            "services[0].peers[0].name: must be another cluster's name, not our own, one",
        ),
        (
            by_host,
            "services[0].peers[0].host: must be the host of the peer's ServiceEntry, not the home service's own",
        ),
    ] {
        let world = World::builder().filter(config).start().await?;
        world.envoy.wait_log(told).await?;
    }
    Ok(())
}

/// The ServiceEntry of a peer has the address of our own gateway, which no configuration of the plugin can tell. Such a request
/// comes home by way of that gateway, and no further: it is our own come back.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_peers_gateway_is_our_own_a_request_comes_home_and_stays() -> Result<()> {
    for routing in ROUTINGS {
        let one = Member::new("one", config("one", 1, &["two"], routing)).way("two", "one");
        let clusters = Clusters::start(&[one]).await?;
        let one = &clusters[0];
        let mut held = vec![hold(&clusters, one, &[]).await?];
        for n in 1..=5 {
            held.push(hold(&clusters, one, &[]).await?);
            assert_eq!(one.home.in_flight(), n + 1);
            assert_eq!(one.arrived().await?, n as i64, "{routing}: one crossing");
        }
        for received in &one.home.requests()[1..] {
            assert_eq!(markers(received), ["one"], "{routing}");
            assert_eq!(received.header(TO), None, "{routing}");
        }
        assert_eq!(decided(&one.envoy, "two", "limit").await?, 5, "{routing}");
        assert_eq!(decided(&one.envoy, "home", "returned").await?, 5);
        release(&clusters, held).await?;
    }
    Ok(())
}
