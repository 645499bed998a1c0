//! The two clusters of the harness: that requests go where the end-to-end tests take it that they go.

use std::time::Duration;

use anyhow::Result;
use envoy_test::client::{self, Client};
use envoy_test::envoy::reserve_port;
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{
    CatchAll, HOME, HOST, PEER, PEER_HOST, PLUGIN, PeerRoute, Update, Upstream, metric,
    plugin_config, service_metric,
};
use envoy_test::{Envoy, EnvoyOptions, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_websocket_counts_until_it_is_closed() -> Result<()> {
    let world = World::builder().without_filter().start().await?;
    let mut stream = TcpStream::connect(world.addr()).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    stream.write_all(b"ping").await?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await?;
    assert_eq!((&back, world.home.in_flight()), (b"ping", 1));
    drop(stream);
    world.home.wait_in_flight(0).await
}

#[tokio::test]
async fn the_two_clusters_are_reached_by_their_hosts_and_by_the_header() -> Result<()> {
    for upstream in [Upstream::Http1, Upstream::Http2, Upstream::AsClient] {
        for http2 in [false, true] {
            let world = World::builder()
                .without_filter()
                .upstream(upstream)
                .workers(2)
                .start()
                .await?;
            let mut client = world.client(http2).await?;
            for host in [HOST, "a.istio.svc", "a.istio", "a", "a:80"] {
                assert_eq!(client.get(host, &[]).await?.served_by(), HOME, "{host}");
            }
            for (host, headers) in [
                (PEER_HOST, &[][..]),
                (HOST, &[("x-peer-spillover-to", PEER)][..]),
            ] {
                let answer = client.get(host, headers).await?;
                assert_eq!(
                    (answer.status, answer.served_by()),
                    (200, PEER),
                    "{upstream:?} {http2}"
                );
                assert_eq!(answer.json()["host"], HOST);
            }
            let at_peer = &world.peer.requests()[0];
            let identity = at_peer
                .header("x-forwarded-client-cert")
                .unwrap_or_default();
            assert!(identity.contains(&world.home_leaf().spiffe), "{identity}");
            assert_eq!(client.get("unknown.example", &[]).await?.status, 503);
            let log = world.access_log(8).await?;
            assert_eq!(
                (log[5]["authority"].as_str(), log[5]["cluster"].as_str()),
                (Some(HOST), Some("outbound|80||a.istio.gke.global"))
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn routes_can_be_missing() -> Result<()> {
    for (route, catch_all, status) in [
        (PeerRoute::Missing, CatchAll::Passthrough, 503),
        (PeerRoute::Missing, CatchAll::Absent, 404),
        (PeerRoute::BlackHole, CatchAll::BlackHole, 503),
        (PeerRoute::DirectResponse, CatchAll::Passthrough, 418),
    ] {
        let world = World::builder()
            .without_filter()
            .peer_route(route)
            .catch_all(catch_all)
            .start()
            .await?;
        let mut client = world.client(false).await?;
        assert_eq!(
            client.get(PEER_HOST, &[]).await?.status,
            status,
            "{route:?}, {catch_all:?}"
        );
        assert_eq!(client.get(HOST, &[]).await?.served_by(), HOME);
        assert_eq!(world.peer.count(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn the_gateway_wants_a_certificate_of_its_root() -> Result<()> {
    let world = World::builder().without_filter().start().await?;
    let gateway = world.gateway.listener("gateway");
    let stranger = world
        .certs()
        .other_root()?
        .leaf("cluster.local", "istio", "home")?;
    let friend = world.certs().leaf("cluster.local", "other", "client")?;
    for (leaf, status) in [(None, 503), (Some(&stranger), 503), (Some(&friend), 200)] {
        let proxy = world.tls_client(gateway, leaf).await?;
        let answer = Client::http1(proxy.listener("outbound"))
            .await?
            .get(HOST, &[])
            .await?;
        assert_eq!(answer.status, status, "{leaf:?}: {:?}", answer.body);
    }
    assert_eq!(world.peer.count(), 1);
    // Not TLS at all.
    assert!(Client::http1(gateway).await?.get(HOST, &[]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn the_set_up_of_2020_answers_503_and_redirects_nothing() -> Result<()> {
    let delay = Duration::from_millis(20);
    let world = World::builder()
        .origin_of_2020()
        .delays(delay, delay)
        .start()
        .await?;
    let outcomes = closed_loop(LoadOptions::new(world.url(), 3, Until::Requests(150))).await?;
    assert_eq!(outcomes.len(), 150);
    assert!(failed(&outcomes) > 0);
    assert_eq!(answered_by(&outcomes, PEER), 0);
    assert_eq!(world.peer.count(), 0);
    Ok(())
}

#[tokio::test]
async fn an_envoy_that_refuses_its_configuration_says_why() {
    let started = envoy_test::Envoy::start(
        "static_resources: {listeners: 7}".to_owned(),
        Default::default(),
    )
    .await;
    let Err(error) = started.map(|_| ()) else {
        panic!("it started")
    };
    assert!(format!("{error:#}").contains("listeners"), "{error:#}");
}

#[tokio::test]
async fn an_envoy_that_is_dropped_is_gone() -> Result<()> {
    let world = World::builder().without_filter().start().await?;
    let (addr, gateway) = (world.addr(), world.gateway.listener("gateway"));
    drop(world);
    assert!(TcpStream::connect(addr).await.is_err() && TcpStream::connect(gateway).await.is_err());
    Ok(())
}

#[tokio::test]
async fn the_filter_spills_the_surplus() -> Result<()> {
    for workers in [1, 4] {
        let world = World::builder()
            .filter(plugin_config(2))
            .workers(workers)
            .start()
            .await?;
        let load = LoadOptions::new(world.url(), 6, Until::Requests(300)).header("x-delay-ms", "5");
        let outcomes = closed_loop(load).await?;
        assert_eq!(failed(&outcomes), 0);
        let (home, peer) = (answered_by(&outcomes, HOME), answered_by(&outcomes, PEER));
        assert!(home > 0 && peer > 0 && home + peer == 300, "{home} {peer}");
        assert_eq!(world.home.max_in_flight(), 2);
        world.wait_idle().await?;
        assert_eq!(world.decided("home", "room").await?, home as i64);
        assert!(
            outcomes
                .iter()
                .any(|outcome| outcome.decision == "gke; reason=limit")
        );
        assert!(
            world
                .envoy
                .prometheus()
                .await?
                .contains("peer_spillover_in_flight{")
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_running_filter_takes_a_new_configuration() -> Result<()> {
    let world = World::builder().workers(2).start().await?;
    let limit = service_metric(HOST, "limit");
    // What a service has is there from its first request on.
    world.get(&[]).await?;
    assert_eq!(world.envoy.stat(&limit).await?, Some(1));
    // The last is the one before: nothing to wait for.
    for n in [3, 7, 2, 2] {
        assert_eq!(
            world.set_filter_config(plugin_config(n)).await?,
            Update::Accepted
        );
        world
            .envoy
            .wait_stat(&limit, |is| is == i64::from(n))
            .await?;
    }
    assert_eq!(
        world.set_filter_config("{\"version\": 2}").await?,
        Update::Accepted
    );
    world.envoy.wait_log("configuration rejected").await?;
    assert_eq!(world.envoy.stat(&limit).await?, Some(2));
    assert_eq!(
        world.get(&[]).await?.header("x-peer-spillover"),
        "home; reason=room"
    );
    Ok(())
}

#[tokio::test]
async fn two_clusters_can_spill_at_each_other() -> Result<()> {
    let mut config = plugin_config(1);
    config["cluster"] = PEER.into();
    config["services"][0]["peers"][0] =
        serde_json::json!({"name": HOME, "host": "a.istio.iotcloudserve.global"});
    let world = World::builder()
        .filter(plugin_config(1))
        .peer_filter(config)
        .start()
        .await?;
    for (client, name, other) in [(world.addr(), HOME, PEER), (world.peer_addr(), PEER, HOME)] {
        let mut first = Client::http2(client).await?;
        let held = tokio::spawn(first.start(client::get(HOST, &[("x-hold", "until-the-end")])?));
        let echo = if name == HOME {
            &world.home
        } else {
            &world.peer
        };
        echo.wait_in_flight(1).await?;
        let answer = first.get(HOST, &[]).await?;
        assert_eq!(
            (answer.status, answer.served_by(), &answer.json()["from"]),
            (200, other, &name.into())
        );
        echo.release("until-the-end");
        assert_eq!(held.await??.status(), 200);
    }
    Ok(())
}

/// `envoy.yaml` as it is, but for its ports, which may be taken here, and the place of the module.
#[tokio::test]
async fn the_plain_configuration_works() -> Result<()> {
    let root = xtask::workspace_root();
    let module = tokio::task::spawn_blocking(xtask::filter::ensure).await??;
    let text = std::fs::read_to_string(root.join("envoy-test/envoy.yaml"))?;
    let services = [reserve_port()?, reserve_port()?];
    let mut text = text
        .replace("port_value: 9901", "port_value: 0")
        .replace("port_value: 10000", "port_value: 0")
        .replace(
            "target/peer_spillover.wasm}",
            &format!("{}}}", module.display()),
        );
    for (port, service) in ["port_value: 10001", "port_value: 10002"]
        .into_iter()
        .zip(&services)
    {
        text = text.replace(
            port,
            &format!("port_value: {}", service.local_addr()?.port()),
        );
    }
    let envoy = Envoy::start(text, EnvoyOptions::default()).await?;
    let url = format!("http://{}/", envoy.listener("outbound"));
    let outcomes = closed_loop(LoadOptions::new(&url, 3, Until::Requests(3))).await?;
    let mut decisions: Vec<&str> = outcomes
        .iter()
        .map(|outcome| outcome.decision.as_str())
        .collect();
    decisions.sort_unstable();
    assert_eq!(
        (failed(&outcomes), decisions),
        (
            0,
            vec![
                "gke; reason=limit",
                "gke; reason=limit",
                "home; reason=room"
            ]
        )
    );
    Ok(())
}

#[tokio::test]
async fn two_plugins_count_apart_in_one_proxy() -> Result<()> {
    let world = World::builder()
        .another_filter("istio.mine", plugin_config(5))
        .start()
        .await?;
    assert_eq!(world.get(&[]).await?.status, 200);
    for (plugin, limit) in [(PLUGIN, 1), ("istio.mine", 5)] {
        let labels = [("plugin", plugin), ("role", "client"), ("service", HOST)];
        assert_eq!(
            world.envoy.stat(&metric(&labels, "limit")).await?,
            Some(limit),
            "{plugin}"
        );
    }
    Ok(())
}
