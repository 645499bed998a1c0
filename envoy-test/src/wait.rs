//! Waiting for a condition, never for a time.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How long anything that must happen may take on a slow and busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, asking every 5 ms.
/// # Errors
/// `what` has not come true after [`DEADLINE`].
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(what, async || condition().then_some(())).await
}

/// Waits until `attempt` gives something, asking every 5 ms, and returns it.
/// # Errors
/// `what` has not come true after [`DEADLINE`].
pub async fn until_some<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    until_some_by(what, DEADLINE, attempt).await
}

/// As [`until_some`], with a deadline of its own.
/// # Errors
/// `what` has not come true after `deadline`.
pub async fn until_some_by<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("after {} s still not so: {what}", deadline.as_secs_f32());
        }
        sleep(POLL).await;
    }
}
