//! One multi-primary mesh of the two clusters: there home is both, unless something tells them apart, and a peer that is dead
//! ejects a home that is well. With `wasmplugin/multi-primary` neither is so.

#[path = "multi_primary/home.rs"]
mod home_is_home;
#[path = "multi_primary/ingress.rs"]
mod ingress;
#[path = "dead_peer/load.rs"]
mod load;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{Outcome, Until, answered_by, closed_loop, failed};
use istio_test::experiment::apply_plugin;
use istio_test::federation::{self, answered, edit, manifests, plugin_config, push_module};
use istio_test::fixture::{self, fresh, home, peer};
use istio_test::layout::{CLIENT, CLUSTERS, Cluster, HOME_APP, PEER_APP, PEER_GATEWAY};
use istio_test::mesh::SERVICE;
use istio_test::multi_primary::{self, is_gateway};
use istio_test::proxy::Endpoint;
use istio_test::{Mesh, pod};
use load::{Load, Sent, lost};
use nix::sys::signal::Signal;
use serde_json::json;

/// How long whatever a test waits for may take on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three of four spill at a limit of 1.
const FOUR: [&str; 4] = ["GET", "POST", "GET", "POST"];
const ROOM: &str = "home; reason=room";

/// Both clusters as one mesh, and the folder of manifests, of which none is applied but STRICT mTLS.
async fn joined() -> Result<(Mesh, PathBuf)> {
    let mesh = fresh().await?;
    let (image, digest) = push_module(&mesh).await?;
    let folder = manifests(&mesh, &image, &digest)?;
    // What a multi-primary mesh has of the folder already.
    edit(
        &folder.join("receiver/kustomization.yaml"),
        &[("- gateway.yaml\n", "")],
    )?;
    for cluster in CLUSTERS {
        let receiver = folder.join("receiver");
        mesh.kube(cluster).apply_folder(&receiver).await?;
    }
    multi_primary::join(&mesh).await?;
    federation::reached(&mesh, true).await?;
    Ok((mesh, folder))
}

/// Waits until the client has these priorities for the service: home's, and the peer's if it has it at all.
async fn priorities(mesh: &Mesh, what: &str, home: Option<u64>, peer: Option<u64>) -> Result<()> {
    priorities_in(mesh, what, "", home, peer).await
}

/// The same for a subset of the service.
async fn priorities_in(
    mesh: &Mesh,
    what: &str,
    subset: &str,
    home: Option<u64>,
    peer: Option<u64>,
) -> Result<()> {
    let of = |all: &[Endpoint], is: &dyn Fn(&Endpoint) -> bool| {
        all.iter().find(|one| is(one)).map(|one| one.priority)
    };
    let at_home = |one: &Endpoint| one.address == HOME_APP.ip();
    let at_peer = is_gateway(Cluster::Peer);
    let so = |all: &[Endpoint]| of(all, &at_home) == home && of(all, &at_peer) == peer;
    let cluster = format!("outbound|80|{subset}|{SERVICE}");
    mesh.proxy(&CLIENT).wait_endpoints(what, &cluster, so).await
}

/// Waits until a route of the client's leads to a subset of the service.
async fn led_to(mesh: &Mesh, subset: &str) -> Result<()> {
    let route = format!("\"cluster\": \"outbound|80|{subset}|{SERVICE}\"");
    let led = |config: &str| config.contains(&route);
    let proxy = mesh.proxy(&CLIENT);
    proxy.wait_config("the client knows the way", led).await
}

async fn send(mesh: &Mesh, clients: usize, requests: usize) -> Result<Vec<Outcome>> {
    let load = fixture::load(mesh, clients, Until::Requests(requests)).await?;
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0, "{outcomes:?}");
    Ok(outcomes)
}

/// How often the client's filter decided so.
async fn decided(mesh: &Mesh, destination: &str, reason: &str) -> Result<i64> {
    let (destination, reason) = (
        format!("destination=.={destination};."),
        format!("reason=.={reason};."),
    );
    let parts = ["peer_spillover", "decisions", &destination, &reason];
    mesh.proxy(&CLIENT).sum(&parts).await
}

/// Waits until so many of the requests that the client spilled have ended so.
async fn outcomes(mesh: &Mesh, so: &str, n: i64) -> Result<()> {
    let parts = ["peer_spillover", "outcomes", so];
    let proxy = mesh.proxy(&CLIENT);
    proxy.wait_sum(&parts, |sum| sum == n).await?;
    Ok(())
}

fn ejecting(limit: u32) -> serde_json::Value {
    let mut config = plugin_config(limit);
    config["services"][0]["trafficPolicy"]["outlierDetection"] = json!({"consecutive5xxErrors": 5});
    config
}

/// The endpoints of the service are both clusters' and nothing prefers one: what the filter leaves at home goes to either.
/// What Istio answers for the dead peer then counts against home.
#[tokio::test(flavor = "multi_thread")]
async fn without_measures_home_is_both_clusters_and_a_dead_peer_ejects_it() -> Result<()> {
    let (mesh, folder) = joined().await?;
    let way = folder.join("federation");
    mesh.kube(Cluster::Home).apply_folder(&way).await?;
    apply_plugin(&mesh, &folder, &ejecting(100)).await?;
    priorities(&mesh, "nothing is preferred", Some(0), Some(0)).await?;
    let outcomes = send(&mesh, 1, 40).await?;
    assert!(outcomes.iter().all(|one| one.decision == ROOM));
    let (here, there) = (
        answered_by(&outcomes, &home()),
        answered_by(&outcomes, &peer()),
    );
    println!("one client, all `{ROOM}`: {here} answered at home, {there} at the peer");
    assert!(here > 0 && there > 0, "{here} {there}");

    let load = Load::of(&mesh, &FOUR).await?;
    let peers = mesh.layout.namespace(&PEER_APP);
    mesh.kill(&peers, "server", Signal::SIGKILL).await?;
    mesh.proxy(&CLIENT)
        .wait_sum(&["peer_spillover", ";.;ejections"], |n| n > 0)
        .await?;
    let sent = load.finish().await?;
    let of_home = lost(&sent).into_iter().filter(|one| !one.spilled);
    let (errors, ejected) = (of_home.count(), decided(&mesh, "gke", "ejected").await?);
    println!(
        "the peer dead, of {}: {errors} errors of \"home\", {ejected} `ejected`",
        sent.len()
    );
    assert!(errors > 0, "{sent:?}");
    Ok(())
}

/// The folder, with a limit of 1 and a detection of home's errors: it carries the surplus to the peer, and comes home from a
/// peer that is dead. Home, which is well, is not ejected for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_carries_the_surplus_and_a_dead_peer_ejects_nobody() -> Result<()> {
    let (mesh, folder) = joined().await?;
    apply_multi_primary(&mesh, &folder).await?;
    priorities(&mesh, "home comes first", Some(0), Some(1)).await?;

    let surplus = send(&mesh, 3, 120).await?;
    let (stayed, left) = (
        decided(&mesh, "home", "room").await?,
        decided(&mesh, "gke", "limit").await?,
    );
    println!("three clients: {stayed} home, {left} peer");
    assert_eq!(stayed + left, 120);
    assert_eq!(answered_by(&surplus, &home()) as i64, stayed);
    assert_eq!(answered_by(&surplus, &peer()) as i64, left);
    assert!(stayed > 0 && left > 0, "{stayed} {left}");

    let kill = async || mesh.kill_proxy(&PEER_GATEWAY).await;
    let start = async || mesh.start_proxy(&PEER_GATEWAY).await;
    let mut sent = dies_and_comes_back(&mesh, kill, start).await?;
    // Lost is what was under way, one request of each client at most. All else came home, writes too.
    for client in 0..FOUR.len() {
        let of = lost(&sent).into_iter().filter(|one| one.client == client);
        assert!(of.count() <= 1, "{:?}", lost(&sent));
    }
    for method in FOUR {
        let came = |one: &Sent| one.method == method && one.returned();
        assert!(sent.iter().any(came), "no {method} came home");
    }

    // Now its sidecar answers for it.
    let pod = mesh.layout.namespace(&PEER_APP);
    let kill = async || mesh.kill(&pod, "server", Signal::SIGKILL).await;
    let start = async || pod::start_app(&mesh.layout, &PEER_APP).await;
    sent.extend(dies_and_comes_back(&mesh, kill, start).await?);
    for one in lost(&sent) {
        assert!(one.spilled && one.status == 503, "{one:?}");
    }

    // The plugin knows who answered, though the endpoints are Istio's and no locality names their cluster.
    let count = |is: fn(&Sent) -> bool| sent.iter().filter(|one| is(one)).count() as i64;
    let success = ";.;response_code_class=.=2xx";
    let by_peer = left + count(Sent::by_peer);
    outcomes(&mesh, &format!("=gke{success}"), by_peer).await?;
    let returned = count(Sent::returned);
    outcomes(&mesh, &format!("=returned{success}"), returned).await?;
    outcomes(&mesh, "", left + count(|one| one.spilled)).await?;

    a_single_request_finds_out(&mesh).await?;
    let ejections = ["peer_spillover", ";.;ejections"];
    assert_eq!(mesh.proxy(&CLIENT).sum(&ejections).await?, 0);
    assert_eq!(decided(&mesh, "gke", "ejected").await?, 0);
    Ok(())
}

/// A load under which something of the peer's dies, and comes back once its requests come home.
async fn dies_and_comes_back(
    mesh: &Mesh,
    dies: impl AsyncFnOnce() -> Result<()>,
    comes_back: impl AsyncFnOnce() -> Result<()>,
) -> Result<Vec<Sent>> {
    let load = Load::of(mesh, &FOUR).await?;
    let answers = "the peer answers";
    load.wait(answers, load.now(), 20, Sent::by_peer).await?;
    dies().await?;
    load.wait("spills come home", load.now(), 40, Sent::returned)
        .await?;
    comes_back().await?;
    load.wait(answers, load.now(), 20, Sent::by_peer).await?;
    load.finish().await
}

/// A request to a gateway of which nothing tells yet that it is dead comes home.
async fn a_single_request_finds_out(mesh: &Mesh) -> Result<()> {
    let held = fixture::hold(mesh, SERVICE).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let answer = fixture::get(mesh, "/", &[]).await?;
    assert_eq!((answer.status, answered(&answer)), (200, home()));
    assert!(answer.header("x-peer-spillover").starts_with("gke"));
    drop(held);
    Ok(())
}

/// Where home has no pods left Envoy goes to the peer by itself, and the filter does not know.
#[tokio::test(flavor = "multi_thread")]
async fn without_pods_at_home_the_peer_answers_what_stays() -> Result<()> {
    let (mesh, folder) = joined().await?;
    apply_multi_primary(&mesh, &folder).await?;
    mesh.kube(Cluster::Home).apply(NO_PODS).await?;
    priorities(&mesh, "home has no pods", None, Some(0)).await?;
    let outcomes = send(&mesh, 1, 20).await?;
    for one in outcomes {
        assert_eq!(
            (one.served_by.as_str(), one.decision.as_str()),
            (peer().as_str(), ROOM)
        );
    }
    Ok(())
}

/// The subset of a peer without pods is home's own.
#[tokio::test(flavor = "multi_thread")]
async fn without_pods_at_the_peer_the_surplus_comes_home() -> Result<()> {
    let (mesh, folder) = joined().await?;
    apply_multi_primary(&mesh, &folder).await?;
    mesh.kube(Cluster::Peer).apply(NO_PODS).await?;
    priorities_in(&mesh, "the peer has no pods", "gke", Some(0), None).await?;
    let outcomes = send(&mesh, 3, 60).await?;
    assert_eq!(answered_by(&outcomes, &home()), 60);
    let left = decided(&mesh, "gke", "limit").await?;
    println!("the peer empty: {left} of 60 left and came home");
    assert!(left > 0);
    let returned = ["peer_spillover", "outcomes", "=returned;.;"];
    assert_eq!(mesh.proxy(&CLIENT).sum(&returned).await?, left);
    Ok(())
}

/// No endpoint of the service, in the cluster where it is applied.
const NO_PODS: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
    metadata: {name: a-1, namespace: istio, labels: {kubernetes.io/service-name: a}},
    ports: [{name: http, port: 8080, protocol: TCP}], endpoints: []}";

/// What the folder's user does, with the smallest limit, and with ejection.
async fn apply_multi_primary(mesh: &Mesh, folder: &Path) -> Result<()> {
    let ours = folder.join("multi-primary");
    edit(
        &ours.join("wasmplugin.yaml"),
        &[
            ("http2MaxRequests: 100", "http2MaxRequests: 1"),
            ("# outlierDetection:", "outlierDetection:"),
            ("mode: observe", "debugHeader: true"),
        ],
    )?;
    // What `keep-alive.yaml` says in the root namespace, where this one's does not come before it.
    edit(
        &ours.join("destinationrule.yaml"),
        &[(
            "  trafficPolicy:\n    # Home",
            "  trafficPolicy:\n    connectionPool: {http: {idleTimeout: 2s}}\n    # Home",
        )],
    )?;
    mesh.kube(Cluster::Home).apply_folder(&ours).await?;
    led_to(mesh, "gke").await?;
    let proxy = mesh.proxy(&CLIENT);
    proxy
        .wait_sum(&["peer_spillover", "configured"], |running| running > 0)
        .await?;
    proxy.wait_settled().await
}
