//! Two plugins in one proxy.

use anyhow::Result;
use envoy_test::load::{Outcome, Until, answered_by, closed_loop, failed};
use istio_test::federation::{plugin_config, wasmplugin};
use istio_test::fixture::{self, federated, home, load, peer};
use istio_test::layout::{CLIENT, Cluster, HOME_APP, PodSpec, SYSTEM};
use istio_test::mesh::{Mesh, SERVICE};
use serde_json::json;

use crate::plugin::{apply, manifest};
use crate::traffic::{CLIENTS, PACE, PATH, shown};

/// Of each load. A whole number, so that counts can be compared.
const REQUESTS: usize = 300;

/// A hundred requests a second from `pod`, none of which may fail.
async fn send(mesh: &Mesh, pod: &PodSpec) -> Result<Vec<Outcome>> {
    let mut load = load(mesh, CLIENTS, Until::Requests(REQUESTS)).await?;
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    load.dial = mesh.dial(pod, &format!("{address}:80"));
    load.path = PATH.to_owned();
    load.pace = PACE;
    let outcomes = closed_loop(load).await?;
    let done = (outcomes.len(), failed(&outcomes));
    assert_eq!(done, (REQUESTS, 0), "{}", shown(&outcomes));
    Ok(outcomes)
}

/// How many requests a plugin in the proxy of `pod` has decided to send home, and how many to the peer.
async fn decided(mesh: &Mesh, pod: &PodSpec, plugin: &str) -> Result<(i64, i64)> {
    let (proxy, plugin) = (mesh.proxy(pod), format!("plugin=.={plugin}_"));
    let sum = async |to: &str| proxy.sum(&[plugin.as_str(), to, ";.;decisions"]).await;
    Ok((
        sum("destination=.=home;.").await?,
        sum("destination=.=gke;.").await?,
    ))
}

async fn runs(mesh: &Mesh, pod: &PodSpec, plugin: &str) -> Result<()> {
    let plugin = format!("plugin=.={plugin}_");
    let proxy = mesh.proxy(pod);
    proxy
        .wait_sum(&[&plugin, "configured"], |running| running > 0)
        .await?;
    proxy.wait_settled().await
}

/// The plugin of the root namespace, which is for all, is asked first, since its priority is higher; what it spilled, that
/// of the own namespace leaves alone and does not count.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_root_namespace_and_of_its_own() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let mut of_all = manifest(&folder, &plugin_config(3), |spec| {
        spec["priority"] = 10.into()
    })?;
    of_all["metadata"]["namespace"] = SYSTEM.into();
    apply(&mesh, &of_all).await?;
    apply(&mesh, &manifest(&folder, &plugin_config(1), |_| ())?).await?;
    let [first, second] = ["istio-system.peer-spillover", "istio.peer-spillover"];
    runs(&mesh, &CLIENT, first).await?;
    runs(&mesh, &CLIENT, second).await?;

    let outcomes = send(&mesh, &CLIENT).await?;
    let (home_first, spilled_first) = decided(&mesh, &CLIENT, first).await?;
    let (home_second, spilled_second) = decided(&mesh, &CLIENT, second).await?;
    let counts = format!("{home_first} {spilled_first} {home_second} {spilled_second}");
    assert!(
        spilled_first > 0 && spilled_second > 0,
        "both have a limit: {counts}"
    );
    assert_eq!(home_first + spilled_first, REQUESTS as i64, "{counts}");
    assert_eq!(home_second + spilled_second, home_first, "{counts}");
    assert_eq!(
        answered_by(&outcomes, &home()) as i64,
        home_second,
        "{counts}"
    );
    assert_eq!(
        answered_by(&outcomes, &peer()) as i64,
        spilled_first + spilled_second,
        "{counts}"
    );
    // `debugHeader` says what became of a request, whichever of the two decided.
    let left = format!("{};", Cluster::Peer.name());
    let truly = |o: &&Outcome| (o.served_by == peer()) == o.decision.starts_with(&left);
    let told = outcomes.iter().filter(truly).count();
    assert_eq!(told, REQUESTS, "{}", shown(&outcomes));
    fixture::in_flight(&mesh, 0).await?;
    Ok(())
}

/// The service's own sidecar, which also sends: what it sends out and what arrives is counted apart.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_client_and_of_a_server() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply(&mesh, &manifest(&folder, &plugin_config(1), |_| ())?).await?;
    let config = json!({
        "version": 1,
        "cluster": Cluster::Home.name(),
        "role": "server",
        "services": [{"host": SERVICE}],
    });
    let mut server = wasmplugin(&folder.join("client-sidecar"), &config)?;
    server["metadata"]["name"] = "server".into();
    server["spec"]["match"] = json!([{"mode": "SERVER"}]);
    server["spec"]["selector"] = json!({"matchLabels": {"app": HOME_APP.name}});
    apply(&mesh, &server).await?;
    let [client, server] = ["istio.peer-spillover", "istio.server"];
    runs(&mesh, &CLIENT, client).await?;
    runs(&mesh, &HOME_APP, client).await?;
    runs(&mesh, &HOME_APP, server).await?;

    // This sidecar has been there before this test.
    let sent_before = decided(&mesh, &HOME_APP, client).await?;
    let arrived_before = decided(&mesh, &HOME_APP, server).await?;
    let (own, clients) = tokio::join!(send(&mesh, &HOME_APP), send(&mesh, &CLIENT));
    let (own, clients) = (own?, clients?);
    let by = |outcomes: &[Outcome], name: String| answered_by(outcomes, &name) as i64;
    let sent = decided(&mesh, &HOME_APP, client).await?;
    let sent = (sent.0 - sent_before.0, sent.1 - sent_before.1);
    assert_eq!(sent, (by(&own, home()), by(&own, peer())));
    assert!(sent.0 > 0 && sent.1 > 0, "some stayed, some left: {sent:?}");
    let arrived = decided(&mesh, &HOME_APP, server).await?;
    let arrived = (arrived.0 - arrived_before.0, arrived.1 - arrived_before.1);
    assert_eq!(arrived, (by(&own, home()) + by(&clients, home()), 0));
    Ok(())
}
