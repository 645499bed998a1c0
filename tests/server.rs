//! `role: server`, on the side that receives: whose request it is and how many there are, and nothing else done about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use envoy_test::client::{Answer, get, read};
use envoy_test::world::{HOME, HOST, PEER, PLUGIN, Update, metric, plugin_config};
use envoy_test::{Client, Envoy, Received, World};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const OTHER: &str = "b.istio.svc.cluster.local";
const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";
/// The node of a gateway or a waypoint, where the filter has other defaults than in a sidecar.
const ROUTER: &str = "router~127.0.0.1~gateway.istio~istio.svc.cluster.local";

fn server(hosts: &[&str]) -> Value {
    let services: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
    json!({"version": 1, "cluster": HOME, "role": "server", "services": services})
}

/// The peer spills at home.
fn peer_config() -> Value {
    let mut config = plugin_config(1);
    config["cluster"] = PEER.into();
    config["services"][0]["peers"][0] =
        json!({"name": HOME, "host": "a.istio.iotcloudserve.global"});
    config
}

/// Home's proxy with a receiving side: its listener `gateway` demands a certificate, `outbound` takes what comes without.
/// Its clusters have the names of a sidecar's inbound listener, so a service is known by authority.
async fn receiving(config: Value, node_id: &str) -> Result<World> {
    World::builder()
        .filter(config)
        .peer_filter(peer_config())
        .inbound_cluster_names()
        .hosts([HOST, OTHER])
        .node_id(node_id)
        .workers(2)
        .start()
        .await
}

const SIDECAR: &str = "sidecar~127.0.0.1~a.istio~istio.svc.cluster.local";

/// A proxy that sends what it gets to home, and shows an identity of this trust domain.
async fn caller(world: &World, trust_domain: &str) -> Result<Envoy> {
    let leaf = world.certs().leaf(trust_domain, "istio", "caller")?;
    world
        .tls_client(world.envoy.listener("gateway"), Some(&leaf))
        .await
}

/// What the application received of a request to `addr` with these headers.
async fn arrives(world: &World, addr: SocketAddr, headers: &[(&str, &str)]) -> Result<Received> {
    world.home.clear();
    let answer = Client::http1(addr).await?.get(HOST, headers).await?;
    assert_eq!((answer.status, answer.served_by()), (200, HOME));
    assert_eq!(answer.header("x-peer-spillover"), "", "nobody asked for it");
    Ok(world.home.requests()[0].clone())
}

fn of_role(role: &str, host: &str, name: &str) -> String {
    let labels = [("plugin", PLUGIN), ("role", role), ("service", host)];
    metric(&labels, name)
}

/// The name of a count of decisions, all of which a server's end at home.
fn decision(role: &str, host: &str, reason: &str) -> String {
    of_role(
        role,
        host,
        &format!("destination=.=home;.;reason=.={reason};.;decisions"),
    )
}

/// Every decision of home's proxy, whatever its role, service, destination and reason: these and no other.
async fn decided(world: &World, expected: &[(String, i64)]) -> Result<()> {
    let expected: BTreeMap<String, i64> = expected.iter().cloned().collect();
    assert_eq!(world.envoy.stats_matching(";.;decisions").await?, expected);
    Ok(())
}

/// Waits until a role's count of requests in flight is `n`.
async fn in_flight(world: &World, role: &str, host: &str, n: i64) -> Result<()> {
    let name = of_role(role, host, "in_flight");
    world.envoy.wait_stat(&name, |value| value == n).await?;
    Ok(())
}

/// Requests that wait at home until the test lets them go.
#[derive(Default)]
struct Held {
    answers: JoinSet<Result<Answer>>,
    // The connections live as long as their clients.
    clients: Vec<Client>,
}

impl Held {
    /// `n` more by `addr`; returns when they are at home.
    async fn add(&mut self, world: &World, addr: SocketAddr, n: usize, marker: &str) -> Result<()> {
        let before = world.home.in_flight();
        let mut client = Client::http2(addr).await?;
        for _ in 0..n {
            let mut headers = vec![("x-hold", "h"), (MARKER, marker)];
            headers.retain(|(_, value)| !value.is_empty());
            let sent = client.start(get(HOST, &headers)?);
            self.answers.spawn(async move { read(sent.await?).await });
        }
        self.clients.push(client);
        world.home.wait_in_flight(before + n).await
    }

    async fn release(mut self, world: &World) -> Result<()> {
        world.home.release("h");
        while let Some(answer) = self.answers.join_next().await {
            let answer = answer??;
            assert_eq!((answer.status, answer.served_by()), (200, HOME));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_guest_is_known_by_its_certificate_and_keeps_its_marker() -> Result<()> {
    let world = receiving(server(&[HOST]), SIDECAR).await?;
    let caller = caller(&world, "cluster.local").await?;
    let addr = caller.listener("outbound");
    let guest = arrives(&world, addr, &[(MARKER, PEER)]).await?;
    assert_eq!(guest.header(MARKER), Some(PEER));
    decided(&world, &[(decision("server", HOST, "guest"), 1)]).await?;
    let returned = arrives(&world, addr, &[(MARKER, HOME)]).await?;
    assert_eq!(returned.header(MARKER), Some(HOME));
    arrives(&world, addr, &[]).await?;
    let mut expected = ["guest", "returned", "room"].map(|r| (decision("server", HOST, r), 1));
    decided(&world, &expected).await?;

    // What home sends itself, by a sidecar or without one, is its own.
    arrives(&world, world.addr(), &[]).await?;
    expected[2].1 = 2;
    decided(&world, &expected).await?;
    let lines = world.access_log(4).await?;
    let mut said: Vec<&str> = lines
        .iter()
        .map(|line| line["decision"].as_str().unwrap_or("-"))
        .collect();
    said.sort_unstable();
    assert_eq!(
        said,
        ["-", "-", "home; reason=guest", "home; reason=returned"]
    );
    in_flight(&world, "server", HOST, 0).await
}

#[tokio::test]
async fn a_forged_marker_is_removed_and_the_request_is_homes_own() -> Result<()> {
    let world = receiving(server(&[HOST]), SIDECAR).await?;
    let stranger = caller(&world, "elsewhere.example").await?;
    let mut own = 0;
    for addr in [world.addr(), stranger.listener("outbound")] {
        for forged in [PEER, HOME, "anything"] {
            let received = arrives(&world, addr, &[(MARKER, forged)]).await?;
            assert_eq!(received.header(MARKER), None, "{forged}");
            own += 1;
            decided(&world, &[(decision("server", HOST, "room"), own)]).await?;
        }
    }
    // Named, the stranger's domain is believed, and instead of our own.
    let mut config = server(&[HOST]);
    config["trustDomains"] = json!(["elsewhere.example"]);
    assert_eq!(world.set_filter_config(config).await?, Update::Accepted);
    let ours = caller(&world, "cluster.local").await?;
    for (proxy, marker) in [(&stranger, Some(PEER)), (&ours, None)] {
        let addr = proxy.listener("outbound");
        let received = arrives(&world, addr, &[(MARKER, PEER)]).await?;
        assert_eq!(received.header(MARKER), marker);
    }
    let expected = [("guest", 1), ("room", own + 1)];
    decided(
        &world,
        &expected.map(|(r, n)| (decision("server", HOST, r), n)),
    )
    .await
}

/// However many there are, whoever sent them, and whatever kind of proxy it is: all of them are home's.
#[tokio::test]
async fn everything_stays_and_the_count_goes_back_to_zero() -> Result<()> {
    for node_id in [SIDECAR, ROUTER] {
        let world = receiving(server(&[HOST]), node_id).await?;
        let caller = caller(&world, "cluster.local").await?;
        let certified = caller.listener("outbound");
        let mut held = Held::default();
        held.add(&world, world.addr(), 30, "").await?;
        held.add(&world, certified, 30, PEER).await?;
        held.add(&world, certified, 5, HOME).await?;
        in_flight(&world, "server", HOST, 65).await?;
        // More while they wait, a guest and one of home's own. What names a peer ends here, and no other header is touched.
        for (addr, first) in [
            (certified, (MARKER, PEER)),
            (world.addr(), ("x-own", "kept")),
        ] {
            let (sent, nth) = ([first, (TO, "venus")], world.home.count());
            let answer = Client::http1(addr).await?.get(HOST, &sent).await?;
            assert_eq!((answer.status, answer.served_by()), (200, HOME));
            let received = &world.home.requests()[nth];
            assert_eq!(received.header(first.0), Some(first.1), "{node_id}");
            assert_eq!(received.header(TO), None, "{node_id}");
            assert_eq!(received.host, HOST);
        }
        let mut gone = Held::default();
        gone.add(&world, certified, 3, PEER).await?;
        in_flight(&world, "server", HOST, 68).await?;
        // Clients that go away give back what they held.
        drop(gone);
        in_flight(&world, "server", HOST, 65).await?;
        held.release(&world).await?;
        in_flight(&world, "server", HOST, 0).await?;
        let expected = [("room", 31), ("guest", 34), ("returned", 5)];
        decided(
            &world,
            &expected.map(|(r, n)| (decision("server", HOST, r), n)),
        )
        .await?;
        assert_eq!(world.peer.count(), 0, "nothing left");
    }
    Ok(())
}

/// The whole way: what the peer's proxy spills is, at home's, the peer's guest.
#[tokio::test]
async fn a_spill_of_the_peer_is_homes_guest() -> Result<()> {
    let mut config = server(&["*"]);
    config["debugHeader"] = json!(true);
    let world = receiving(config, SIDECAR).await?;
    let mut first = Client::http1(world.peer_addr()).await?;
    let held = tokio::spawn(async move { first.get(HOST, &[("x-hold", "h")]).await });
    world.peer.wait_in_flight(1).await?;
    let mut second = Client::http1(world.peer_addr()).await?;
    let spilled = second.get(HOST, &[]).await?;
    assert_eq!((spilled.status, spilled.served_by()), (200, HOME));
    // The client hears of the decision that was made for it, not of the receiver's.
    let said = spilled.header("x-peer-spillover");
    assert_eq!(said, format!("{HOME}; reason=limit"));
    let received = &world.home.requests()[0];
    assert_eq!(
        (received.header(MARKER), received.host.as_str()),
        (Some(PEER), HOST)
    );
    decided(&world, &[(decision("server", "*", "guest"), 1)]).await?;
    let own = world.get(&[]).await?;
    assert_eq!(own.header("x-peer-spillover"), "home; reason=room");
    world.peer.release_all();
    held.await??;
    in_flight(&world, "server", "*", 0).await
}

/// A sidecar's inbound clusters name no host: the authority does, with a port or without. An alias names none.
#[tokio::test]
async fn a_service_is_known_by_authority() -> Result<()> {
    let world = receiving(server(&[HOST, OTHER]), SIDECAR).await?;
    let names = [
        HOST,
        "a.istio.svc.cluster.local:80",
        "A.Istio.svc.cluster.local:8080",
    ];
    let others = [OTHER, "b.istio.svc.cluster.local:80"];
    for http2 in [false, true] {
        let mut client = world.client(http2).await?;
        for name in names.iter().chain(&others).chain(&["a.istio"]) {
            let answer = client.get(name, &[]).await?;
            assert_eq!((answer.status, answer.served_by()), (200, HOME), "{name}");
        }
    }
    let expected = [(HOST, 6), (OTHER, 4)];
    decided(
        &world,
        &expected.map(|(host, n)| (decision("server", host, "room"), n)),
    )
    .await?;
    // "*" is whatever arrives.
    let star = world.set_filter_config(server(&["*"])).await?;
    assert_eq!(star, Update::Accepted);
    let answer = world.client(false).await?.get("a.istio", &[]).await?;
    assert_eq!(answer.served_by(), HOME);
    let expected = [(HOST, 6), (OTHER, 4), ("*", 1)];
    decided(
        &world,
        &expected.map(|(host, n)| (decision("server", host, "room"), n)),
    )
    .await
}

#[tokio::test]
async fn observe_counts_and_leaves_a_forged_marker_and_off_does_nothing() -> Result<()> {
    let mode = |mode: &str| {
        let mut config = server(&[HOST]);
        config["mode"] = mode.into();
        config
    };
    let world = receiving(mode("observe"), SIDECAR).await?;
    let caller = caller(&world, "cluster.local").await?;
    for addr in [world.addr(), caller.listener("outbound")] {
        let received = arrives(&world, addr, &[(MARKER, PEER)]).await?;
        assert_eq!(received.header(MARKER), Some(PEER));
    }
    let observed = ["guest", "room"].map(|r| (decision("server", HOST, r), 1));
    decided(&world, &observed).await?;
    assert_eq!(
        world.set_filter_config(mode("off")).await?,
        Update::Accepted
    );
    let received = arrives(&world, world.addr(), &[(MARKER, PEER)]).await?;
    assert_eq!(received.header(MARKER), Some(PEER));
    decided(&world, &observed).await
}

/// Both sides in one chain, under one name: the role alone keeps their counts apart. A request that the client's side
/// sends away is no business of the server's.
#[tokio::test]
async fn two_roles_in_one_proxy_count_apart() -> Result<()> {
    let world = World::builder()
        .filter(plugin_config(1))
        .another_filter(PLUGIN, server(&[HOST]))
        .workers(2)
        .start()
        .await?;
    let mut held = Held::default();
    held.add(&world, world.addr(), 1, "").await?;
    in_flight(&world, "client", HOST, 1).await?;
    in_flight(&world, "server", HOST, 1).await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    held.release(&world).await?;
    for role in ["client", "server"] {
        in_flight(&world, role, HOST, 0).await?;
    }
    let spilled = "destination=.=gke;.;reason=.=limit;.;decisions";
    let expected = [
        (decision("client", HOST, "room"), 1),
        (of_role("client", HOST, spilled), 1),
        (decision("server", HOST, "room"), 1),
    ];
    decided(&world, &expected).await
}

/// A refused configuration leaves a server at work, and a role may be changed while requests are open.
#[tokio::test]
async fn a_server_outlives_a_bad_configuration_and_may_become_a_client() -> Result<()> {
    let configured = |role| metric(&[("plugin", PLUGIN), ("role", role)], "configured");
    let world = World::builder().filter(server(&[HOST])).start().await?;
    world
        .envoy
        .wait_stat(&configured("server"), |n| n > 0)
        .await?;
    for field in ["peers", "trafficPolicy"] {
        let mut bad = server(&[HOST]);
        bad["services"][0][field] = plugin_config(1)["services"][0][field].clone();
        assert_eq!(world.set_filter_config(bad).await?, Update::Accepted);
        let line = format!("services[0].{field}: is not for role: server; remove it");
        let line = world.envoy.wait_log(&line).await?;
        assert!(
            line.contains("the configuration before stays in force"),
            "{line}"
        );
    }
    // Nothing seems to have been a client that is no more.
    let clients = world.envoy.stats_matching("role=.=client").await?;
    assert_eq!(clients, BTreeMap::new());
    let mut held = Held::default();
    held.add(&world, world.addr(), 1, "").await?;
    in_flight(&world, "server", HOST, 1).await?;

    let update = world.set_filter_config(plugin_config(1)).await?;
    assert_eq!(update, Update::Accepted);
    world
        .envoy
        .wait_stat(&configured("client"), |n| n > 0)
        .await?;
    world
        .envoy
        .wait_stat(&configured("server"), |n| n == 0)
        .await?;
    let bad = world.set_filter_config("{}").await?;
    assert_eq!(bad, Update::Accepted);
    world
        .envoy
        .wait_log("the configuration before stays in force: version: is missing")
        .await?;
    held.release(&world).await?;
    for role in ["client", "server"] {
        in_flight(&world, role, HOST, 0).await?;
    }
    Ok(())
}
