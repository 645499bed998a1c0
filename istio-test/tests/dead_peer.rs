//! A dead peer loses nothing that home can serve: nothing that had not reached an application yet.

#[path = "dead_peer/cases.rs"]
mod cases;
#[path = "dead_peer/load.rs"]
mod load;
#[path = "dead_peer/writes.rs"]
mod writes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use istio_test::Mesh;
use istio_test::experiment::apply_plugin;
use istio_test::federation::plugin_config;
use istio_test::fixture::federated;
use istio_test::layout::{CLIENT, Cluster};
use serde_json::Value;

/// How long whatever a test waits for may take on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The federation as it is shipped, and the plugin with this configuration.
async fn spilling(config: &Value) -> Result<(Mesh, PathBuf)> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, config).await?;
    Ok((mesh, folder))
}

/// With a limit of 1.
async fn full() -> Result<(Mesh, PathBuf)> {
    spilling(&plugin_config(1)).await
}

/// Where it says what is sent again.
const RULE: &str = "federation/virtualservice.yaml";

/// What the README offers to add to a manifest, the block with `word`.
fn choice(word: &str) -> Result<String> {
    let readme = fs::read_to_string(xtask::workspace_root().join("wasmplugin/README.md"))?;
    let mut blocks = readme.split("  ```yaml\n").skip(1);
    let found = blocks.find_map(|rest| rest.split("  ```\n").next().filter(|b| b.contains(word)));
    let lines = found.context("the README has no such choice")?.lines();
    Ok(lines
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect())
}

/// Applies the changed federation, and waits until the client has `word`.
async fn choose(mesh: &Mesh, folder: &Path, word: &str) -> Result<()> {
    let federation = folder.join("federation");
    mesh.kube(Cluster::Home).apply_folder(&federation).await?;
    let there = |config: &str| config.contains(word);
    mesh.proxy(&CLIENT).wait_config(word, there).await
}
