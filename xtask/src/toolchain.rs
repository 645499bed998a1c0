//! What the toolchain needs beside itself: targets and components, added when a task first needs them. Rustup adds those of
//! `rust-toolchain.toml` by itself, but not to a toolchain that was there before, and not where it is told to add nothing
//! (`RUSTUP_AUTO_INSTALL=0`).

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{alone, quietly};
use crate::{target_dir, tools, workspace_root};

/// Where the policy and the configuration are tested alone.
pub const BARE: &str = "wasm32-unknown-unknown";
/// What Envoy runs.
pub const ENVOY: &str = "wasm32-wasip1";

/// Adds this target of Rust's, if it is not there.
/// # Errors
/// It cannot be added, or rustup is missing.
pub fn ensure_target(target: &str) -> Result<()> {
    ensure(
        &format!("the target {target}"),
        &["target", "add", target],
        || has_target(target),
    )
}

/// Adds this component of Rust's, if it is not there: the one that brings `cargo SUBCOMMAND`.
/// # Errors
/// It cannot be added, or rustup is missing.
pub fn ensure_component(component: &str, subcommand: &str) -> Result<()> {
    let add = ["component", "add", component];
    ensure(&format!("the component {component}"), &add, || {
        let mut cargo = Command::new(tools::cargo());
        cargo.args([subcommand, "--version"]);
        let output = cargo.current_dir(workspace_root()).output();
        output.is_ok_and(|output| output.status.success())
    })
}

fn ensure(what: &str, add: &[&str], has: impl Fn() -> bool) -> Result<()> {
    if has() {
        return Ok(());
    }
    alone(&target_dir().join("toolchain.lock"), || {
        if has() {
            return Ok(());
        }
        let rustup = tools::on_path("rustup").with_context(|| {
            format!("{what} of Rust is missing, and so is rustup, which would add it: install rustup, or {what} from where Rust came from")
        })?;
        let mut rustup = Command::new(rustup);
        rustup.args(add).current_dir(workspace_root());
        quietly(&format!("adding {what} to Rust"), &mut rustup)?;
        ensure!(
            has(),
            "{what} is missing after `rustup {}`: is the Rust on the PATH another than rustup's?",
            add.join(" ")
        );
        Ok(())
    })
}

fn has_target(target: &str) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(workspace_root())
        .output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}
