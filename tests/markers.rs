//! Markers: who is a guest, who only says so, and that no request crosses twice.

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use envoy_test::world::{HOME, HOST, PEER, PEER_HOST, PLUGIN, decisions, metric, plugin_config};
use envoy_test::{Client, Envoy, World};
use serde_json::{Value, json};

const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";

/// The peer's configuration: it spills at home.
fn peer_config(limit: u32) -> Value {
    let mut config = plugin_config(limit);
    config["cluster"] = PEER.into();
    config["services"][0]["peers"][0] =
        json!({"name": HOME, "host": "a.istio.iotcloudserve.global"});
    config
}

#[tokio::test]
async fn a_clients_own_marker_is_removed_and_buys_nothing() -> Result<()> {
    let world = World::builder().start().await?;
    for forged in [HOME, PEER, "anything"] {
        assert_eq!(world.get(&[(MARKER, forged)]).await?.served_by(), HOME);
    }
    assert!(
        world
            .home
            .requests()
            .iter()
            .all(|received| received.header(MARKER).is_none())
    );

    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "one")]).await });
    world.home.wait_in_flight(1).await?;
    let answer = world.get(&[(MARKER, PEER)]).await?;
    assert_eq!(
        answer.served_by(),
        PEER,
        "a forged marker does not keep a request at home"
    );
    assert_eq!(
        world.peer.requests()[0].header(MARKER),
        Some(HOME),
        "a spilled request says where it is from"
    );
    world.home.release_all();
    held.await??;
    Ok(())
}

/// Whatever the routing, the names of clusters, and what the client says of itself: its request is counted and limited like
/// any other, and neither the application nor the peer sees the header.
#[tokio::test]
async fn a_clients_own_header_does_not_choose_the_peer() -> Result<()> {
    for (routing, plain, star) in [
        ("authority", false, false),
        ("authority", true, false),
        ("header", false, false),
        ("header", true, false),
        ("header", false, true),
    ] {
        let kind = format!("{routing}, plain names: {plain}, star: {star}");
        let mut config = plugin_config(1);
        config["services"][0]["routing"] = routing.into();
        if star {
            config["services"][0]["host"] = "*".into();
        }
        let mut builder = World::builder().filter(config);
        if plain {
            builder = builder.plain_cluster_names();
        }
        let world = builder.start().await?;
        let forged = [&[(TO, PEER)][..], &[(TO, PEER), (MARKER, PEER)]];
        for headers in forged {
            let answer = world.get(headers).await?;
            let said = answer.header("x-peer-spillover");
            assert_eq!(
                (answer.served_by(), said),
                (HOME, "home; reason=room"),
                "{kind}"
            );
        }
        let mut client = world.client(false).await?;
        let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
        world.home.wait_in_flight(1).await?;
        for headers in forged {
            let answer = world.get(headers).await?;
            let said = answer.header("x-peer-spillover");
            assert_eq!(said, format!("{PEER}; reason=limit"), "{kind}");
        }
        world.home.release_all();
        held.await??;
        for received in world.home.requests() {
            assert_eq!(
                (received.header(TO), received.header(MARKER)),
                (None, None),
                "{kind}"
            );
        }
        let routed = Some(PEER).filter(|_| routing == "header");
        for received in world.peer.requests() {
            let both = (received.header(TO), received.header(MARKER));
            assert_eq!(both, (routed, Some(HOME)), "{kind}");
        }
        let forgeries = metric(&[("plugin", PLUGIN), ("role", "client")], "forged_headers");
        assert_eq!(world.envoy.stat(&forgeries).await?, Some(4), "{kind}");
    }
    Ok(())
}

/// A header that no route matches is no business of the peer's either.
#[tokio::test]
async fn a_spilled_request_names_no_other_peer() -> Result<()> {
    for host in [HOST, "*"] {
        let mut config = plugin_config(1);
        config["services"][0]["host"] = host.into();
        config["services"][0]["mode"] = "evacuate".into();
        let world = World::builder().filter(config).start().await?;
        assert_eq!(world.get(&[(TO, "venus")]).await?.served_by(), PEER);
        assert_eq!(world.peer.requests()[0].header(TO), None, "{host}");
    }
    Ok(())
}

/// An outsider's headers by way of a proxy of the mesh that has no plugin, whose certificate vouches for them: a guest at the
/// most, and one that is led nowhere. Each name here has a route to the other cluster.
#[tokio::test]
async fn a_guest_is_led_nowhere() -> Result<()> {
    for routing in ["authority", "header"] {
        for (trust_domain, marker, reason) in [
            ("cluster.local", HOME, "guest"),
            ("cluster.local", PEER, "returned"),
            ("elsewhere.example", HOME, "room"),
        ] {
            let mut config = peer_config(1);
            config["services"][0]["routing"] = routing.into();
            let world = World::builder().peer_filter(config).start().await?;
            let leaf = world.certs().leaf(trust_domain, "istio", "caller")?;
            let gateway = world.gateway.listener("gateway");
            let caller = world.tls_client(gateway, Some(&leaf)).await?;
            let mut client = Client::http1(caller.listener("outbound")).await?;
            let answer = client.get(HOST, &[(MARKER, marker), (TO, HOME)]).await?;
            let kind = format!("{routing} {reason}");
            assert_eq!(answer.served_by(), PEER, "{kind}");
            assert_eq!(world.peer.requests()[0].header(TO), None, "{kind}");
            let decisions = decisions(&world.gateway, HOST).await?;
            let expected = [(("home".to_owned(), reason.to_owned()), 1)];
            assert_eq!(decisions, expected.into(), "{kind}");
            assert_eq!(world.home.count(), 0, "{kind}");
        }
    }
    Ok(())
}

/// Both clusters call their peer by one name, so that what leads a request from here to there leads it from there to here.
/// The first is full, the second idle.
async fn ring(peer_mode: &str, remove: &str) -> Result<World> {
    let calling = |cluster: &str, host: &str| {
        let mut config = plugin_config(1);
        config["cluster"] = cluster.into();
        config["services"][0]["routing"] = "header".into();
        // What the peer's proxy has a route for, and home's too, below.
        config["services"][0]["peers"][0] = json!({"name": HOME, "host": host});
        config
    };
    let mut peer = calling("two", "a.istio.iotcloudserve.global");
    peer["mode"] = peer_mode.into();
    let route = format!(
        "- match: {{prefix: /, headers: [{{name: {TO}, string_match: {{exact: {HOME}}}}}]}}\n  \
         route: {{cluster: 'outbound|80||{PEER_HOST}', host_rewrite_literal: {HOST}}}\n  {remove}\n"
    );
    World::builder()
        .filter(calling("one", PEER_HOST))
        .peer_filter(peer)
        .more_routes(&route)
        .start()
        .await
}

/// With home full, who answers one more request, and how many requests home's and the peer's proxy had.
async fn round(world: &World) -> Result<(String, i64, i64)> {
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
    world.home.wait_in_flight(1).await?;
    let answer = world.get(&[]).await?;
    world.home.release_all();
    held.await??;
    let requests = async |envoy: &Envoy| -> Result<i64> {
        let gateway = envoy.stat("http.gateway.downstream_rq_total").await?;
        Ok(gateway.unwrap_or(0))
    };
    let by = answer.served_by().to_owned();
    Ok((
        by,
        requests(&world.envoy).await?,
        requests(&world.gateway).await?,
    ))
}

#[tokio::test]
async fn two_clusters_that_call_each_other_by_one_name_are_no_ring() -> Result<()> {
    let world = ring("enforce", "").await?;
    assert_eq!(round(&world).await?, (PEER.to_owned(), 0, 1));
    assert_eq!(world.peer.requests()[0].header(TO), None);
    Ok(())
}

/// Where the receiver has the route and no plugin that removes the header, the sender's route does.
#[tokio::test]
async fn a_route_that_removes_the_header_lets_it_go_no_further() -> Result<()> {
    let remove = format!("request_headers_to_remove: [{TO}]");
    let world = ring("off", &remove).await?;
    assert_eq!(round(&world).await?, (PEER.to_owned(), 0, 1));
    assert_eq!(world.peer.requests()[0].header(TO), None);
    Ok(())
}

/// What the peer's gateway makes of a request with this marker from a client with a certificate of this trust domain:
/// the reason of its decision, and the marker that the application sees.
async fn received(
    config: Value,
    trust_domain: &str,
    marker: &str,
) -> Result<(String, Option<String>)> {
    let world = World::builder().peer_filter(config).start().await?;
    let leaf = world.certs().leaf(trust_domain, "istio", "caller")?;
    let caller = world
        .tls_client(world.gateway.listener("gateway"), Some(&leaf))
        .await?;
    let mut client = Client::http1(caller.listener("outbound")).await?;
    assert_eq!(client.get(HOST, &[(MARKER, marker)]).await?.status, 200);
    let reasons = decisions(&world.gateway, HOST).await?;
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let reason = reasons
        .into_keys()
        .next()
        .map(|(_, reason)| reason)
        .unwrap_or_default();
    Ok((
        reason,
        world.peer.requests()[0].header(MARKER).map(str::to_owned),
    ))
}

#[tokio::test]
async fn a_guest_is_believed_by_its_certificate() -> Result<()> {
    let own = received(peer_config(1), "cluster.local", HOME).await?;
    assert_eq!(own, ("guest".to_owned(), Some(HOME.to_owned())));
    let other = received(peer_config(1), "elsewhere.example", HOME).await?;
    assert_eq!(
        other,
        ("room".to_owned(), None),
        "another trust domain is not believed"
    );
    let mut config = peer_config(1);
    config["trustDomains"] = json!(["elsewhere.example"]);
    let named = received(config.clone(), "elsewhere.example", HOME).await?;
    assert_eq!(named.0, "guest");
    assert_eq!(
        received(config, "cluster.local", HOME).await?.0,
        "room",
        "named domains replace our own"
    );
    Ok(())
}

#[tokio::test]
async fn our_own_request_come_back_is_no_guest() -> Result<()> {
    assert_eq!(
        received(peer_config(1), "cluster.local", PEER).await?.0,
        "returned"
    );
    Ok(())
}

/// Both full, both spilling at each other: each request is answered where it was first sent or one crossing away.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_crosses_twice() -> Result<()> {
    let world = World::builder()
        .filter(plugin_config(1))
        .peer_filter(peer_config(1))
        .workers(2)
        .start()
        .await?;
    let load = |addr| {
        let url = format!("http://{addr}/");
        closed_loop(LoadOptions::new(&url, 6, Until::Requests(300)).header("x-delay-ms", "3"))
    };
    let (at_home, at_peer) = tokio::join!(load(world.addr()), load(world.peer_addr()));
    let (at_home, at_peer) = (at_home?, at_peer?);
    assert_eq!((failed(&at_home), failed(&at_peer)), (0, 0));
    assert_eq!(
        world.home.count() + world.peer.count(),
        600,
        "each request was received once"
    );
    for (echo, from, envoy) in [
        (&world.home, PEER, &world.envoy),
        (&world.peer, HOME, &world.gateway),
    ] {
        let received = echo.requests();
        let guests = received
            .iter()
            .filter(|request| request.header(MARKER).is_some());
        assert!(
            guests
                .clone()
                .all(|request| request.header(MARKER) == Some(from))
        );
        assert!(guests.count() > 0, "both spilled");
        let decisions = decisions(envoy, HOST).await?;
        assert!(
            decisions.keys().all(|(_, reason)| reason != "returned"),
            "{decisions:?}"
        );
    }
    Ok(())
}
