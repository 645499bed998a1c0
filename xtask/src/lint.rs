//! The format and the lints that a change must have.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::toolchain::{self, BARE};
use crate::{tools, workspace_root};

/// Checks both, and shows what is wrong.
/// # Errors
/// Something is, or a component of Rust's cannot be added.
pub fn lint() -> Result<()> {
    toolchain::ensure_component("rustfmt", "fmt")?;
    run(&["fmt", "--all", "--check"])?;
    toolchain::ensure_component("clippy", "clippy")?;
    let lints = ["--", "-D", "warnings"];
    run(&[&["clippy", "--workspace", "--all-targets"], &lints[..]].concat())?;
    // Some of the development dependencies are not there on this target.
    toolchain::ensure_target(BARE)?;
    let pure = ["-p", "peer-spillover-policy", "-p", "peer-spillover-config"];
    let bare = ["--lib", "--tests", "--target", BARE];
    run(&[&["clippy"], &pure[..], &bare, &lints].concat())
}

fn run(arguments: &[&str]) -> Result<()> {
    let mut cargo = Command::new(tools::cargo());
    let status = cargo
        .args(arguments)
        .current_dir(workspace_root())
        .status()?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}
