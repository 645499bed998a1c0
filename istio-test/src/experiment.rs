//! The origin's experiment on the mesh: connections that come and go, and who answered.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use demo::drive::{Target, drive};
use demo::in_flight::{changes, most_per_second};
use demo::result::{self, Counts, LIMIT_OF_2020, Report, Run, windows};
use envoy_test::wait::until_some;
use serde_json::Value;

use crate::access_log;
use crate::federation::{self, answered, plugin_config, wasmplugin};
use crate::layout::{CLIENT, Cluster, HOME_APP, PEER_GATEWAY};
use crate::mesh::{Mesh, SERVICE};
use crate::pod::{WORKERS, hostname};

/// How long the service takes for a request, asked of Istio's echo server by the path.
pub const DELAY: Duration = Duration::from_millis(100);
/// The path that asks for it.
pub const PATH: &str = "/?delay=100ms";

/// The load: how many connections, phase after phase, each of so many seconds.
#[derive(Clone, Debug)]
pub struct Load {
    /// Parallel connections in each phase
    pub clients: Vec<u32>,
    /// Length of a phase
    pub seconds: u32,
}

/// Ours here, as the origin's.
const LIMIT: u32 = LIMIT_OF_2020;

/// How often home's proxy is asked what it has in flight: a tenth of what a request takes.
const SAMPLE: Duration = Duration::from_millis(10);

/// Runs the load from the client's pod and tells of each second as it is over.
/// # Errors
/// The client's sidecar cannot be connected to, or home's has not logged what it has answered. A request that fails is
/// in the run.
pub async fn run(mesh: &Mesh, load: &Load, on_second: impl FnMut(usize, Counts)) -> Result<Run> {
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    let target = Target {
        dial: mesh.dial(&CLIENT, &format!("{address}:80")),
        url: (SERVICE.to_owned(), PATH.to_owned()),
        served_by: answered,
        clusters: (hostname(Cluster::Home), hostname(Cluster::Peer)),
        pace: DELAY,
    };
    let start = SystemTime::now();
    let samples = drive(target, &windows(&load.clients, load.seconds), on_second).await?;
    let answered = Counts::of(&samples).home as usize;
    let logged = until_some("home's proxy has logged what it answered", async || {
        let log = mesh.proxy_log(&HOME_APP).ok()?;
        let requests = access_log::inbound(&log, start);
        (requests.len() >= answered).then_some(requests)
    });
    let seconds = load.clients.len() * load.seconds as usize;
    let most = most_per_second(&changes(&logged.await?), seconds);
    Ok(result::run(
        &samples,
        &load.clients,
        load.seconds,
        LIMIT,
        most,
    ))
}

/// Watches what home's application has in flight, and keeps the most, until it is aborted.
pub async fn watch(mesh: Mesh, most: Arc<AtomicU64>) {
    let proxy = mesh.proxy(&HOME_APP);
    loop {
        if let Ok(active) = proxy.active().await {
            most.fetch_max(active, Ordering::Relaxed);
        }
        tokio::time::sleep(SAMPLE).await;
    }
}

/// Brings the clusters to where the origin was: its two manifests at home, and no filter.
/// # Errors
/// A manifest is refused, or does not come to the client.
pub async fn origin(mesh: &Mesh) -> Result<()> {
    let home = mesh.kube(Cluster::Home);
    home.apply(&origin_manifests()?).await?;
    let merged = |config: &str| config.contains(&PEER_GATEWAY.ip());
    mesh.proxy(&CLIENT)
        .wait_config("the client has the origin's endpoint", merged)
        .await
}

/// The origin's ServiceEntry and DestinationRule, with the peer's gateway.
/// # Errors
/// The file is missing.
pub fn origin_manifests() -> Result<String> {
    let path = xtask::workspace_root().join("istio-test/manifests/origin.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.replace("192.0.2.15", &PEER_GATEWAY.ip()))
}

/// Applies the plugin to the clients' sidecars and waits until it runs there.
/// # Errors
/// The manifest is refused, or the plugin does not run in time.
pub async fn apply_plugin(mesh: &Mesh, folder: &std::path::Path, config: &Value) -> Result<()> {
    let manifest = wasmplugin(&folder.join("client-sidecar"), config)?;
    mesh.kube(Cluster::Home)
        .apply(&manifest.to_string())
        .await?;
    let proxy = mesh.proxy(&CLIENT);
    proxy
        .wait_sum(&["peer_spillover", "configured"], |running| running > 0)
        .await?;
    proxy.wait_settled().await
}

/// Both runs: as the origin had it, then with the filter and a limit of 1. `on_second` is told which run (0, 1), the
/// second and who answered.
/// # Errors
/// Something does not come up; what fails in a run is in the report.
pub async fn both(
    mesh: &Mesh,
    load: &Load,
    mut on_second: impl FnMut(usize, usize, Counts),
) -> Result<Report> {
    federation::reset(mesh).await?;
    federation::forgotten(mesh).await?;
    let folder = federation::apply(mesh).await?;
    origin(mesh).await?;
    let without = run(mesh, load, |second, counts| on_second(0, second, counts)).await?;

    mesh.kube(Cluster::Home)
        .delete(&origin_manifests()?)
        .await?;
    let gone = |config: &str| !config.contains("us-west1-b");
    mesh.proxy(&CLIENT)
        .wait_config("the origin's endpoint is gone", gone)
        .await?;
    apply_plugin(mesh, &folder, &plugin_config(LIMIT)).await?;
    let with = run(mesh, load, |second, counts| on_second(1, second, counts)).await?;
    Ok(Report {
        home: Cluster::Home.name().to_owned(),
        peer: Cluster::Peer.name().to_owned(),
        routing: "authority".to_owned(),
        workers: WORKERS,
        filter: with,
        without_filter: without,
    })
}
