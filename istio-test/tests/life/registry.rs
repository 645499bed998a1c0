//! A module that cannot be had: no such image, a wrong digest, a registry that is down.
//!
//! pilot-agent then puts a filter in its place that lets all pass, or denies all where `failStrategy` is not FAIL_OPEN.

use std::fs;

use anyhow::Result;
use envoy_test::wait::until_some;
use image::Variant;
use istio_test::federation::plugin_config;
use istio_test::fixture::{self, federated};
use istio_test::layout::{CLIENT, Cluster, REGISTRY};
use istio_test::mesh::Mesh;
use istio_test::{control, proxy, registry};
use serde_json::{Value, json};

use crate::plugin::{Log, apply, by_tag, manifest, rename, touch};
use crate::traffic::Traffic;

pub const ALLOWED: [&str; 2] = ["cannot fetch Wasm module", "applying allow RBAC filter"];
const DENIED: [&str; 2] = ["cannot fetch Wasm module", "applying deny RBAC filter"];

fn no_such_tag(spec: &mut Value) {
    by_tag(spec, "missing");
}

fn wrong_digest(spec: &mut Value) {
    spec["sha256"] = "1".repeat(64).into();
}

/// What pilot-agent of the client's pod counts of modules that it could not have.
async fn failures(mesh: &Mesh) -> Result<u64> {
    let namespace = mesh.layout.namespace(&CLIENT);
    let answer = proxy::get(&namespace, "http://127.0.0.1:15020/stats/prometheus").await?;
    let text = String::from_utf8_lossy(&answer.body);
    let name = r#"istio_agent_wasm_config_conversion_count{result="fetch_failure"} "#;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.unwrap_or("0").parse()?)
}

/// Traffic goes on, without the filter, until the mistake is mended: on a proxy that starts with it, and on one where the
/// filter ran, which is taken away.
#[tokio::test(flavor = "multi_thread")]
async fn no_such_image_and_a_wrong_digest() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let with = |limit, change: fn(&mut Value)| manifest(&folder, &plugin_config(limit), change);
    let good = with(1, |_| ())?;
    let other = rename(with(1, wrong_digest)?, "other");
    apply(&mesh, &with(1, no_such_tag)?).await?;
    apply(&mesh, &other).await?;
    let log = Log::from_now(&mesh)?;
    mesh.restart_proxy(&CLIENT).await?;
    for why in ["MANIFEST_UNKNOWN", "which does not match"] {
        log.wait(&[ALLOWED[0], why, ALLOWED[1]]).await?;
    }
    assert!(failures(&mesh).await? >= 2);
    let traffic = Traffic::start(&mesh).await?;
    traffic.passes().await?;
    mesh.kube(Cluster::Home).delete(&other.to_string()).await?;
    apply(&mesh, &good).await?;
    traffic.spills().await?;

    let proxy = mesh.proxy(&CLIENT);
    for change in [no_such_tag, wrong_digest] {
        let (log, before) = (Log::from_now(&mesh)?, failures(&mesh).await?);
        apply(&mesh, &with(1, change)?).await?;
        log.wait(&ALLOWED).await?;
        assert!(failures(&mesh).await? > before);
        traffic.passes().await?;
        until_some("the filter's statistics are gone with it", async || {
            let left = proxy.stats("peer_spillover").await.ok()?;
            left.is_empty().then_some(())
        })
        .await?;
        apply(&mesh, &good).await?;
        traffic.spills().await?;
    }
    // What has the right digest is at hand, whatever its tag is called: the mistake shows when a pod starts.
    let misnamed = |spec: &mut Value| {
        spec["url"] = format!("oci://{REGISTRY}/peer-spillover:missing").into();
    };
    apply(&mesh, &with(100, misnamed)?).await?;
    traffic.stays().await?;
    traffic.end().await?;
    let log = Log::from_now(&mesh)?;
    mesh.restart_proxy(&CLIENT).await?;
    log.wait(&[ALLOWED[0], "MANIFEST_UNKNOWN", ALLOWED[1]])
        .await?;

    // Beside a digest in the `url` a tag is not looked at: it may be any.
    apply(
        &mesh,
        &with(1, |spec| {
            let digest = spec["sha256"].as_str().unwrap().to_owned();
            by_tag(spec, &format!("missing@sha256:{digest}"));
        })?,
    )
    .await?;
    let traffic = Traffic::start(&mesh).await?;
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}

/// Nobody asks the registry again by himself. istiod sends the plugin anew when it is changed, be it an annotation.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_when_the_pod_starts() -> Result<()> {
    let (mesh, folder) = federated().await?;
    mesh.kill_daemon("registry").await?;
    apply(&mesh, &manifest(&folder, &plugin_config(1), |_| ())?).await?;
    let log = Log::from_now(&mesh)?;
    mesh.restart_proxy(&CLIENT).await?;
    log.wait(&ALLOWED).await?;
    let traffic = Traffic::start(&mesh).await?;
    traffic.passes().await?;

    registry::start(&mesh.layout).await?;
    let log = Log::from_now(&mesh)?;
    // Another change, which comes to the proxy too.
    let entry = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "b", "namespace": "istio"},
        "spec": {
            "hosts": ["b.example.com"],
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "192.0.2.1"}],
        },
    });
    apply(&mesh, &entry).await?;
    let known = |config: &str| config.contains("b.example.com");
    mesh.proxy(&CLIENT)
        .wait_config("the other change has come", known)
        .await?;
    traffic.passes().await?;
    assert_eq!(log.count("fetching image")?, 0);

    touch(&mesh, "peer-spillover").await?;
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}

/// Why the manifests say `failStrategy: FAIL_OPEN`.
#[tokio::test(flavor = "multi_thread")]
async fn without_fail_open_a_registry_that_is_down_denies_everything() -> Result<()> {
    let (mesh, folder) = federated().await?;
    mesh.kill_daemon("registry").await?;
    let closed = manifest(&folder, &plugin_config(1), |spec| {
        spec.as_object_mut().unwrap().remove("failStrategy");
    })?;
    apply(&mesh, &closed).await?;
    let log = Log::from_now(&mesh)?;
    mesh.restart_proxy(&CLIENT).await?;
    log.wait(&DENIED).await?;
    for _ in 0..20 {
        let answer = fixture::get(&mesh, "/", &[]).await?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, body.as_str()), (403, "RBAC: access denied"));
    }
    // The one line mends it, while the registry is still down.
    let log = Log::from_now(&mesh)?;
    apply(&mesh, &manifest(&folder, &plugin_config(1), |_| ())?).await?;
    log.wait(&ALLOWED).await?;
    until_some("requests pass", async || {
        let answer = fixture::get(&mesh, "/", &[]).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await?;
    let traffic = Traffic::start(&mesh).await?;
    traffic.passes().await?;
    traffic.end().await?;
    Ok(())
}

/// With what it has fetched a proxy goes on, unless it is told to look each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_while_the_pod_runs() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let traffic = Traffic::start(&mesh).await?;
    apply(&mesh, &manifest(&folder, &plugin_config(1), |_| ())?).await?;
    traffic.spills().await?;
    mesh.kill_daemon("registry").await?;
    apply(&mesh, &manifest(&folder, &plugin_config(100), |_| ())?).await?;
    traffic.stays().await?;

    let always = manifest(&folder, &plugin_config(1), |spec| {
        by_tag(spec, "0.1.0");
        spec["imagePullPolicy"] = "Always".into();
    })?;
    let log = Log::from_now(&mesh)?;
    apply(&mesh, &always).await?;
    log.wait(&ALLOWED).await?;
    traffic.passes().await?;
    registry::start(&mesh.layout).await?;
    touch(&mesh, "peer-spillover").await?;
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}

/// What is pushed later comes without a change when the proxy connects to istiod anew, as it does by itself after a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_comes_later() -> Result<()> {
    let (mesh, folder) = federated().await?;
    // The registry may have been used by another run.
    let tag = format!("later-{}", std::process::id());
    let log = Log::from_now(&mesh)?;
    let traffic = Traffic::start(&mesh).await?;
    apply(
        &mesh,
        &manifest(&folder, &plugin_config(1), |spec| by_tag(spec, &tag))?,
    )
    .await?;
    log.wait(&ALLOWED).await?;
    traffic.passes().await?;
    let module = fs::read(tokio::task::spawn_blocking(xtask::filter::ensure).await??)?;
    let image = format!("peer-spillover:{tag}");
    registry::push(&mesh.layout, module, &image, Variant::Artifact).await?;
    mesh.kill_daemon("home-istiod").await?;
    traffic.passes().await?;
    control::start_istiod(&mesh.layout, Cluster::Home).await?;
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}
