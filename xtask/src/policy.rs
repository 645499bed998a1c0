//! The tests of policy and configuration on bare WebAssembly, where there is no host: what makes a hostcall, reads a clock
//! or draws a number there does not link, or traps.
//!
//! libtest itself runs them, as on any target. All that it cannot do there is print, so a small script for Node
//! (`bare.mjs`, with `policy/src/bare.rs`) starts it without any imports and tells what failed.

use std::process::Command;

use anyhow::{Context, Result};

use crate::run::quietly;
use crate::toolchain::{self, BARE};
use crate::{target_dir, tools, workspace_root};

/// Runs them under Node.
/// # Errors
/// A test failed, or a tool is missing.
pub fn test_on_bare_wasm() -> Result<()> {
    toolchain::ensure_target(BARE)?;
    let script = workspace_root().join("xtask/src/bare.mjs");
    // A list of texts is the same in TOML as in JSON. Not by the variable, which is parted at spaces.
    let runner = serde_json::to_string(&[tools::node()?, script])
        .context("the path of Node or of this checkout is not Unicode")?;
    let mut cargo = Command::new(tools::cargo());
    cargo
        .arg("--config")
        .arg(format!("target.{BARE}.runner={runner}"))
        .args(["test", "--package", "peer-spillover-policy"])
        .args(["--package", "peer-spillover-config", "--lib"])
        .args(["--target", BARE, "--target-dir"])
        .arg(target_dir().join("bare-wasm"))
        .current_dir(workspace_root());
    quietly("testing the policy on bare WebAssembly", &mut cargo)
}
