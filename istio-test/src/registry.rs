//! The OCI registry, and the module in it.

use std::fs;

use anyhow::Result;
use envoy_test::wait::until_some;
use image::{Image, Variant};

use crate::layout::{Layout, REGISTRY};
use crate::mesh::daemon;
use crate::{net, proxy};

/// Starts Debian's registry, and waits until it answers. Images of an earlier start are still there.
/// # Errors
/// It does not start.
pub async fn start(layout: &Layout) -> Result<()> {
    let dir = layout.dir().join("registry");
    fs::create_dir_all(&dir)?;
    let config = dir.join("config.yml");
    let data = dir.join("data");
    fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{REGISTRY}\"}}\n",
            data.display()
        ),
    )?;
    let mut registry = net::command(&layout.lab(), "docker-registry");
    registry.arg("serve").arg(&config);
    daemon(layout, "registry", registry)?;
    let lab = layout.lab();
    let url = format!("http://{REGISTRY}/v2/");
    until_some("the registry answers", async || {
        let answer = proxy::get(&lab, &url).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}

/// Pushes a module as `NAME:TAG`, and returns the digest of its manifest.
/// # Errors
/// The registry refuses it.
pub async fn push(
    layout: &Layout,
    module: Vec<u8>,
    reference: &str,
    variant: Variant,
) -> Result<String> {
    let reference = format!("{REGISTRY}/{reference}");
    net::inside(&layout.lab(), move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let image = Image::of(&module, env!("CARGO_PKG_VERSION"), variant)?;
        runtime.block_on(image.push(&reference, true))
    })
    .await
}
