//! `role: edge`, at an entrance to the mesh: nobody outside can lend the filter's headers the certificate of the proxy.

use anyhow::Result;
use envoy_test::world::{HOME, HOST, PEER, PLUGIN, Update, metric, plugin_config};
use envoy_test::{Client, World};
use serde_json::{Value, json};

const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";

fn edge(mode: &str) -> Value {
    json!({"version": 1, "cluster": HOME, "role": "edge", "mode": mode})
}

/// Home's proxy as an ingress that forwards to the application: without a certificate by `outbound`, with one by `gateway`.
async fn ingress(config: Value) -> Result<World> {
    World::builder()
        .filter(config)
        .peer_filter(edge("off"))
        .start()
        .await
}

/// Those of the two headers that the application received of a request with both, by a client of this trust domain, or by
/// one without a certificate.
async fn arrives(world: &World, trust_domain: Option<&str>) -> Result<[Option<String>; 2]> {
    let caller = match trust_domain {
        Some(trust_domain) => {
            let leaf = world.certs().leaf(trust_domain, "istio", "caller")?;
            let gateway = world.envoy.listener("gateway");
            Some(world.tls_client(gateway, Some(&leaf)).await?)
        }
        None => None,
    };
    let addr = caller
        .as_ref()
        .map_or(world.addr(), |caller| caller.listener("outbound"));
    world.home.clear();
    let sent = [(MARKER, PEER), (TO, "venus"), ("x-own", "kept")];
    let answer = Client::http1(addr).await?.get(HOST, &sent).await?;
    assert_eq!((answer.status, answer.served_by()), (200, HOME));
    let received = &world.home.requests()[0];
    assert_eq!(received.header("x-own"), Some("kept"));
    Ok([MARKER, TO].map(|name| received.header(name).map(str::to_owned)))
}

fn kept() -> [Option<String>; 2] {
    [Some(PEER.to_owned()), Some("venus".to_owned())]
}

async fn forged(world: &World) -> Result<i64> {
    let name = metric(&[("plugin", PLUGIN), ("role", "edge")], "forged_headers");
    Ok(world.envoy.stat(&name).await?.unwrap_or(0))
}

#[tokio::test]
async fn an_outsiders_headers_are_removed_and_a_mesh_clients_are_not() -> Result<()> {
    let world = ingress(edge("enforce")).await?;
    assert_eq!(arrives(&world, None).await?, [None, None]);
    assert_eq!(
        arrives(&world, Some("elsewhere.example")).await?,
        [None, None]
    );
    assert_eq!(forged(&world).await?, 2);
    assert_eq!(arrives(&world, Some("cluster.local")).await?, kept());
    // One alone, and a name that has a route to the peer.
    for header in [(MARKER, HOME), (TO, PEER)] {
        assert_eq!(world.get(&[header]).await?.served_by(), HOME);
    }
    for received in &world.home.requests()[1..] {
        assert_eq!((received.header(MARKER), received.header(TO)), (None, None));
    }
    assert_eq!(forged(&world).await?, 4);
    // Nothing is counted for a service, and what the role has to say of itself is said.
    assert!(world.envoy.stats_matching(";.;decisions").await?.is_empty());
    let configured = metric(&[("plugin", PLUGIN), ("role", "edge")], "configured");
    world.envoy.wait_stat(&configured, |n| n == 2).await?;
    // Other trust domains, in place of the proxy's own.
    let mut config = edge("enforce");
    config["trustDomains"] = json!(["elsewhere.example"]);
    assert_eq!(world.set_filter_config(config).await?, Update::Accepted);
    assert_eq!(arrives(&world, Some("elsewhere.example")).await?, kept());
    assert_eq!(arrives(&world, Some("cluster.local")).await?, [None, None]);
    Ok(())
}

#[tokio::test]
async fn observe_counts_and_off_does_nothing() -> Result<()> {
    let world = ingress(edge("observe")).await?;
    assert_eq!(arrives(&world, None).await?, kept());
    assert_eq!(forged(&world).await?, 1);
    assert_eq!(
        world.set_filter_config(edge("off")).await?,
        Update::Accepted
    );
    assert_eq!(arrives(&world, None).await?, kept());
    assert_eq!(forged(&world).await?, 1);
    // A bad one leaves the good one at work.
    assert_eq!(
        world.set_filter_config(edge("enforce")).await?,
        Update::Accepted
    );
    assert_eq!(arrives(&world, None).await?, [None, None]);
    let mut bad = edge("enforce");
    bad["services"] = json!([]);
    assert_eq!(world.set_filter_config(bad).await?, Update::Accepted);
    world
        .envoy
        .wait_log("stays in force: services: is not for role: edge; remove it")
        .await?;
    assert_eq!(arrives(&world, None).await?, [None, None]);
    Ok(())
}

/// In one chain with a client's plugin, whichever comes first, what that one sends away keeps its headers.
#[tokio::test]
async fn what_a_client_plugin_of_the_same_proxy_spills_keeps_its_headers() -> Result<()> {
    let mut client = plugin_config(1);
    client["services"][0]["routing"] = "header".into();
    client["services"][0]["mode"] = "evacuate".into();
    for (first, second) in [(client.clone(), edge("enforce")), (edge("enforce"), client)] {
        let world = World::builder()
            .filter(first)
            .another_filter("istio-system.other", second)
            .start()
            .await?;
        let answer = world.get(&[(MARKER, PEER), (TO, "venus")]).await?;
        assert_eq!(answer.served_by(), PEER);
        let received = &world.peer.requests()[0];
        let both = (received.header(MARKER), received.header(TO));
        assert_eq!(both, (Some(HOME), Some(PEER)));
    }
    Ok(())
}
