//! What the log says of a condition: one line when it begins, one when it ends, at most one of each kind a minute, for all
//! workers together.

use std::time::{Duration, Instant};

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::Client;
use envoy_test::wait::{until_some, until_some_by};
use envoy_test::world::{CatchAll, HOST, PLUGIN, PeerRoute, plugin_config};
use serde_json::json;

#[path = "errors/common.rs"]
mod common;

use common::{Service, after, builder, detecting, on_each_worker};

/// Lines of level warning.
fn warnings(world: &World, text: &str) -> Vec<String> {
    let log = world.envoy.log();
    let lines = log.lines().filter(|line| line.contains("[warning]"));
    lines
        .filter(|line| line.contains(text))
        .map(str::to_owned)
        .collect()
}

/// The only line of level warning with this text, which has these parts too.
fn only(world: &World, text: &str, parts: &[&str]) {
    let lines = warnings(world, text);
    assert_eq!(lines.len(), 1, "{text}: {lines:?}");
    for part in parts {
        assert!(lines[0].contains(part), "no {part:?} in {lines:?}");
    }
}

/// Peers' routes, of which some lead nowhere. Two requests for the same may differ in a header, so that what was lost of it can
/// arrive.
const ROUTES: &str = "- {match: {prefix: /black-hole}, route: {cluster: BlackHoleCluster}}
- {match: {prefix: /rewritten, headers: [{name: x-odd, present_match: false}]}, route: {cluster: PEER_CLUSTER, prefix_rewrite: /other}}
- {match: {prefix: /, headers: [{name: x-odd, present_match: false}]}, route: {cluster: PEER_CLUSTER, host_rewrite_literal: SERVICE}}
";

const OVER: &str = "a route leads to peer gke at s0.istio.gke.global again";

#[tokio::test(flavor = "multi_thread")]
async fn a_misroute_is_told_by_kind_when_it_begins_and_when_it_ends() -> Result<()> {
    let world = builder(&[after(1)])
        .peer_route(PeerRoute::OnlySome)
        .peer_routes(ROUTES)
        .catch_all(CatchAll::Absent)
        .workers(2)
        .start()
        .await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    service.wait("ejected", 1).await?;
    let mut clients = on_each_worker(&world, 2).await?;
    for _ in 0..5 {
        for client in &mut clients {
            client.get(&service.host, &[("x-odd", "1")]).await?;
        }
    }
    let nothing = "nothing leads to peer gke at s0.istio.gke.global (";
    let port = "from outbound|80||s0.istio.svc.cluster.local";
    only(
        &world,
        nothing,
        &[
            "(no route)",
            port,
            "The VirtualService of s0.istio.gke.global has no route",
        ],
    );
    service.wait("misrouted", 2).await?;
    // Another kind is told too, and does not end the first.
    for client in &mut clients {
        get(client, &service, "/black-hole", &[]).await?;
    }
    service.wait("misrouted", 10).await?;
    assert_eq!(warnings(&world, nothing).len(), 2);
    only(&world, "gke.global (BlackHoleCluster)", &[port]);
    // What is stopped since another was lost is not taken for one of the kind that was lost last.
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(3) {
        for client in &mut clients {
            client.get(&service.host, &[("x-odd", "1")]).await?;
        }
    }

    // What was lost of the first arrives now; of the second nothing does.
    until_some_by("the first is over", Duration::from_secs(60), async || {
        for client in &mut clients {
            // Some stay home until it is tried again.
            client.get(&service.host, &[]).await.ok()?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        (service.stat("misrouted").await.ok()? == 8).then_some(())
    })
    .await?;
    only(&world, OVER, &["it was: no route"]);
    assert_eq!(warnings(&world, nothing).len(), 2);
    // Longer than a condition stands that is not seen any more.
    let over = Instant::now();
    while over.elapsed() < Duration::from_secs(20) {
        for client in &mut clients {
            client.get(&service.host, &[]).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(service.stat("misrouted").await?, 8);
    }
    only(&world, OVER, &[]);
    // It begins again within the minute, and stands without a line.
    for client in &mut clients {
        client.get(&service.host, &[("x-odd", "1")]).await?;
    }
    service.wait("misrouted", 10).await?;
    // Another peer's way is another.
    let mut other = detecting(&[after(1)]);
    other["services"][0]["peers"][0]["host"] = json!("s0.other.global");
    world.set_filter_config(other).await?;
    service.wait("misrouted", 0).await
}

async fn get(
    client: &mut Client,
    service: &Service<'_>,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<()> {
    let empty = envoy_test::client::empty();
    let request = envoy_test::client::request("GET", &service.host, path, headers, empty)?;
    client.send(request).await?;
    Ok(())
}

/// A worker that has lost nothing knows what arrived by what the request was before its route rewrote it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_rewrites_ends_a_misroute_of_another_worker() -> Result<()> {
    let world = builder(&[after(1)])
        .peer_route(PeerRoute::OnlySome)
        .peer_routes(ROUTES)
        .catch_all(CatchAll::Absent)
        .workers(2)
        .start()
        .await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    service.wait("ejected", 1).await?;
    let mut clients = on_each_worker(&world, 2).await?;
    let [well, loses] = clients.as_mut_slice() else {
        unreachable!("two workers")
    };
    get(well, &service, "/rewritten", &[]).await?;
    get(loses, &service, "/rewritten", &[("x-odd", "1")]).await?;
    service.wait("misrouted", 2).await?;
    until_some_by("it is over", Duration::from_secs(60), async || {
        get(well, &service, "/rewritten", &[]).await.ok()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        (service.stat("misrouted").await.ok()? == 0).then_some(())
    })
    .await?;
    only(&world, OVER, &["it was: no route"]);
    Ok(())
}

/// By header nothing is wrong with the ServiceEntry: the line has the match that is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_match_is_named_and_printed() -> Result<()> {
    let mut config = plugin_config(1);
    config["services"][0]["routing"] = json!("header");
    let world = World::builder()
        .filter(config)
        .peer_route(PeerRoute::Unrouted)
        .workers(2)
        .start()
        .await?;
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "one")]).await });
    world.home.wait_in_flight(1).await?;
    for client in &mut on_each_worker(&world, 2).await? {
        for _ in 0..3 {
            client.get(HOST, &[]).await?;
        }
    }
    let home = "(outbound|80||a.istio.svc.cluster.local)";
    let to_add = "{match: [{headers: {x-peer-spillover-to: {exact: gke}}}], headers: {request: {remove: [x-peer-spillover-to]}}, route: [{destination: {host: a.istio.gke.global}}]}";
    let named =
        "The VirtualService of a.istio.svc.cluster.local has no match on x-peer-spillover-to";
    only(&world, "nothing leads to peer gke", &[home, named, to_add]);
    assert_eq!(warnings(&world, "ServiceEntry").len(), 0);
    // What is to be added is an item of a VirtualService's `http`.
    let route: serde_json::Value = serde_yaml_ng::from_str(to_add)?;
    assert_eq!(
        route["route"][0]["destination"]["host"],
        "a.istio.gke.global"
    );
    world.home.release_all();
    held.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_service_entry_is_named() -> Result<()> {
    for routing in ["authority", "header"] {
        let mut config = plugin_config(1);
        config["services"][0]["routing"] = json!(routing);
        config["services"][0]["mode"] = json!("enforce");
        let world = World::builder()
            .filter(config)
            .peer_route(PeerRoute::Missing)
            .start()
            .await?;
        let mut client = world.client(false).await?;
        let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "one")]).await });
        world.home.wait_in_flight(1).await?;
        world.get(&[]).await?;
        let named = "This proxy sees no ServiceEntry for a.istio.gke.global on the port of outbound|80||a.istio.svc.cluster.local";
        only(
            &world,
            "nothing leads to peer gke",
            &["(no cluster of that host)", named],
        );
        world.home.release_all();
        held.await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejection_and_its_end_are_told_once_a_minute() -> Result<()> {
    let often =
        json!({"consecutive5xxErrors": 1, "interval": "100ms", "baseEjectionTime": "200ms"});
    let world = builder(&[often]).workers(2).start().await?;
    let service = Service::new(&world, 0);
    for n in 1..=3 {
        service.get(&[("x-status", "500")]).await?;
        service.wait("ejections", n).await?;
        until_some("home has all its load back", async || {
            service.get(&[]).await.ok()?;
            (service.stat("ejected").await.ok()? == 0).then_some(())
        })
        .await?;
    }
    for text in [
        "service s0.istio.svc.cluster.local: home is ejected for 200 ms and its requests go to gke; the last of its errors: ",
        "service s0.istio.svc.cluster.local: a probe was answered; home takes its load back within 100 ms",
        "service s0.istio.svc.cluster.local: home has all its load back",
    ] {
        only(&world, text, &[]);
    }
    Ok(())
}

/// Home is ejected again within the minute: the line comes when the minute is over, as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_the_minute_held_back_is_as_any_other() -> Result<()> {
    let often =
        json!({"consecutive5xxErrors": 1, "interval": "100ms", "baseEjectionTime": "200ms"});
    let world = builder(&[often]).start().await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    service.wait("ejections", 1).await?;
    until_some("home is back", async || {
        service.get(&[]).await.ok()?;
        (service.stat("ejected").await.ok()? == 0).then_some(())
    })
    .await?;
    let ejected = || warnings(&world, "home is ejected");
    until_some_by("the second line", Duration::from_secs(90), async || {
        service.get(&[("x-status", "500")]).await.ok()?;
        (ejected().len() == 2).then_some(())
    })
    .await?;
    for line in warnings(&world, "peer-spillover: ") {
        // Outside of a request Envoy does not name the plugin.
        let (_, said) = line.split_once("wasm log").unwrap_or_default();
        let said = said.strip_prefix(&format!(" {PLUGIN}")).unwrap_or(said);
        let head = ": peer-spillover: service s0.istio.svc.cluster.local: ";
        assert!(said.starts_with(head), "{line}");
    }
    Ok(())
}
