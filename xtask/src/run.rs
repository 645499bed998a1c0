//! Child processes with a progress line, and one clear line when one fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs `command` to its end under a progress line that says `what`, its own output kept for the case that it fails.
/// # Errors
/// It cannot be started (one line that names the program), or it failed (with the end of its output).
pub fn quietly(what: &str, command: &mut Command) -> Result<()> {
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::default_spinner())
        .with_message(what.to_owned());
    if bar.is_hidden() {
        eprintln!("{what} …");
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!("{program} is missing: {what} needs it; install it, or put it on the PATH")
    })?;
    bar.finish_and_clear();
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines
            .get(lines.len().saturating_sub(40)..)
            .unwrap_or_default()
            .join("\n");
        bail!("{what} failed ({program}: {}):\n{end}", output.status);
    }
    Ok(())
}

/// Calls `make` while no other process of this checkout makes the same thing: test programs run side by side.
/// # Errors
/// The lock file cannot be written, or `make` failed.
pub fn alone<T>(lock: &Path, make: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(dir) = lock.parent() {
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    let file =
        File::create(lock).with_context(|| format!("{} cannot be written", lock.display()))?;
    file.lock()
        .with_context(|| format!("{} cannot be locked", lock.display()))?;
    make()
}
