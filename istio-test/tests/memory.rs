//! What the plugin costs a sidecar in memory: docs/cost.md, "Memory".

use std::fs;

use anyhow::{Context, Result};
use envoy_test::empty_filter::empty_filter;
use image::Variant;
use istio_test::federation::{plugin_config, wasmplugin};
use istio_test::fixture::federated;
use istio_test::layout::{CLIENT, Cluster, REGISTRY};
use istio_test::mesh::Mesh;
use istio_test::{net, pod, registry};
use serde_json::Value;

/// More would be a mistake of ours: what was measured is below half of it.
const MOST: f64 = 90.0;

/// What the client's Envoy takes, in megabytes.
#[derive(Debug)]
struct Used {
    /// Of its program and libraries, which all proxies of a machine share.
    file: f64,
    /// Its own.
    own: f64,
    /// Of its own: what its heap has in use, and what is free there.
    heap: [f64; 2],
}

async fn used(mesh: &Mesh) -> Result<Used> {
    let processes = net::processes(&mesh.layout.namespace(&CLIENT)).await?;
    let envoy = processes.iter().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "envoy")
    });
    let status = fs::read_to_string(format!("/proc/{}/status", envoy.context("no Envoy")?))?;
    let resident = |name: &str| -> Result<f64> {
        let line = status.lines().find(|line| line.starts_with(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: f64 = kilobytes.context("no such line")?.parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    };
    let memory: Value = serde_json::from_str(&mesh.proxy(&CLIENT).admin("/memory").await?)?;
    let heap = |name: &str| -> Result<f64> {
        let bytes: f64 = memory[name].as_str().context("no such number")?.parse()?;
        Ok(bytes / 1e6)
    };
    Ok(Used {
        file: resident("RssFile:")?,
        own: resident("RssAnon:")?,
        heap: [heap("allocated")?, heap("pageheap_free")?],
    })
}

/// The same with one, two and four workers: it is what V8 brings, and what compiling leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_takes() -> Result<()> {
    let (mesh, folder) = federated().await?;
    println!();
    let module = fs::read(tokio::task::spawn_blocking(empty_filter).await??)?;
    let digest = registry::push(&mesh.layout, module, "empty:1", Variant::Artifact).await?;
    let ours = wasmplugin(&folder.join("client-sidecar"), &plugin_config(1))?;
    let mut empty = ours.clone();
    empty["spec"]["url"] = format!("oci://{REGISTRY}/empty:1").into();
    empty["spec"]["sha256"] = digest.trim_start_matches("sha256:").into();
    let kube = mesh.kube(Cluster::Home);
    let mut none = 0.0;
    for (name, plugin, workers) in [
        ("no Wasm", None, 2),
        ("an empty filter", Some(&empty), 2),
        ("this filter", Some(&ours), 2),
        ("this filter", Some(&ours), 4),
    ] {
        if let Some(plugin) = plugin {
            kube.apply(&plugin.to_string()).await?;
        }
        mesh.kill_proxy(&CLIENT).await?;
        let more = format!(r#","concurrency":{workers}"#);
        pod::start_proxy_with(&mesh.layout, &CLIENT, &mesh.envoy(), &more, &[])?;
        pod::wait_ready(&mesh.layout, &CLIENT).await?;
        let loaded = |config: &str| {
            plugin.is_none() || config.contains("envoy.extensions.filters.http.wasm.v3.Wasm")
        };
        let proxy = mesh.proxy(&CLIENT);
        proxy.wait_config("the module is loaded", loaded).await?;
        proxy.wait_settled().await?;
        let resident = show(name, workers, &used(&mesh).await?);
        if plugin.is_none() {
            none = resident;
        }
        assert!(resident < none + MOST, "{name}: {resident} MB");
    }

    // Another module by its bytes: with a section that says nothing.
    let mut module = fs::read(tokio::task::spawn_blocking(xtask::filter::ensure).await??)?;
    module.extend([0, 2, 1, b'x']);
    let digest = registry::push(&mesh.layout, module, "next:1", Variant::Artifact).await?;
    let mut next = ours.clone();
    next["spec"]["url"] = format!("oci://{REGISTRY}/next:1").into();
    next["spec"]["sha256"] = digest.trim_start_matches("sha256:").into();
    let created = ["wasm.envoy.wasm.runtime.v8.created"];
    let proxy = mesh.proxy(&CLIENT);
    let before = proxy.sum(&created).await?;
    kube.apply(&next.to_string()).await?;
    proxy.wait_sum(&created, |now| now > before).await?;
    proxy.wait_settled().await?;
    let resident = show("the same after a new version", 4, &used(&mesh).await?);
    assert!(resident < none + MOST, "{resident} MB");
    Ok(())
}

/// Prints a line of that page's table, and returns what is resident.
fn show(name: &str, workers: u32, used: &Used) -> f64 {
    let Used {
        file,
        own,
        heap: [in_use, free],
    } = used;
    let resident = file + own;
    println!(
        "| {name}, {workers} workers | {resident:.0} MB | {file:.0} MB | {own:.0} MB | {in_use:.0} MB | {free:.0} MB |"
    );
    resident
}
