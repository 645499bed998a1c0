//! The two clusters as one multi-primary mesh on two networks, and as two meshes again.
//!
//! [`join`] applies what Istio's documentation of that installation has, and nothing else: a network of its own for each
//! cluster, in each a remote secret for the other's API server, and the east-west gateways opened for all services. The
//! proxies have been told their network when they started ([`crate::pod`]), so none of them is restarted.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::control;
use crate::layout::{CLIENT, CLUSTERS, Cluster, HOME_GATEWAY, Layout, PEER_GATEWAY, THIRD_GATEWAY};
use crate::mesh::{Mesh, SERVICE};
use crate::proxy::Endpoint;
use crate::up;

/// Exists while the clusters are one mesh, so that [`part`] knows, also after a test that ended half way.
fn mark(layout: &Layout) -> PathBuf {
    layout.dir().join("multi-primary")
}

/// Makes one mesh of the two clusters, and waits until the client's sidecar and both east-west gateways know of it.
/// # Errors
/// An API server refuses, or a proxy does not learn of the other cluster in time.
pub async fn join(mesh: &Mesh) -> Result<()> {
    File::create(mark(&mesh.layout))?;
    try_join_all(CLUSTERS.map(async |cluster| {
        let kube = mesh.kube(cluster);
        kube.apply(&network(cluster)).await?;
        kube.apply(&ways(cluster)).await
    }))
    .await?;
    let both = |all: &[Endpoint]| all.len() == 2 && all.iter().any(is_gateway(Cluster::Peer));
    client(mesh, "the service is both clusters'", both).await?;
    // The name that an AUTO_PASSTHROUGH gateway gives the service.
    let cluster = format!("outbound_.80_._.{SERVICE}");
    let own = |all: &[Endpoint]| all.len() == 1 && all.iter().all(|one| one.port == 8080);
    for gateway in [HOME_GATEWAY, PEER_GATEWAY] {
        let what = "an east-west gateway leads to its own cluster alone";
        let proxy = mesh.proxy(&gateway);
        proxy.wait_endpoints(what, &cluster, own).await?;
    }
    Ok(())
}

/// Makes two meshes of the clusters again, where they are one, and undoes what a test did to their Services. Returns whether
/// they were one; then [`parted`] waits until the client knows.
/// # Errors
/// An API server refuses.
pub async fn part(mesh: &Mesh) -> Result<bool> {
    if !mark(&mesh.layout).exists() {
        return Ok(false);
    }
    try_join_all(CLUSTERS.map(async |cluster| {
        let kube = mesh.kube(cluster);
        kube.delete(&ways(cluster)).await?;
        // What was applied with more is applied with less: kubectl removes the difference.
        kube.apply(&namespace("")).await?;
        kube.apply(&up::service(cluster)).await
    }))
    .await?;
    Ok(true)
}

/// Waits until the client has forgotten the other cluster.
/// # Errors
/// It has not in time.
pub async fn parted(mesh: &Mesh) -> Result<()> {
    let alone = |all: &[Endpoint]| all.len() == 1 && !all.iter().any(is_gateway(Cluster::Peer));
    client(mesh, "the service is home's", alone).await?;
    let mark = mark(&mesh.layout);
    fs::remove_file(&mark).with_context(|| mark.display().to_string())
}

async fn client(mesh: &Mesh, what: &str, holds: impl Fn(&[Endpoint]) -> bool) -> Result<()> {
    let cluster = format!("outbound|80||{SERVICE}");
    let proxy = mesh.proxy(&CLIENT);
    proxy.wait_endpoints(what, &cluster, holds).await
}

/// Whether an endpoint is the east-west gateway of `cluster`.
pub fn is_gateway(cluster: Cluster) -> impl Fn(&Endpoint) -> bool {
    let ip = gateway(cluster);
    move |one| one.address == ip && one.port == 15443
}

fn gateway(cluster: Cluster) -> String {
    match cluster {
        Cluster::Home => HOME_GATEWAY.ip(),
        Cluster::Peer => PEER_GATEWAY.ip(),
        Cluster::Third => THIRD_GATEWAY.ip(),
    }
}

fn namespace(labels: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: istio-system, labels: {{{labels}}}}}}}"
    )
}

/// The network of a cluster, and the Service of the gateway by which others reach it.
fn network(cluster: Cluster) -> String {
    let label = format!("topology.istio.io/network: {}", cluster.network());
    format!(
        "{}
---
apiVersion: v1
kind: Service
metadata: {{name: eastwestgateway, namespace: istio-system, labels: {{{label}}}}}
spec:
  selector: {{istio: eastwestgateway}}
  ports: [{{name: tls, port: 15443}}]
  # What a load balancer would have said in its status.
  externalIPs: [{}]
",
        namespace(&label),
        gateway(cluster)
    )
}

/// Istio's `samples/multicluster/expose-services.yaml`, and what `istioctl create-remote-secret` prints for the other
/// cluster.
fn ways(cluster: Cluster) -> String {
    let other = match cluster {
        Cluster::Home => Cluster::Peer,
        Cluster::Peer | Cluster::Third => Cluster::Home,
    };
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": format!("istio-remote-secret-{}", other.name()),
            "namespace": "istio-system",
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": other.name()},
        },
        "stringData": {other.name(): control::kubeconfig(other)},
    });
    format!(
        r#"apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: cross-network-gateway, namespace: istio-system}}
spec:
  selector: {{istio: eastwestgateway}}
  servers:
  - port: {{number: 15443, name: tls, protocol: TLS}}
    tls: {{mode: AUTO_PASSTHROUGH}}
    hosts: ["*.local"]
---
{secret}
"#
    )
}
