//! What the tests and the demo apply: the manifests of `wasmplugin/` with this mesh's addresses, and the origin's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use envoy_test::client::Answer;
use image::Variant;
use serde_json::{Value, json};

use crate::layout::{
    CLIENT, CLUSTERS, Cluster, HOME_APP, HOME_GATEWAY, PEER_APP, PEER_GATEWAY, REGISTRY, THIRD_APP,
    THIRD_GATEWAY,
};
use crate::mesh::{Mesh, SERVICE};
use crate::registry;

/// The host of the third cluster's service, as `wasmplugin/federation-eks` has it.
pub const THIRD_HOST: &str = "a.istio.eks.global";
/// The peer's host, as `wasmplugin/federation` has it.
pub const PEER_HOST: &str = "a.istio.gke.global";

/// The kinds that tests apply, and that [`reset`] removes.
const KINDS: &str = "wasmplugins.extensions.istio.io,trafficextensions.extensions.istio.io,\
    virtualservices.networking.istio.io,destinationrules.networking.istio.io,\
    serviceentries.networking.istio.io,gateways.networking.istio.io,sidecars.networking.istio.io,\
    envoyfilters.networking.istio.io,peerauthentications.security.istio.io,\
    authorizationpolicies.security.istio.io,telemetries.telemetry.istio.io";

/// Removes everything of Istio's from both clusters, but what is part of the mesh.
/// # Errors
/// An API server refuses.
pub async fn reset(mesh: &Mesh) -> Result<()> {
    for cluster in CLUSTERS {
        reset_in(mesh, cluster).await?;
    }
    Ok(())
}

/// The same in one cluster.
/// # Errors
/// An API server refuses.
pub async fn reset_in(mesh: &Mesh, cluster: Cluster) -> Result<()> {
    let ours = [
        "delete",
        KINDS,
        "-l",
        "mesh!=yes",
        "--wait=false",
        "--all-namespaces",
    ];
    mesh.kube(cluster).kubectl(&ours).await?;
    Ok(())
}

/// Waits until the proxies have forgotten what [`reset`] removed. What [`apply`] waits for is else there too early: from before.
/// # Errors
/// One does not in time.
pub async fn forgotten(mesh: &Mesh) -> Result<()> {
    reached(mesh, false).await
}

/// Waits until `a` may be reached from the other cluster, at each end: it refuses plain text, and its gateway passes on to it.
/// Or, where it is not `open`, until none of this is so.
/// # Errors
/// It is not in time.
pub async fn reached(mesh: &Mesh, open: bool) -> Result<()> {
    for cluster in CLUSTERS {
        reached_in(mesh, cluster, open).await?;
    }
    Ok(())
}

/// The same of one cluster.
/// # Errors
/// It is not in time.
pub async fn reached_in(mesh: &Mesh, cluster: Cluster, open: bool) -> Result<()> {
    let word = if open { "" } else { " no more" };
    let (gateway, app) = match cluster {
        Cluster::Home => (HOME_GATEWAY, HOME_APP),
        Cluster::Peer => (PEER_GATEWAY, PEER_APP),
        Cluster::Third => (THIRD_GATEWAY, THIRD_APP),
    };
    let what = format!("a gateway passes on to the service{word}");
    let proxy = mesh.proxy(&gateway);
    proxy
        .wait_listeners(&what, |all| passes_on(all) == Some(open))
        .await?;
    // A listener that changes under the first requests may cost one of them, with or without a filter.
    let what = format!("the service refuses plain text{word}");
    let proxy = mesh.proxy(&app);
    proxy
        .wait_listeners(&what, |all| takes_plain_text(all) == Some(!open))
        .await
}

/// A copy of `wasmplugin/` in which what is marked CHANGE is changed to what this mesh has, as its README says to do.
/// # Errors
/// A file cannot be read or written.
pub fn manifests(mesh: &Mesh, image: &str, digest: &str) -> Result<PathBuf> {
    let to = mesh.layout.dir().join("wasmplugin");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    let changes = [
        ("192.0.2.15", PEER_GATEWAY.ip()),
        ("192.0.2.14", HOME_GATEWAY.ip()),
        ("192.0.2.16", THIRD_GATEWAY.ip()),
        (
            "registry.example/peer-spillover:0.1.0",
            format!("{REGISTRY}/{image}"),
        ),
        (
            &"0".repeat(64),
            digest.trim_start_matches("sha256:").to_owned(),
        ),
    ];
    copy(&xtask::workspace_root().join("wasmplugin"), &to, &changes)?;
    Ok(to)
}

/// Changes a manifest of [`manifests`], as whoever copied it would.
/// # Errors
/// What is to be changed is not there.
pub fn edit(file: &Path, changes: &[(&str, &str)]) -> Result<()> {
    let mut text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    for (old, new) in changes {
        ensure!(text.contains(old), "{old} is not in {}", file.display());
        text = text.replace(old, new);
    }
    Ok(fs::write(file, text)?)
}

fn copy(from: &Path, to: &Path, changes: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let (path, name) = (
            entry.as_ref().map(|e| e.path()),
            entry.as_ref().map(|e| e.file_name()),
        );
        let (Ok(path), Ok(name)) = (path, name) else {
            continue;
        };
        if path.is_dir() {
            copy(&path, &to.join(name), changes)?;
            continue;
        }
        let mut text = fs::read_to_string(&path)?;
        for (old, new) in changes {
            text = text.replace(old, new);
        }
        fs::write(to.join(name), text)?;
    }
    Ok(())
}

/// The federation of service `a`: both clusters may be spilled to, and home knows the way. Returns the folder of the
/// manifests as they were applied, the module's image in the registry.
/// # Errors
/// The module does not build, or an API server refuses a manifest.
pub async fn apply(mesh: &Mesh) -> Result<PathBuf> {
    let (image, digest) = push_module(mesh).await?;
    let folder = manifests(mesh, &image, &digest)?;
    for cluster in CLUSTERS {
        let receiver = folder.join("receiver");
        mesh.kube(cluster).apply_folder(&receiver).await?;
    }
    let home = mesh.kube(Cluster::Home);
    home.apply_folder(&folder.join("federation")).await?;
    let proxy = mesh.proxy(&CLIENT);
    let known = |config: &str| config.contains(&peer_cluster());
    proxy
        .wait_config("the client knows the peer's host", known)
        .await?;
    reached(mesh, true).await?;
    Ok(folder)
}

/// The peer's cluster, as a dump of a proxy's configuration names it where it is declared. The plugin's own configuration has the
/// peer's host too, so the host alone does not show that the cluster is there.
pub fn peer_cluster() -> String {
    cluster_of(PEER_HOST)
}

/// The same of any peer's host.
pub fn cluster_of(host: &str) -> String {
    format!("\"name\": \"outbound|80||{host}\"")
}

/// Whether a sidecar's listener for what arrives takes plain text too; nothing while it changes.
fn takes_plain_text(listeners: &[Value]) -> Option<bool> {
    let inbound = |listener: &&Value| listener["name"] == "virtualInbound";
    let matches = matches(listeners.iter().find(inbound)?)?;
    let plain = |chain: &Value| chain["transport_protocol"] == "raw_buffer";
    (!matches.is_empty()).then(|| matches.iter().any(plain))
}

/// Whether an east-west gateway leads service `a`'s SNI on; nothing while it changes.
fn passes_on(listeners: &[Value]) -> Option<bool> {
    let matches: Option<Vec<_>> = listeners.iter().map(matches).collect();
    let sni = json!(["outbound_.80_._.a.istio.svc.cluster.local"]);
    let mut chains = matches?.into_iter().flatten();
    Some(chains.any(|chain| chain["server_names"] == sni))
}

/// What a listener's filter chains are for; none where it only drains, nothing while its successor warms.
fn matches(listener: &Value) -> Option<Vec<Value>> {
    let chains = listener["active_state"]["listener"]["filter_chains"].as_array();
    let chains = chains.into_iter().flatten();
    let matches = chains.map(|chain| chain["filter_chain_match"].clone());
    listener["warming_state"]
        .is_null()
        .then(|| matches.collect())
}

/// Pushes the shipped module, and returns its name and the digest of its manifest.
/// # Errors
/// It does not build, or the registry refuses it.
pub async fn push_module(mesh: &Mesh) -> Result<(String, String)> {
    let module = tokio::task::spawn_blocking(xtask::filter::ensure).await??;
    let image = "peer-spillover:0.1.0";
    let digest = registry::push(&mesh.layout, fs::read(module)?, image, Variant::Artifact).await?;
    Ok((image.to_owned(), digest))
}

/// A plugin's configuration: service `a`, with a limit, enforced.
pub fn plugin_config(limit: u32) -> Value {
    json!({
        "version": 1,
        "cluster": Cluster::Home.name(),
        "mode": "enforce",
        "debugHeader": true,
        "services": [{
            "host": SERVICE,
            "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": limit}}},
            "peers": [{"name": Cluster::Peer.name(), "host": PEER_HOST}],
        }],
    })
}

/// The manifest `FOLDER/wasmplugin.yaml` of [`manifests`] with another `pluginConfig`.
/// # Errors
/// There is none.
pub fn wasmplugin(folder: &Path, config: &Value) -> Result<Value> {
    let path = folder.join("wasmplugin.yaml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut manifest: Value = serde_yaml_ng::from_str(&text)?;
    manifest["spec"]["pluginConfig"] = config.clone();
    Ok(manifest)
}

/// Which pod's application answered, by the host name in Istio's echo; empty where none did.
pub fn answered(answer: &Answer) -> String {
    field(answer, "Hostname").unwrap_or_default()
}

/// A field of the answer of Istio's echo, such as `Host` or `URL`.
pub fn field(answer: &Answer, name: &str) -> Option<String> {
    let body = String::from_utf8_lossy(&answer.body);
    let begin = format!("{name}=");
    let mut lines = body.lines();
    lines.find_map(|line| line.strip_prefix(&begin).map(str::to_owned))
}

/// A request header as the application got it; Go writes the names with capitals.
pub fn received(answer: &Answer, header: &str) -> Option<String> {
    let body = String::from_utf8_lossy(&answer.body);
    body.lines().find_map(|line| {
        let (name, value) = line.strip_prefix("RequestHeader=")?.split_once(':')?;
        name.eq_ignore_ascii_case(header).then(|| value.to_owned())
    })
}
