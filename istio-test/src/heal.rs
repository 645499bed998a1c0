//! Brings a mesh that a test has hurt back to where `cargo mesh up` left it.

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::layout::{CLIENT, CLUSTERS, PODS, PodSpec, Role};
use crate::mesh::{Mesh, named};
use crate::{control, federation, multi_primary, net, pod, registry};

/// Removes what was applied, starts what has ended, opens what was closed, and gives the client a new sidecar, so that no
/// statistic and no module of before is left there.
/// # Errors
/// A part does not come back.
pub async fn heal(mesh: &Mesh) -> Result<()> {
    if !mesh.daemon_runs("registry").await? {
        registry::start(&mesh.layout).await?;
    }
    for cluster in CLUSTERS {
        if !mesh
            .daemon_runs(&format!("{}-istiod", cluster.word()))
            .await?
        {
            control::start_istiod(&mesh.layout, cluster).await?;
        }
        control::write_mesh_config(&mesh.layout, cluster, "")?;
    }
    let parting = multi_primary::part(mesh).await?;
    federation::reset(mesh).await?;
    try_join_all(PODS.iter().map(|spec| heal_pod(mesh, spec))).await?;
    if parting {
        multi_primary::parted(mesh).await?;
    }
    federation::forgotten(mesh).await
}

async fn heal_pod(mesh: &Mesh, spec: &PodSpec) -> Result<()> {
    let namespace = mesh.layout.namespace(spec);
    let mut flush = net::command(&namespace, "iptables");
    net::run(flush.args(["-t", "filter", "-F"])).await?;
    let running = net::processes(&namespace).await?;
    if spec.role == Role::App && named(&running, "server").is_empty() {
        pod::start_app(&mesh.layout, spec).await?;
    }
    if named(&running, "envoy").is_empty() {
        return mesh.start_proxy(spec).await;
    }
    if spec.name == CLIENT.name {
        mesh.restart_proxy(spec).await?;
    }
    Ok(())
}
