//! The SDK's filter that does nothing: what ours is measured against.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

/// The yardstick, built as the SDK's users build, with every export that the SDK makes.
/// # Errors
/// It does not build.
pub fn empty_filter() -> Result<PathBuf> {
    let target = xtask::target_dir().join("empty-filter");
    xtask::toolchain::ensure_target(xtask::toolchain::ENVOY)?;
    let mut cargo = Command::new(xtask::tools::cargo());
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--target",
            xtask::toolchain::ENVOY,
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(xtask::workspace_root().join("envoy-test/empty-filter"));
    xtask::run::quietly("building the SDK's empty filter", &mut cargo)?;
    let module = target.join("wasm32-wasip1/release/empty_filter.wasm");
    if !module.is_file() {
        bail!("{} was not built", module.display());
    }
    Ok(module)
}
