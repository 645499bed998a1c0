//! A third cluster beside the two that always run: another peer, with its own etcd, API server, istiod, service and gateway.
//!
//! It can come and go while the two run. It takes as much memory as each of them, so most tests do without it.

use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};

use anyhow::{Context, Result};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::task::spawn_blocking;

use crate::layout::{Cluster, THIRD_PODS};
use crate::mesh::{Mesh, named};
use crate::{control, down, federation, net, tools, up};

const CLUSTER: Cluster = Cluster::Third;
/// What runs in the namespace of the control planes.
const DAEMONS: [&str; 3] = ["third-istiod", "third-kube-apiserver", "third-etcd"];

/// Whether it runs.
/// # Errors
/// It cannot be found out.
pub async fn runs(mesh: &Mesh) -> Result<bool> {
    Ok(mesh.clusters().contains(&CLUSTER) && mesh.daemon_runs(DAEMONS[0]).await?)
}

/// Brings it up.
/// # Errors
/// A part of it does not start.
pub async fn up(mesh: &Mesh) -> Result<()> {
    let layout = &mesh.layout;
    let tools = spawn_blocking(tools::ensure_built).await??;
    control::start_kubernetes(layout, CLUSTER).await?;
    up::start_istio(layout, CLUSTER, &up::definitions(&tools)).await?;
    let envoy = mesh.envoy();
    try_join_all(
        THIRD_PODS
            .iter()
            .map(|spec| up::start_pod(layout, spec, &envoy)),
    )
    .await?;
    Ok(())
}

/// Removes what was applied and starts proxies that have ended, as [`crate::heal`] does in the two.
async fn heal(mesh: &Mesh) -> Result<()> {
    federation::reset_in(mesh, CLUSTER).await?;
    for spec in THIRD_PODS {
        let running = net::processes(&mesh.layout.namespace(&spec)).await?;
        if named(&running, "envoy").is_empty() {
            mesh.start_proxy(&spec).await?;
        }
    }
    Ok(())
}

/// Ends it, and removes what it has written but its certificates, with which it can come back.
/// # Errors
/// A process does not end, or a namespace cannot be removed.
pub async fn down(mesh: &Mesh) -> Result<()> {
    for pod in THIRD_PODS {
        let namespace = mesh.layout.namespace(&pod);
        down::end(&namespace).await?;
        down::remove(&namespace).await?;
    }
    for daemon in DAEMONS {
        if mesh.daemon_runs(daemon).await? {
            mesh.kill_daemon(daemon).await?;
        }
    }
    let etcd = mesh.layout.cluster_dir(CLUSTER).join("etcd");
    fs::remove_dir_all(&etcd).with_context(|| format!("cannot remove {}", etcd.display()))?;
    let config = mesh.layout.kubeconfig(CLUSTER);
    fs::remove_file(&config).with_context(|| format!("cannot remove {}", config.display()))
}

/// Runs `work` with the third cluster: with the one that is up, or with one that is brought up for it and ended after it, also
/// if `work` fails.
/// # Errors
/// A part of the cluster does not start, or `work` fails.
pub async fn with(mesh: &Mesh, work: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let there = runs(mesh).await?;
    if there {
        heal(mesh).await?;
    } else {
        up(mesh).await?;
    }
    // A test that fails panics.
    let done = AssertUnwindSafe(work()).catch_unwind().await;
    if !there {
        down(mesh).await?;
    }
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
