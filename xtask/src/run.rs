//! Child processes with a progress line, and one clear line when one fails.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A command that is done within this time had nothing to do, and nobody needs to hear of it.
const QUICK: Duration = Duration::from_millis(700);

/// Where the lines of commands that run side by side stand below each other.
static LINES: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Runs `command` to its end, its own output kept for the case that it fails. If it takes longer than a moment, a line
/// on stderr says `what`.
/// # Errors
/// It cannot be started (one line that names the program), or it failed (with the end of its output).
pub fn quietly(what: &str, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (done, waiting) = mpsc::channel::<()>();
    let output = thread::scope(|scope| {
        scope.spawn(move || show(what, &waiting));
        let output = command.stdin(Stdio::null()).output();
        drop(done);
        output
    })
    .with_context(|| {
        format!("{program} is missing: {what} needs it; install it, or put it on the PATH")
    })?;
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

/// Shows `what` until the other end of `waiting` is gone.
fn show(what: &str, waiting: &Receiver<()>) {
    if waiting.recv_timeout(QUICK) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::default_spinner())
        .with_message(what.to_owned());
    let bar = LINES.add(bar);
    if bar.is_hidden() {
        // Not by a macro: a test's progress is wanted while it runs. Nobody can be told that stderr is closed.
        let _ = writeln!(io::stderr(), "{what} …");
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    // Nothing is ever sent: this returns when the sender is dropped.
    let _ = waiting.recv();
    bar.finish_and_clear();
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
