//! Where requests go when nothing leads to the peer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{Outcome, Until, answered_by, closed_loop, failed};
use envoy_test::wait::until_some;
use istio_test::Mesh;
use istio_test::control::write_mesh_config;
use istio_test::experiment::apply_plugin;
use istio_test::federation::{PEER_HOST, answered, peer_cluster, plugin_config};
use istio_test::fixture::{federated, get, hold, home, in_flight, load, peer};
use istio_test::layout::{CLIENT, Cluster, PEER_GATEWAY};
use istio_test::mesh::SERVICE;
use istio_test::pod::WORKERS;
use serde_json::json;

use crate::{TO, apply, by_header, config};

const MISROUTES: [&str; 2] = ["peer_spillover", "misroutes"];

/// The most that may be lost of a load where no look finds the way: what tries all the same, which two workers may do at once.
const TRIES: usize = 2;

/// Six clients on a limit of 1, of whose requests so many may be lost. Returns how many the peer answered.
async fn is_lost(mesh: &Mesh, requests: usize, most: usize) -> Result<usize> {
    let outcomes = closed_loop(load(mesh, 6, Until::Requests(requests)).await?).await?;
    let lost = failed(&outcomes);
    assert!(lost <= most, "{outcomes:?}");
    let by_peer = answered_by(&outcomes, &peer());
    assert_eq!(answered_by(&outcomes, &home()) + by_peer + lost, requests);
    in_flight(mesh, 0).await?;
    Ok(by_peer)
}

/// The catch-all's name in the client's routes, by what the mesh does with hosts that it does not know.
const POLICIES: [(&str, &str); 2] = [
    ("ALLOW_ANY", "\"name\": \"allow_any\""),
    ("REGISTRY_ONLY", "\"name\": \"block_all\""),
];

/// All stay home, and it is said that they could not leave.
async fn all_stay(mesh: &Mesh, when: &str) -> Result<()> {
    let proxy = mesh.proxy(&CLIENT);
    let before = proxy.sum(&MISROUTES).await?;
    assert_eq!(is_lost(mesh, 60, TRIES).await?, 0, "{when}");
    let misroutes = proxy.sum(&MISROUTES).await? - before;
    println!("{when}: {misroutes} of 60 found no way to the peer");
    assert!(misroutes > 0, "{when}");
    Ok(())
}

/// Waits until a request beyond the limit is answered by the peer; no more may fail meanwhile than try the way.
async fn found(mesh: &Mesh) -> Result<()> {
    let held = hold(mesh, SERVICE).await?;
    let mut lost = 0;
    until_some("the peer is found", async || {
        let answer = get(mesh, "/", &[]).await.ok()?;
        lost += usize::from(answer.status != 200);
        assert!(lost <= TRIES, "{answer:?}");
        (answered(&answer) == peer()).then_some(())
    })
    .await?;
    drop(held);
    in_flight(mesh, 0).await
}

/// How often the filter has said that nothing leads to the peer, in all that the client's proxies have written.
fn said(mesh: &Mesh) -> Result<usize> {
    Ok(mesh
        .proxy_log(&CLIENT)?
        .matches("nothing leads to peer gke")
        .count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_service_entry_costs_nothing_and_the_peer_is_found_when_it_is_there()
-> Result<()> {
    let (mesh, folder) = federated().await?;
    remove_service_entry(&mesh).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let said_before = said(&mesh)?;
    for with in ["with", "without"] {
        if with == "without" {
            let arguments = ["delete", "virtualservice", "a-gke", "-n", "istio"];
            mesh.kube(Cluster::Home).kubectl(&arguments).await?;
        }
        for (policy, catch_all) in POLICIES {
            let line = format!("outboundTrafficPolicy: {{mode: {policy}}}\n");
            write_mesh_config(&mesh.layout, Cluster::Home, &line)?;
            let host = format!("\"{PEER_HOST}:80\"");
            let there = |config: &str| {
                config.contains(catch_all) && config.contains(&host) == (with == "with")
            };
            mesh.proxy(&CLIENT).wait_config(policy, there).await?;
            all_stay(&mesh, &format!("{policy}, {with} a VirtualService")).await?;
        }
    }
    // The route is selected by the port that the client asked for.
    let other_port = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "a-gke", "namespace": "istio"},
        "spec": {
            "hosts": [PEER_HOST], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": PEER_GATEWAY.ip(), "ports": {"http": 15443}}],
        },
    });
    let cluster = format!("outbound|8080||{PEER_HOST}");
    apply(&mesh, &other_port.to_string(), &cluster).await?;
    all_stay(&mesh, "a ServiceEntry on another port").await?;
    assert_eq!(said(&mesh)? - said_before, 1);
    mesh.kube(Cluster::Home)
        .apply_folder(&folder.join("federation"))
        .await?;
    found(&mesh).await
}

/// The host is there, and the client's namespace may not see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_a_sidecar_resource_hides_costs_nothing() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let sidecar = |policy: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "default", "namespace": "istio"},
            "spec": {
                "egress": [{"hosts": [format!("./{SERVICE}")]}],
                "outboundTrafficPolicy": {"mode": policy},
            },
        })
        .to_string()
    };
    let home = mesh.kube(Cluster::Home);
    for (policy, catch_all) in POLICIES {
        home.apply(&sidecar(policy)).await?;
        let hidden = |config: &str| config.contains(catch_all) && !config.contains(&peer_cluster());
        mesh.proxy(&CLIENT)
            .wait_config("the peer's host is hidden", hidden)
            .await?;
        all_stay(&mesh, policy).await?;
    }
    home.delete(&sidecar("ALLOW_ANY")).await?;
    found(&mesh).await
}

/// A match on the header whose destination does not exist: Envoy would answer 503.
#[tokio::test(flavor = "multi_thread")]
async fn by_header_a_missing_service_entry_costs_no_request() -> Result<()> {
    let (mesh, folder) = federated().await?;
    remove_service_entry(&mesh).await?;
    apply(&mesh, &by_header(json!({})), TO).await?;
    apply_plugin(&mesh, &folder, &config("header", "enforce")).await?;
    let outcomes = closed_loop(load(&mesh, 6, Until::Requests(120)).await?).await?;
    let lost = failed(&outcomes);
    assert!(lost <= TRIES, "{outcomes:?}");
    assert_eq!(answered_by(&outcomes, &home()), 120 - lost);
    assert!(mesh.proxy(&CLIENT).sum(&MISROUTES).await? > 60);
    Ok(())
}

async fn remove_service_entry(mesh: &Mesh) -> Result<()> {
    let arguments = ["delete", "serviceentry", "a-gke", "-n", "istio"];
    mesh.kube(Cluster::Home).kubectl(&arguments).await?;
    let gone = |config: &str| !config.contains(&peer_cluster());
    mesh.proxy(&CLIENT)
        .wait_config("the peer's cluster is gone", gone)
        .await
}

/// Taken away while requests are spilled: Envoy tells a worker with its own 503 alone. One request on each finds out, and
/// what is still answered from there sends no other after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_entry_that_is_removed_under_load_costs_a_worker_one_request() -> Result<()> {
    const CLIENTS: usize = 10;
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let spilled = ["peer_spillover", "reason=.=limit;"];
    let proxy = mesh.proxy(&CLIENT);
    let mut load = load(&mesh, CLIENTS, Until::Elapsed(Duration::from_secs(120))).await?;
    load.pace = Duration::from_millis(100);
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let sink = outcomes.clone();
    load.progress = Some(Arc::new(move |outcome| {
        if let Ok(mut outcomes) = sink.lock() {
            outcomes.push(outcome.clone());
        }
    }));
    let running = tokio::spawn(closed_loop(load));
    proxy.wait_sum(&spilled, |sum| sum > 0).await?;
    remove_service_entry(&mesh).await?;
    // Long after the last answer that was under way.
    proxy.wait_sum(&MISROUTES, |sum| sum > 100).await?;
    running.abort();
    let outcomes: Vec<Outcome> = outcomes
        .lock()
        .map_or_else(|_| Vec::new(), |list| list.clone());
    let lost = failed(&outcomes);
    assert!(answered_by(&outcomes, &peer()) > 0);
    // One on each worker, and what tries since then.
    let most = WORKERS as usize + TRIES;
    assert!(lost <= most, "{lost} of {}", outcomes.len());
    in_flight(&mesh, 0).await?;
    assert_eq!(is_lost(&mesh, 60, TRIES).await?, 0);
    Ok(())
}
