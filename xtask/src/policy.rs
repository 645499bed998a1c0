//! The tests of policy and configuration on bare WebAssembly, where there is no host: what makes a hostcall, reads a clock
//! or draws a number there does not link.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::run::quietly;
use crate::{target_dir, tools, workspace_root};

/// Runs them under Node.
/// # Errors
/// A test failed, or a tool is missing.
pub fn test_on_bare_wasm() -> Result<()> {
    let runner = tools::wasm_bindgen_test_runner()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "test",
        "--package",
        "peer-spillover",
        "--lib",
        "--target",
        "wasm32-unknown-unknown",
        "--target-dir",
    ]);
    cargo
        .arg(target_dir().join("bare-wasm"))
        .current_dir(workspace_root());
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    tools::with_node_on_path(&mut cargo)?;
    quietly("testing the policy on bare WebAssembly", &mut cargo)
}
