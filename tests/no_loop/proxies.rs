//! Several filters on the way of one request: in one proxy, and in two proxies one after the other.

use anyhow::Result;
use envoy_test::World;
use envoy_test::world::{Clusters, HOME, HOST, Member, PEER, PLUGIN, metric};
use serde_json::json;

use crate::common::*;

const OTHER: &str = "istio-system.other";

/// A metric of one of the two plugins of home's proxy.
async fn stat(world: &World, plugin: &str, more: &[(&str, &str)], name: &str) -> Result<i64> {
    let service = [("plugin", plugin), ("role", "client"), ("service", HOST)];
    let name = metric(&[&service, more].concat(), name);
    Ok(world.envoy.stat(&name).await?.unwrap_or(0))
}

/// Home's proxy with two plugins for one service, with these limits. The first spills to [`PEER`], the second to `eks`.
async fn both(limits: [u32; 2], routing: &str) -> Result<World> {
    let mut first = config(HOME, limits[0], &[PEER], routing);
    first["services"][0]["trafficPolicy"]["outlierDetection"] =
        json!({"consecutive5xxErrors": 1, "baseEjectionTime": "10h"});
    let second = config(HOME, limits[1], &["eks"], routing);
    World::builder()
        .filter(first)
        .another_filter(OTHER, second)
        .more_peers(["eks"])
        .workers(2)
        .start()
        .await
}

/// Whichever of the two finds home full sends the request away, and the other one leaves it alone.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_plugins_in_one_proxy_one_alone_spills_a_request() -> Result<()> {
    for routing in ROUTINGS {
        for (limits, to, spilled) in [
            ([1, 1], PEER, [1, 0]),
            ([1, 2], PEER, [1, 0]),
            ([2, 1], "eks", [0, 1]),
        ] {
            let case = format!("{routing} {limits:?}");
            let world = both(limits, routing).await?;
            let mut client = world.client(false).await?;
            let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
            world.home.wait_in_flight(1).await?;
            for plugin in [PLUGIN, OTHER] {
                assert_eq!(stat(&world, plugin, &[], "in_flight").await?, 1, "{case}");
            }
            for _ in 0..5 {
                let answer = world.get(&[]).await?;
                assert_eq!(answer.status, 200, "{case}");
                assert_eq!(answer.served_by(), to, "{case}");
                let said = format!("{to}; reason=limit");
                assert_eq!(answer.header("x-peer-spillover"), said, "{case}");
            }
            let (there, not_there) = match to {
                PEER => (&world.peer, &world.more_peers[0]),
                _ => (&world.more_peers[0], &world.peer),
            };
            assert_eq!((there.count(), not_there.count()), (5, 0), "{case}");
            assert_eq!(world.home.count(), 1, "{case}");
            for received in there.requests() {
                assert_eq!(markers(&received), [HOME], "{case}");
            }
            for ((plugin, peer), spilled) in
                [(PLUGIN, PEER), (OTHER, "eks")].into_iter().zip(spilled)
            {
                let labels = [("destination", peer), ("reason", "limit")];
                let decided = stat(&world, plugin, &labels, "decisions").await?;
                assert_eq!(decided, 5 * spilled, "{case}: {plugin}");
            }
            world.home.release("h");
            held.await??;
            nothing_counted(&world.envoy).await?;
        }
    }
    Ok(())
}

/// What the second one has sent away is answered by a peer, which the first one does not take for home.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_what_the_second_plugin_spilled_are_not_homes_to_the_first() -> Result<()> {
    let world = both([2, 1], "authority").await?;
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
    world.home.wait_in_flight(1).await?;
    for error in [
        ("x-status", "503"),
        ("x-reset", "before"),
        ("x-reset", "mid"),
    ] {
        let mut client = world.client(false).await?;
        // Of an answer that breaks off there is no whole one.
        let _ = client.get(HOST, &[error]).await;
    }
    assert_eq!(world.more_peers[0].count(), 3);
    assert_eq!(stat(&world, PLUGIN, &[], "errors").await?, 0);
    assert_eq!(stat(&world, PLUGIN, &[], "ejected").await?, 0);
    world.home.release("h");
    held.await??;
    nothing_counted(&world.envoy).await?;
    // Home's own are.
    assert_eq!(world.get(&[("x-status", "503")]).await?.served_by(), HOME);
    assert_eq!(stat(&world, PLUGIN, &[], "errors").await?, 1);
    assert_eq!(stat(&world, PLUGIN, &[], "ejected").await?, 1);
    Ok(())
}

/// Nor does a good answer of a peer end the ejection of home.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_the_second_plugin_spilled_says_nothing_of_home() -> Result<()> {
    let mut first = config(HOME, 100, &[PEER], "authority");
    first["services"][0]["trafficPolicy"]["outlierDetection"] =
        json!({"consecutive5xxErrors": 1, "interval": "1h", "baseEjectionTime": "1ms"});
    let second = |mode: &str| {
        let mut second = config(HOME, 100, &["eks"], "authority");
        second["services"][0]["mode"] = mode.into();
        second
    };
    let world = World::builder()
        .filter(first)
        .another_filter(OTHER, second("enforce"))
        .more_peers(["eks"])
        .start()
        .await?;
    world.get(&[("x-status", "503")]).await?;
    assert_eq!(stat(&world, PLUGIN, &[], "ejected").await?, 1);
    let module = xtask::filter::ensure()?;
    world.set_filter(1, &module, second("evacuate")).await?;
    let probes = [("destination", "home"), ("reason", "probe")];
    let mut sent = 0;
    while stat(&world, PLUGIN, &probes, "decisions").await? < 3 {
        world.get(&[]).await?;
        sent += 1;
        assert!(sent < 10_000, "there were no probes");
    }
    assert!(world.more_peers[0].count() >= 3);
    assert_eq!(world.home.count(), 1);
    assert_eq!(stat(&world, PLUGIN, &[], "ejected").await?, 1);
    world.set_filter(1, &module, second("enforce")).await?;
    while stat(&world, PLUGIN, &[], "ejected").await? == 1 {
        world.get(&[]).await?;
        sent += 1;
        assert!(sent < 20_000, "no probe came home");
    }
    assert_eq!(stat(&world, PLUGIN, &[], "ejected").await?, 2, "its ramp");
    nothing_counted(&world.envoy).await
}

/// A sidecar in front of a waypoint or a gateway of the same cluster, each with a limit of its own.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_sidecar_and_a_gateway_behind_it_one_alone_spills_a_request() -> Result<()> {
    for routing in ROUTINGS {
        let proxy = |name, limit| {
            Member::new(name, config("one", limit, &["two"], routing)).way("two", "two")
        };
        let clusters = Clusters::start(&[
            member("two", 1, &["one"], routing),
            proxy("one", 1),
            proxy("sidecar", 2).behind(1),
        ])
        .await?;
        let [two, gateway, sidecar] = &clusters[..] else {
            panic!("there are three");
        };
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(hold(&clusters, sidecar, &[]).await?);
        }
        // One is home, one left at the gateway, and two at the sidecar, in whose count the first two are.
        assert_eq!((gateway.home.in_flight(), two.home.in_flight()), (1, 3));
        assert_eq!(decided(&sidecar.envoy, "home", "room").await?, 2);
        assert_eq!(decided(&sidecar.envoy, "two", "limit").await?, 2);
        assert_eq!(decided(&gateway.envoy, "home", "room").await?, 1);
        assert_eq!(decided(&gateway.envoy, "two", "limit").await?, 1);
        assert_eq!(decided(&two.envoy, "home", "guest").await?, 3);
        assert_eq!((gateway.arrived().await?, two.arrived().await?), (2, 3));
        for received in two.home.requests() {
            assert_eq!(markers(&received), ["one"], "{routing}");
        }
        release(&clusters, held).await?;
    }
    Ok(())
}

/// At the receiver too: a guest passes two proxies with the filter, each of which has other peers and is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_spilled_by_none_of_the_proxies_that_it_passes() -> Result<()> {
    for routing in ROUTINGS {
        let inner = Member::new("sidecar", config("two", 1, &["one"], routing)).way("one", "one");
        let clusters = Clusters::start(&[
            inner,
            member("two", 1, &["one"], routing).behind(0),
            member("one", 1, &["two"], routing),
        ])
        .await?;
        let [inner, two, one] = &clusters[..] else {
            panic!("there are three");
        };
        let mut held = vec![hold(&clusters, two, &[]).await?];
        held.push(hold(&clusters, one, &[]).await?);
        assert_eq!((inner.home.in_flight(), one.home.in_flight()), (1, 1));
        for n in 0..5 {
            held.push(hold(&clusters, one, &[]).await?);
            assert_eq!(inner.home.in_flight(), n + 2, "{routing}");
        }
        assert_eq!(one.arrived().await?, 0, "{routing}: none came back");
        for proxy in [two, inner] {
            assert_eq!(decided(&proxy.envoy, "home", "guest").await?, 5);
            assert_eq!(decided(&proxy.envoy, "home", "room").await?, 1);
        }
        for received in &inner.home.requests()[1..] {
            assert_eq!(markers(received), ["one"], "{routing}");
        }
        release(&clusters, held).await?;
    }
    Ok(())
}
