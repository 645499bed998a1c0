//! What is made from the declaration of the configuration: the reference page and the JSON Schema.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{tools, workspace_root};

/// Writes both into `docs`. By an example of the configuration's package, so that the tasks do not wait for the rest to compile.
/// # Errors
/// The configuration does not compile, or the files cannot be written.
pub fn write() -> Result<()> {
    let mut cargo = Command::new(tools::cargo());
    cargo
        .args(["run", "--quiet", "--package", "peer-spillover-config"])
        .args(["--example", "configuration", "--"])
        .arg(workspace_root().join("docs"))
        .current_dir(workspace_root());
    ensure!(
        cargo.status()?.success(),
        "docs/configuration.* cannot be written"
    );
    Ok(())
}
