//! The project's tasks, as a library: the tests and the demo use the same module and the same tools as the command line.

pub mod before;
pub mod config;
pub mod exports;
pub mod filter;
pub mod lint;
pub mod policy;
pub mod run;
pub mod toolchain;
pub mod tools;
pub mod unused;

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The checkout's `target`, where everything that is made goes.
pub fn target_dir() -> PathBuf {
    workspace_root().join("target")
}
