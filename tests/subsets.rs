//! Peers that are subsets of the service's own host, as in a multi-primary mesh. Only the header leads there, and no
//! ServiceEntry is needed.

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{
    Builder, HOME, HOST, PEER, PLUGIN, PeerRoute, decisions, metric, plugin_config,
};
use envoy_test::{World, client};
use serde_json::{Value, json};

#[path = "many_peers/common.rs"]
#[allow(dead_code)]
mod common;

use common::*;

const TO: &str = "x-peer-spillover-to";
const MARKER: &str = "x-peer-spillover-from";
/// The cluster of the peer [`PEER`].
const CLUSTER: &str = "outbound|80|gke|a.istio.svc.cluster.local";

/// A peer that is the subset of its name, with these fields.
fn subset(name: &str, fields: Value) -> Value {
    let mut peer = peer(name, fields);
    let peer_fields = peer.as_object_mut().expect("an object");
    peer_fields.remove("host");
    peer_fields.insert("subset".to_owned(), name.into());
    peer
}

/// A service with this limit whose only peer is [`PEER`].
fn one(limit: u32) -> Value {
    config(limit, &[subset(PEER, json!({}))])
}

fn by_subset(config: Value) -> Builder {
    World::builder().filter(config).by_subset()
}

async fn misroutes(world: &World) -> Result<i64> {
    stat(world, PEER, "misroutes").await
}

/// The plugin of the peer, whose service spills at home.
fn receiving() -> Value {
    let mut config = plugin_config(1000);
    config["cluster"] = PEER.into();
    config["services"][0]["peers"][0] =
        json!({"name": HOME, "host": "a.istio.iotcloudserve.global"});
    config
}

/// With home as the service's only cluster, and as a subset too.
#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_goes_to_the_subset_exactly_and_is_a_guest_there() -> Result<()> {
    for home in ["", "home"] {
        let world = by_subset(one(2)).home_subset(home).workers(2);
        let world = world.peer_filter(receiving()).start().await?;
        let held = [hold(&world, "held").await?, hold(&world, "held").await?];
        assert_eq!(in_flight(&world), (2, vec![0]), "{home}");
        let load = LoadOptions::new(world.url(), 8, Until::Requests(400));
        let outcomes = closed_loop(load).await?;
        assert_eq!(failed(&outcomes), 0);
        assert_eq!(answered_by(&outcomes, PEER), 400, "{home}");
        assert_eq!(received(&world), (2, vec![400]), "{home}");
        for request in world.peer.requests() {
            assert_eq!((request.header(MARKER), &*request.host), (Some(HOME), HOST));
        }
        let guests = decisions(&world.gateway, HOST).await?;
        let expected = [(("home".to_owned(), "guest".to_owned()), 400)];
        assert_eq!(guests, expected.into(), "{home}");
        release_all(&world);
        for answer in held {
            assert_eq!(answer.await??.status, 200);
        }
        wait_nothing_counted(&world).await?;
        assert_eq!(said(&world, &[]).await?, "home; reason=room", "{home}");

        // What either of them gets is what the filter counts, and home never has more than its limit.
        clear(&world);
        world.home.reset_max();
        let load = LoadOptions::new(world.url(), 8, Until::Requests(400));
        let outcomes = closed_loop(load.header("x-delay-ms", "2")).await?;
        assert_eq!(failed(&outcomes), 0);
        let (stayed, left) = received(&world);
        assert_eq!(stayed + left[0], 400, "{home}");
        assert!(stayed > 0 && left[0] > 0, "{home}: {stayed} {left:?}");
        assert!(world.home.max_in_flight() <= 2, "{home}");
        let spilled = world.decided(PEER, "limit").await?;
        assert_eq!(spilled, 400 + i64::try_from(left[0])?, "{home}");
        assert_eq!(misroutes(&world).await?, 0, "{home}");
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_subsets_of_one_host_are_two_peers() -> Result<()> {
    let peers = [
        subset(PEER, json!({"priority": 1})),
        subset("eks", json!({"trafficPolicy": limit(2)})),
    ];
    let world = by_subset(config(1, &peers)).more_peers(["eks"]);
    let world = world.workers(2).start().await?;
    let mut held = vec![hold(&world, "home").await?];
    for n in 1..=2 {
        held.push(hold(&world, "eks").await?);
        assert_eq!(in_flight(&world), (1, vec![0, n]));
    }
    for _ in 0..20 {
        assert_eq!(said(&world, &[]).await?, "gke; reason=limit");
    }
    assert_eq!(received(&world), (1, vec![20, 2]));
    assert_eq!(declined(&world, "eks", "full").await?, 20);
    at(&world, "eks")?.release_all();
    wait(&world, "eks", "peer_in_flight", 0).await?;
    assert_eq!(said(&world, &[]).await?, "eks; reason=limit");
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}

/// One is a subset, the other has a ServiceEntry, whose host is in `:authority`.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_a_host_of_its_own_stands_beside_a_subset() -> Result<()> {
    let peers = [
        subset(PEER, json!({"trafficPolicy": limit(1)})),
        peer("eks", json!({"priority": 1})),
    ];
    let world = World::builder()
        .filter(config(1, &peers))
        .peer_cluster_name(CLUSTER)
        .more_peers(["eks"])
        .start()
        .await?;
    let held = [hold(&world, "all").await?, hold(&world, "all").await?];
    assert_eq!(in_flight(&world), (1, vec![1, 0]));
    for _ in 0..5 {
        assert_eq!(said(&world, &[]).await?, "eks; reason=limit");
    }
    for request in at(&world, "eks")?.requests() {
        assert_eq!(request.header(TO), None);
    }
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}

/// The lines about misroutes to [`PEER`].
fn lines(world: &World) -> Vec<String> {
    let log = world.envoy.log();
    let lines = log.lines().filter(|line| line.contains("nothing leads to"));
    lines.map(str::to_owned).collect()
}

/// Sends 100 requests that home has no room for, none of which is lost or reaches a peer. Returns how many were sent its way.
async fn come_home(world: &World, expected: &[&str]) -> Result<i64> {
    let held = hold(world, "held").await?;
    let load = LoadOptions::new(world.url(), 4, Until::Requests(100));
    let outcomes = closed_loop(load).await?;
    assert_eq!((failed(&outcomes), answered_by(&outcomes, HOME)), (0, 100));
    let sent = world.decided(PEER, "limit").await?;
    assert_eq!(world.decided("home", "misroute").await?, 100 - sent);
    assert!(misroutes(world).await? > 0);
    let lines = lines(world);
    let [line] = &lines[..] else {
        panic!("{lines:#?}");
    };
    for part in expected {
        assert!(line.contains(part), "{line}");
    }
    release_all(world);
    assert_eq!(held.await??.status, 200);
    wait_nothing_counted(world).await?;
    Ok(sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_subset_nothing_is_sent_and_its_cluster_is_named() -> Result<()> {
    let world = by_subset(one(1)).peer_route(PeerRoute::Missing);
    let world = world.start().await?;
    let expected = [
        "nothing leads to peer gke at a.istio.svc.cluster.local (no cluster of that host); its cluster is",
        CLUSTER,
        "DestinationRule",
    ];
    assert_eq!(come_home(&world, &expected).await?, 0);
    Ok(())
}

/// The route of the header is missing, so a request that has the header goes home by home's own.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_match_what_is_sent_comes_home_and_the_line_says_what_to_add() -> Result<()> {
    for home in ["", "home"] {
        let world = by_subset(one(1)).peer_route(PeerRoute::Unrouted);
        let world = world.home_subset(home).start().await?;
        let to_add = "{match: [{headers: {x-peer-spillover-to: {exact: gke}}}], headers: {request: {remove: [x-peer-spillover-to]}}, route: [{destination: {host: a.istio.svc.cluster.local, subset: gke}}]}";
        let at_home = format!("(outbound|80|{home}|{HOST})");
        let expected = [
            "has no match on x-peer-spillover-to",
            CLUSTER,
            &at_home,
            to_add,
        ];
        let sent = come_home(&world, &expected).await?;
        assert!((2..=5).contains(&sent), "{home}: {sent}");
        // What is to be added is an item of a VirtualService's `http`.
        let route: Value = serde_yaml_ng::from_str(to_add)?;
        let destination = json!({"host": HOST, "subset": PEER});
        assert_eq!(route["route"][0]["destination"], destination);
    }
    Ok(())
}

/// The route of the header leads to another cluster of the service by mistake, one of home's.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_led_to_another_of_homes_clusters_has_not_arrived() -> Result<()> {
    let wrong = format!(
        "- {{match: {{prefix: /, headers: [{{name: {TO}, string_match: {{exact: gke}}}}]}}, route: {{cluster: 'outbound|8080||{HOST}'}}}}\n"
    );
    let world = by_subset(one(1)).peer_route(PeerRoute::Unrouted);
    let world = world.home_subset("home").second_port().more_routes(&wrong);
    let world = world.start().await?;
    let there = format!("(outbound|8080||{HOST})");
    let to_write = "x-peer-spillover-to: gke in the VirtualService of a.istio.svc.cluster.local must be one for this port and have the destination {host: a.istio.svc.cluster.local, subset: gke}";
    let sent = come_home(&world, &[CLUSTER, &there, to_write]).await?;
    assert!((2..=5).contains(&sent), "{sent}");
    let labels = [
        ("plugin", PLUGIN),
        ("role", "client"),
        ("service", HOST),
        ("destination", "returned"),
        ("response_code_class", "2xx"),
    ];
    let returned = metric(&labels, "outcomes");
    world.envoy.wait_stat(&returned, |n| n == sent).await?;
    Ok(())
}

/// Nor is a name that leads nowhere passed on.
#[tokio::test]
async fn a_client_that_sends_the_header_is_not_led() -> Result<()> {
    for home in ["", "home"] {
        let world = by_subset(one(1)).home_subset(home).start().await?;
        assert_eq!(said(&world, &[]).await?, "home; reason=room", "{home}");
        let forged = [
            &[(TO, PEER)][..],
            &[(TO, PEER), (MARKER, PEER)],
            &[(TO, "venus")],
        ];
        for headers in forged {
            assert_eq!(said(&world, headers).await?, "home; reason=room", "{home}");
        }
        let held = hold(&world, "held").await?;
        for headers in forged {
            assert_eq!(said(&world, headers).await?, "gke; reason=limit", "{home}");
        }
        release_all(&world);
        held.await??;
        assert_eq!(received(&world), (5, vec![3]), "{home}");
        for request in world.home.requests() {
            assert_eq!((request.header(TO), request.header(MARKER)), (None, None));
        }
        let labels = [("plugin", PLUGIN), ("role", "client")];
        let forgeries = metric(&labels, "forged_headers");
        assert_eq!(world.envoy.stat(&forgeries).await?, Some(6), "{home}");
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// The peer has a ServiceEntry, and `:authority` leads there. A route by the header leads to a subset, for something else.
#[tokio::test]
async fn a_client_is_not_led_to_a_subset_that_no_peer_is() -> Result<()> {
    let world = World::builder().peer_cluster_name(CLUSTER).start().await?;
    for headers in [&[(TO, PEER)][..], &[]] {
        assert_eq!(said(&world, headers).await?, "home; reason=room");
    }
    assert_eq!(received(&world), (2, vec![0]));
    Ok(())
}

/// Whether a client's header or a route of its own leads a request to the peer's subset, it is not at home.
#[tokio::test]
async fn what_goes_to_the_peers_subset_by_itself_is_not_counted_at_home() -> Result<()> {
    let route = format!("- {{match: {{prefix: /canary}}, route: {{cluster: '{CLUSTER}'}}}}\n");
    let mut observing = one(1);
    observing["mode"] = json!("observe");
    let world = by_subset(observing).more_routes(&route).start().await?;
    for (path, headers) in [("/", &[(TO, PEER)][..]), ("/canary", &[])] {
        let mut client = world.client(false).await?;
        let held = [headers, &[("x-hold", "there")]].concat();
        let request = client::request("GET", HOST, path, &held, client::empty())?;
        let get = async move { client.send(request).await };
        let held = tokio::spawn(get);
        world.peer.wait_in_flight(1).await?;
        assert_eq!(world.in_flight().await?, 0, "{path}");
        assert!(decisions(&world.envoy, HOST).await?.is_empty(), "{path}");
        release_all(&world);
        assert_eq!(held.await??.status, 200);
        assert_eq!(received(&world), (0, vec![1]), "{path}");
        clear(&world);
    }
    Ok(())
}
