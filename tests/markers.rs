//! Markers: who is a guest, who only says so, and that no request crosses twice.

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use envoy_test::world::{HOME, HOST, PEER, decisions, plugin_config};
use envoy_test::{Client, World};
use serde_json::{Value, json};

const MARKER: &str = "x-peer-spillover-from";

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

#[tokio::test]
async fn a_clients_own_header_does_not_choose_the_peer() -> Result<()> {
    let mut config = plugin_config(1);
    config["services"][0]["routing"] = "header".into();
    let world = World::builder().filter(config).start().await?;
    assert_eq!(
        world
            .get(&[("x-peer-spillover-to", PEER)])
            .await?
            .served_by(),
        HOME
    );
    assert_eq!(world.home.requests()[0].header("x-peer-spillover-to"), None);
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
