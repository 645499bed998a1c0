//! Another module in the place of one that runs: by another tag, by a tag that moved, in both forms of image.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use image::Variant;
use istio_test::experiment::watch;
use istio_test::federation::plugin_config;
use istio_test::fixture::{self, federated};
use istio_test::layout::{CLIENT, REGISTRY};
use istio_test::{Mesh, registry};
use serde_json::Value;

use crate::plugin::{apply, by_tag, manifest, touch};
use crate::traffic::Traffic;

/// The shipped module with another custom section: it does the same, and its bytes are others.
async fn module(word: &str) -> Result<Vec<u8>> {
    let path = tokio::task::spawn_blocking(xtask::filter::ensure).await??;
    let mut module = fs::read(path)?;
    // Section 0, its size, the size of its name, and its name; both sizes are below 128, which is one byte each.
    let name = format!("release-{word}");
    let size = u8::try_from(name.len())?;
    module.extend([0, size + 1, size]);
    module.extend(name.as_bytes());
    Ok(module)
}

async fn push(mesh: &Mesh, word: &str, tag: &str, variant: Variant) -> Result<String> {
    let reference = format!("peer-spillover:{tag}");
    let digest = registry::push(&mesh.layout, module(word).await?, &reference, variant).await?;
    Ok(digest.trim_start_matches("sha256:").to_owned())
}

/// Waits until Envoy runs the module of this digest: pilot-agent keeps it in a file of that name.
async fn runs(mesh: &Mesh, digest: &str) -> Result<()> {
    let file = format!("/{digest}.wasm");
    let what = format!("the client's proxy runs {file}");
    mesh.proxy(&CLIENT)
        .wait_config(&what, |config| config.contains(&file))
        .await
}

/// Through all of it the limit holds: the new module goes on with the count of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn another_module() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let first = push(&mesh, "first", "first", Variant::Artifact).await?;
    let pinned = |limit: u32, tag: &str, digest: &str| {
        manifest(&folder, &plugin_config(limit), |spec| {
            spec["url"] = format!("oci://{REGISTRY}/peer-spillover:{tag}").into();
            spec["sha256"] = digest.into();
        })
    };
    let traffic = Traffic::start(&mesh).await?;
    apply(&mesh, &pinned(1, "first", &first)?).await?;
    runs(&mesh, &first).await?;
    traffic.spills().await?;
    // None is under way any more that the listener of before has taken.
    let decided = traffic.now().await?;
    let most = Arc::new(AtomicU64::new(0));
    let watch = tokio::spawn(watch(mesh.clone(), most.clone()));
    for (word, variant) in [("second", Variant::Artifact), ("third", Variant::Compat)] {
        let digest = push(&mesh, word, word, variant).await?;
        apply(&mesh, &pinned(1, word, &digest)?).await?;
        runs(&mesh, &digest).await?;
        traffic.spills().await?;
    }
    let digest = push(&mesh, "fourth", "fourth", Variant::Artifact).await?;
    let by_digest = manifest(&folder, &plugin_config(1), |spec| {
        spec["url"] = format!("oci://{REGISTRY}/peer-spillover@sha256:{digest}").into();
        spec.as_object_mut().unwrap().remove("sha256");
    })?;
    apply(&mesh, &by_digest).await?;
    runs(&mesh, &digest).await?;
    traffic.spills().await?;
    watch.abort();
    let all = traffic.end().await?;
    assert!(
        all[decided..]
            .iter()
            .all(|outcome| !outcome.decision.is_empty()),
        "the filter was never away"
    );
    assert_eq!(most.load(Ordering::Relaxed), 1, "in flight at home");
    fixture::in_flight(&mesh, 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let moved = |limit: u32, policy: &str| {
        manifest(&folder, &plugin_config(limit), |spec: &mut Value| {
            by_tag(spec, "moves");
            spec["imagePullPolicy"] = policy.into();
        })
    };
    let traffic = Traffic::start(&mesh).await?;
    let first = push(&mesh, "first", "moves", Variant::Artifact).await?;
    apply(&mesh, &moved(1, "IfNotPresent")?).await?;
    runs(&mesh, &first).await?;
    traffic.spills().await?;
    let second = push(&mesh, "second", "moves", Variant::Artifact).await?;
    apply(&mesh, &moved(100, "IfNotPresent")?).await?;
    traffic.stays().await?;
    runs(&mesh, &first).await?;
    apply(&mesh, &moved(1, "Always")?).await?;
    runs(&mesh, &second).await?;
    traffic.spills().await?;
    let third = push(&mesh, "third", "moves", Variant::Artifact).await?;
    touch(&mesh, "peer-spillover").await?;
    runs(&mesh, &third).await?;
    traffic.spills().await?;
    traffic.end().await?;

    // So with IfNotPresent two pods run two modules by the same tag, depending on when they started.
    let fourth = push(&mesh, "fourth", "moves", Variant::Artifact).await?;
    apply(&mesh, &moved(2, "IfNotPresent")?).await?;
    mesh.proxy(&CLIENT)
        .wait_sum(&["peer_spillover", ";.;limit"], |n| n == 2)
        .await?;
    runs(&mesh, &third).await?;
    mesh.restart_proxy(&CLIENT).await?;
    runs(&mesh, &fourth).await?;
    Ok(())
}
