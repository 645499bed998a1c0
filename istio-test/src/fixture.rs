//! What every test begins with, and what most of them do.

use std::path::PathBuf;

use anyhow::Result;
use envoy_test::client::{Answer, Dial, empty, request};
use envoy_test::load::{LoadOptions, Until};
use tokio::task::JoinHandle;

use crate::experiment::PATH;
use crate::federation::{self, answered};
use crate::layout::{CLIENT, Cluster};
use crate::mesh::{Mesh, SERVICE};
use crate::{heal, pod::hostname};

/// A mesh as new, without any manifest.
/// # Errors
/// None runs, or a part of it does not come back.
pub async fn fresh() -> Result<Mesh> {
    let mesh = Mesh::attach().await?;
    heal::heal(&mesh).await?;
    Ok(mesh)
}

/// A mesh as new with service `a` federated, and no plugin yet; and the folder of manifests.
/// # Errors
/// As [`fresh`], or a manifest is refused.
pub async fn federated() -> Result<(Mesh, PathBuf)> {
    let mesh = fresh().await?;
    let folder = federation::apply(&mesh).await?;
    Ok((mesh, folder))
}

/// The name by which home's application answers.
pub fn home() -> String {
    hostname(Cluster::Home)
}

/// The name by which the peer's application answers.
pub fn peer() -> String {
    hostname(Cluster::Peer)
}

/// Connections from the client's pod to service `a`.
/// # Errors
/// The service has no cluster address.
pub async fn dial(mesh: &Mesh) -> Result<Dial> {
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    Ok(mesh.dial(&CLIENT, &format!("{address}:80")))
}

/// Clients in the client's pod that each send one request of 100 ms after another.
/// # Errors
/// The service has no cluster address.
pub async fn load(mesh: &Mesh, clients: usize, until: Until) -> Result<LoadOptions> {
    let dial = dial(mesh).await?;
    let mut load = LoadOptions::by(dial, PATH, clients, until);
    load.host = SERVICE.to_owned();
    load.served_by = answered;
    Ok(load)
}

/// One request from the client's pod to service `a`.
/// # Errors
/// The connection broke.
pub async fn get(mesh: &Mesh, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let dial = dial(mesh).await?;
    let mut client = dial.client(false).await?;
    client
        .send(request("GET", SERVICE, path, headers, empty())?)
        .await
}

/// A request that home has and does not answer: it takes a slot until this is dropped.
pub struct Held(JoinHandle<Result<Answer>>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request under the name `host` from the client's pod, and waits until the filter there counts one in flight.
/// # Errors
/// It is not counted in time.
pub async fn hold(mesh: &Mesh, host: &str) -> Result<Held> {
    let dial = dial(mesh).await?;
    let mut client = dial.client(false).await?;
    // Longer than any test.
    let request = request("GET", host, "/?delay=10m", &[], empty())?;
    let held = Held(tokio::spawn(async move { client.send(request).await }));
    in_flight(mesh, 1).await?;
    Ok(held)
}

/// Waits until the filter of the client's sidecar counts `n` requests in flight, of all services together.
/// # Errors
/// It does not in time.
pub async fn in_flight(mesh: &Mesh, n: i64) -> Result<()> {
    let counts = ["peer_spillover", ";.;in_flight"];
    mesh.proxy(&CLIENT)
        .wait_sum(&counts, |sum| sum == n)
        .await?;
    Ok(())
}
