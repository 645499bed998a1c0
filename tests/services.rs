//! Services: by the resolved cluster, by authority, `"*"`, a hundred in one configuration, and what is none of them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use envoy_test::client::{Answer, get, read};
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PEER, decisions, peer_host, plugin_config, service_metric};
use envoy_test::{Client, Envoy, EnvoyOptions, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const OTHER: &str = "b.istio.svc.cluster.local";

fn service(host: &str, limit: u32) -> Value {
    json!({
        "host": host,
        "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": limit}}},
        "peers": [{"name": PEER, "host": peer_host(host, PEER)}],
    })
}

/// Requests that wait at home until the test lets them go.
struct Held {
    answers: JoinSet<Result<Answer>>,
    // The connection lives as long as its client.
    _client: Client,
}

impl Held {
    /// One to each of these authorities, over HTTP/2; returns when all are at home.
    async fn at_home<T: AsRef<str>>(world: &World, hosts: &[T]) -> Result<Held> {
        world.home.clear();
        let mut answers = JoinSet::new();
        let mut client = Client::http2(world.addr()).await?;
        for host in hosts {
            let sent = client.start(get(host.as_ref(), &[("x-hold", "h")])?);
            answers.spawn(async move { read(sent.await?).await });
        }
        world.home.wait_in_flight(hosts.len()).await?;
        Ok(Held {
            answers,
            _client: client,
        })
    }

    async fn release(mut self, world: &World) -> Result<()> {
        world.home.release("h");
        while let Some(answer) = self.answers.join_next().await {
            let answer = answer??;
            assert_eq!((answer.status, answer.served_by()), (200, HOME));
        }
        world.home.wait_in_flight(0).await
    }
}

/// `GET /` of this authority, over HTTP/1.1 (where it is the Host) or HTTP/2.
async fn get_of(world: &World, host: &str, http2: bool) -> Result<Answer> {
    let answer = world.client(http2).await?.get(host, &[]).await?;
    assert_eq!(answer.status, 200, "{host}");
    Ok(answer)
}

async fn count(world: &World, host: &str) -> Result<i64> {
    let in_flight = world.envoy.stat(&service_metric(host, "in_flight")).await?;
    Ok(in_flight.unwrap_or(0))
}

/// The route says which service it is, so all names of one share its limit.
#[tokio::test]
async fn whatever_alias_the_client_used() -> Result<()> {
    let aliases = [
        "a",
        "a.istio",
        "a.istio.svc",
        "a.istio.svc.cluster.local",
        "a:80",
        "a.istio.svc.cluster.local:80",
        "A.Istio",
    ];
    let limit = aliases.len() as u32;
    let world = World::builder()
        .filter(plugin_config(limit))
        .start()
        .await?;
    // Each alias takes a slot of the one service…
    let held = Held::at_home(&world, &aliases).await?;
    assert_eq!(world.in_flight().await?, i64::from(limit));
    // …and by each alias it is found full.
    for alias in aliases {
        for http2 in [false, true] {
            world.peer.clear();
            assert_eq!(
                get_of(&world, alias, http2).await?.served_by(),
                PEER,
                "{alias}"
            );
            // The peer sees the service's canonical name.
            assert_eq!(world.peer.requests()[0].host, HOST, "{alias}");
        }
    }
    held.release(&world).await?;
    world.wait_idle().await
}

/// Where the clusters' names say nothing, the authority does: the host itself, with a port or without.
#[tokio::test]
async fn by_authority_where_clusters_have_other_names() -> Result<()> {
    let config = json!({
        "version": 1, "cluster": HOME, "debugHeader": true,
        "services": [service(HOST, 2), service(OTHER, 1)],
    });
    let world = World::builder()
        .filter(config)
        .hosts([HOST, OTHER])
        .plain_cluster_names()
        .start()
        .await?;
    let names = [HOST, "a.istio.svc.cluster.local:80"];
    let held = Held::at_home(&world, &names).await?;
    assert_eq!(
        (count(&world, HOST).await?, count(&world, OTHER).await?),
        (2, 0)
    );
    for name in [
        HOST,
        "a.istio.svc.cluster.local:80",
        "A.istio.svc.Cluster.local",
    ] {
        for http2 in [false, true] {
            assert_eq!(
                get_of(&world, name, http2).await?.served_by(),
                PEER,
                "{name}"
            );
        }
    }
    // The other service has room, and an alias is no service's authority.
    assert_eq!(
        get_of(&world, OTHER, false)
            .await?
            .header("x-peer-spillover"),
        "home; reason=room"
    );
    let alias = get_of(&world, "a.istio", false).await?;
    assert_eq!(
        (alias.served_by(), alias.header("x-peer-spillover")),
        (HOME, "")
    );
    held.release(&world).await?;
    world.wait_idle().await
}

/// `"*"` alone is whatever the proxy serves, under one limit.
#[tokio::test]
async fn a_star_is_every_host() -> Result<()> {
    for plain in [false, true] {
        let mut config = plugin_config(2);
        config["services"][0]["host"] = json!("*");
        let builder = World::builder().filter(config).hosts([HOST, OTHER]);
        let builder = if plain {
            builder.plain_cluster_names()
        } else {
            builder
        };
        let world = builder.start().await?;
        let held = Held::at_home(&world, &["a", OTHER]).await?;
        assert_eq!(count(&world, "*").await?, 2);
        for host in [HOST, OTHER, "a.istio", "b.istio:80"] {
            assert_eq!(
                get_of(&world, host, false).await?.served_by(),
                PEER,
                "{host}"
            );
        }
        let decisions = decisions(&world.envoy, "*").await?;
        let spilled = decisions.get(&(PEER.to_owned(), "limit".to_owned()));
        assert_eq!(spilled, Some(&4), "{decisions:?}");
        held.release(&world).await?;
        let idle = service_metric("*", "in_flight");
        world.envoy.wait_stat(&idle, |value| value == 0).await?;
    }
    Ok(())
}

/// Under a virtual host `*` a client may say any host or none that is right: what goes to a cluster by a service's name is
/// that service's.
#[tokio::test]
async fn a_cluster_by_a_services_name_is_that_service_whatever_the_client_says() -> Result<()> {
    let mut config = json!({
        "version": 1, "cluster": HOME, "debugHeader": true, "services": [service("home", 1)],
    });
    config["services"][0]["peers"][0]["host"] = peer_host(HOST, PEER).into();
    let world = under_any_host(config, "home").await?;
    let names = [
        "home", "anything", "HOME:80", "a.istio.", "1.2.3.4", "[::1]:80", "x",
    ];
    let held = Held::at_home(&world, &["other"]).await?;
    assert_eq!(count(&world, "home").await?, 1);
    for name in names {
        for http2 in [false, true] {
            let answer = get_of(&world, name, http2).await?;
            assert_eq!(answer.served_by(), PEER, "{name}");
        }
    }
    // HTTP/1.0 without a host.
    let mut stream = TcpStream::connect(world.addr()).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    assert!(
        text.contains(&format!("x-peer-spillover: {PEER}; reason=limit")),
        "{text}"
    );
    held.release(&world).await?;
    let idle = service_metric("home", "in_flight");
    world.envoy.wait_stat(&idle, |value| value == 0).await?;
    Ok(())
}

/// Where the cluster's name is none of a service's, the authority says it, however it is written. Any other host is nobody's:
/// it is neither counted nor limited.
#[tokio::test]
async fn under_any_host_an_authority_names_its_service_however_it_is_written() -> Result<()> {
    let config = json!({
        "version": 1, "cluster": HOME, "debugHeader": true, "services": [service(HOST, 1)],
    });
    let world = under_any_host(config, "some-cluster").await?;
    let held = Held::at_home(&world, &[HOST]).await?;
    assert_eq!(count(&world, HOST).await?, 1);
    let upper = HOST.to_uppercase();
    for name in ["a", "A", "a.", "a:80", "a.:8080"]
        .map(|a| a.replacen('a', HOST, 1).replacen('A', &upper, 1))
    {
        for http2 in [false, true] {
            let answer = get_of(&world, &name, http2).await?;
            assert_eq!(answer.served_by(), PEER, "{name}");
        }
    }
    for name in ["anything", "a.istio", "b.istio.svc.cluster.local"] {
        let answer = get_of(&world, name, false).await?;
        assert_eq!(
            (answer.served_by(), answer.header("x-peer-spillover")),
            (HOME, ""),
            "{name}"
        );
    }
    assert_eq!(count(&world, HOST).await?, 1);
    held.release(&world).await?;
    world.wait_idle().await
}

/// Home's proxy with one virtual host for all but the peer's host, `*`, that leads to a cluster of this name.
async fn under_any_host(config: Value, cluster: &str) -> Result<World> {
    let mut world = World::builder().filter(config).start().await?;
    let path = world.envoy.dir().join("envoy.yaml");
    let mut bootstrap: Value = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
    let resources = &mut bootstrap["static_resources"];
    let home = format!("outbound|80||{HOST}");
    for known in resources["clusters"].as_array_mut().into_iter().flatten() {
        if known["name"] == home.as_str() {
            known["name"] = cluster.into();
            known["load_assignment"]["cluster_name"] = cluster.into();
        }
    }
    let hcm = &mut resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    hcm["http_protocol_options"] =
        json!({"accept_http_10": true, "default_host_for_http_10": "nobody"});
    let hosts = hcm["route_config"]["virtual_hosts"].as_array_mut();
    let hosts = hosts.context("virtual hosts")?;
    hosts.retain(|host| host["domains"][0] == peer_host(HOST, PEER).as_str());
    hosts.push(json!({
        "name": "any", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
    }));
    world.envoy = Envoy::start(bootstrap.to_string(), EnvoyOptions::default()).await?;
    Ok(world)
}

/// A hundred services in one configuration: each has its own limit, its own count, its own way to the peer.
#[tokio::test]
async fn a_hundred_services_each_with_its_own_count() -> Result<()> {
    let hosts: Vec<String> = (0..100)
        .map(|n| format!("s{n}.istio.svc.cluster.local"))
        .collect();
    let limit = |n: usize| 1 + n % 3;
    let services: Vec<Value> = hosts
        .iter()
        .enumerate()
        .map(|(n, host)| service(host, limit(n) as u32))
        .collect();
    let config = json!({"version": 1, "cluster": HOME, "services": services});
    let world = World::builder()
        .filter(config)
        .hosts(hosts.clone())
        .workers(2)
        .start()
        .await?;

    // Every service exactly full: if two shared a count, one of these would not be at home.
    let fill: Vec<&String> = hosts
        .iter()
        .enumerate()
        .flat_map(|(n, host)| vec![host; limit(n)])
        .collect();
    let held = Held::at_home(&world, &fill).await?;
    let expected = hosts.iter().enumerate();
    let expected = expected.map(|(n, host)| (service_metric(host, "in_flight"), limit(n) as i64));
    let expected: BTreeMap<String, i64> = expected.collect();
    let counts = world.envoy.stats_matching(";.;in_flight").await?;
    assert_eq!(counts, expected);
    // One more of each leaves, and arrives as what it is.
    for host in &hosts {
        world.peer.clear();
        assert_eq!(
            get_of(&world, host, true).await?.served_by(),
            PEER,
            "{host}"
        );
        assert_eq!(&world.peer.requests()[0].host, host);
    }
    held.release(&world).await?;
    until_some("every count is back at 0", async || {
        let counts = world.envoy.stats_matching(";.;in_flight").await.ok()?;
        counts.values().all(|n| *n == 0).then_some(())
    })
    .await?;
    let mut expected = BTreeMap::new();
    for (n, host) in hosts.iter().enumerate() {
        let decided = |destination: &str, reason: &str| {
            let of = format!("destination=.={destination};.;reason=.={reason};.;decisions");
            service_metric(host, &of)
        };
        expected.insert(decided("home", "room"), limit(n) as i64);
        expected.insert(decided(PEER, "limit"), 1);
    }
    assert_eq!(world.envoy.stats_matching(";.;decisions").await?, expected);
    Ok(())
}

/// A request for a host that no service names is none of ours, full or not; what names a peer of ours goes all the same.
#[tokio::test]
async fn another_host_passes_untouched() -> Result<()> {
    let seen = |world: &World| -> Vec<(String, String)> {
        let mut headers = world.home.requests()[0].headers.clone();
        // Envoy's own, new for each request.
        headers.retain(|(name, _)| name != "x-request-id");
        headers.sort();
        headers
    };
    let send = [("x-own", "kept"), ("x-peer-spillover-to", "venus")];
    let bare = World::builder()
        .without_filter()
        .hosts([HOST, OTHER])
        .start()
        .await?;
    bare.client(false).await?.get(OTHER, &send[..1]).await?;

    for plain in [false, true] {
        let builder = World::builder().hosts([HOST, OTHER]);
        let builder = if plain {
            builder.plain_cluster_names()
        } else {
            builder
        };
        let world = builder.start().await?;
        let full = Held::at_home(&world, &[HOST]).await?;
        assert_eq!(
            get_of(&world, HOST, false).await?.served_by(),
            PEER,
            "{HOST} is full"
        );
        world.home.clear();
        let answer = world.client(false).await?.get(OTHER, &send).await?;
        assert_eq!((answer.status, answer.served_by()), (200, HOME));
        assert_eq!(answer.header("x-peer-spillover"), "");
        assert_eq!(seen(&world), seen(&bare));
        // Nor is it counted or limited.
        full.release(&world).await?;
        let many = Held::at_home(&world, &[OTHER; 20]).await?;
        assert!(
            world
                .envoy
                .stats_matching(OTHER)
                .await?
                .keys()
                .all(|name| !name.starts_with("wasmcustom."))
        );
        assert_eq!(world.get(&[]).await?.served_by(), HOME, "{HOST} has room");
        many.release(&world).await?;
        world.wait_idle().await?;
    }
    Ok(())
}
