//! The pages that are made from declarations in the code: of the configuration, with its JSON Schema, and of the metrics.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{tools, workspace_root};

/// Writes them into `docs`. By an example of the configuration's package, so that the tasks do not wait for it to compile.
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
        "docs/configuration.* and docs/metrics.md cannot be written"
    );
    Ok(())
}
