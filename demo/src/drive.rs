//! The demo's load: connections that come and go with the phases, each with one request at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use envoy_test::client::{self, Dial};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::result::Window;
use crate::sample::{Answer, Counts, Reason, Sample};

/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a second is complete.
const POLL: Duration = Duration::from_millis(20);

/// What a load is sent to.
pub struct Target {
    /// How home's proxy is connected to
    pub dial: Dial,
    /// Host and path that requests ask for
    pub url: (String, String),
    /// Who answered: read from an answer, or empty
    pub served_by: fn(&client::Answer) -> String,
    /// The names by which home's and the peer's service answer
    pub clusters: (String, String),
    /// A connection sends at most one request in this time. It is as long as the service takes, so nobody waits for it
    /// but the client that is refused at once: without it, that one would do nothing but collect refusals.
    pub pace: Duration,
}

/// Runs the load, tells `on_second` of each second (from 0) once all of its requests have ended, and returns all requests.
/// # Errors
/// Home's proxy cannot be connected to. A request that fails is a [`Sample`].
pub async fn drive(
    target: Target,
    windows: &[Window],
    mut on_second: impl FnMut(usize, Counts),
) -> Result<Vec<Sample>> {
    let length = windows
        .iter()
        .map(|w| w.start + w.duration)
        .max()
        .unwrap_or_default();
    let load = Arc::new(Load {
        target,
        start: Instant::now(),
        log: Mutex::default(),
    });
    let mut clients = JoinSet::new();
    for window in windows {
        for _ in 0..window.clients {
            clients.spawn(connection(load.clone(), *window));
        }
    }
    for second in 0..length.as_secs() as usize {
        let counts = loop {
            // The first client that ends in an error ends the run; those that end well have nothing to say.
            while let Some(ended) = clients.try_join_next() {
                ended.context("a client panicked")??;
            }
            match load.complete(second) {
                Some(counts) => break counts,
                None => sleep(POLL).await,
            }
        };
        on_second(second, counts);
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(std::mem::take(&mut load.log().samples))
}

struct Load {
    target: Target,
    start: Instant,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    samples: Vec<Sample>,
    /// When the requests that have not ended were sent.
    open: Vec<Duration>,
}

impl Load {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time is read under the lock, so that a second that is over and has nothing open is complete.
    fn sent(&self) -> Duration {
        let mut log = self.log();
        let sent = self.start.elapsed();
        log.open.push(sent);
        sent
    }

    fn ended(&self, sent: Duration, (answer, reason): (Answer, Reason)) {
        let mut log = self.log();
        if let Some(at) = log.open.iter().position(|&other| other == sent) {
            log.open.swap_remove(at);
        }
        log.samples.push(Sample {
            sent,
            ended: self.start.elapsed(),
            answer,
            reason,
        });
    }

    fn complete(&self, second: usize) -> Option<Counts> {
        let log = self.log();
        let of_second = |sent: Duration| sent.as_secs() as usize == second;
        let over = self.start.elapsed().as_secs() as usize > second;
        (over && !log.open.iter().any(|&sent| of_second(sent)))
            .then(|| Counts::of(log.samples.iter().filter(|sample| of_second(sample.sent))))
    }

    fn who(&self, status: u16, served_by: &str) -> Answer {
        let (home, peer) = &self.target.clusters;
        match (status, served_by) {
            (200..=299, name) if name == home => Answer::Home,
            (200..=299, name) if name == peer => Answer::Peer,
            _ => Answer::Failed(status),
        }
    }
}

async fn connection(load: Arc<Load>, window: Window) -> Result<()> {
    sleep_until(load.start + window.start).await;
    let end = load.start + window.start + window.duration;
    let (host, path) = &load.target.url;
    let mut client = load.target.dial.client(false).await?;
    while Instant::now() < end {
        let begin = Instant::now();
        let sent = load.sent();
        let request = client::request("GET", host, path, &[], client::empty())?;
        let answer = match tokio::time::timeout(TIMEOUT, client.send(request)).await {
            Ok(Ok(answer)) => (
                load.who(answer.status, &(load.target.served_by)(&answer)),
                Reason::of(answer.header("x-peer-spillover")),
            ),
            Ok(Err(_)) | Err(_) => {
                client = load.target.dial.client(false).await?;
                (Answer::Failed(0), Reason::Unsaid)
            }
        };
        load.ended(sent, answer);
        sleep_until(begin + load.target.pace).await;
    }
    Ok(())
}
