//! Ends the mesh: every process in its namespaces, the namespaces, and its files. Nothing outside of them is touched.

use std::fs;

use anyhow::{Context, Result};
use envoy_test::wait::until_some;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::Layout;
use crate::net;

/// Ends what runs, also what a `cargo mesh` that was killed left behind. Returns whether there was anything.
/// # Errors
/// A process does not end, or a namespace cannot be removed.
pub async fn down(layout: &Layout) -> Result<bool> {
    let namespaces = net::namespaces(&layout.prefix()).await?;
    let any = !namespaces.is_empty() || layout.dir().exists();
    for name in &namespaces {
        end(name).await?;
    }
    for name in &namespaces {
        remove(name).await?;
    }
    let dir = layout.dir();
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(any)
}

/// Ends every process of a network namespace.
pub(crate) async fn end(name: &str) -> Result<()> {
    // In rounds: an agent whose Envoy was killed first may start another.
    until_some(&format!("all of {name} has ended"), async || {
        let left = net::processes(name).await.ok()?;
        for pid in &left {
            // It may have ended by itself since.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        left.is_empty().then_some(())
    })
    .await
}

/// Removes a network namespace in which nothing runs.
pub(crate) async fn remove(name: &str) -> Result<()> {
    net::ip(&format!("netns del {name}")).await?;
    let etc = net::etc(name);
    if etc.exists() {
        fs::remove_dir_all(&etc).with_context(|| format!("cannot remove {}", etc.display()))?;
    }
    Ok(())
}
