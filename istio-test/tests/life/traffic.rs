//! A load that goes on while things change, of which every request's outcome is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use envoy_test::load::{Outcome, Until, closed_loop, failed};
use envoy_test::wait::until_some_by;
use istio_test::Mesh;
use istio_test::fixture::{self, home, peer};
use istio_test::layout::{CLIENT, HOME_APP, PEER_APP};
use tokio::task::JoinHandle;

use crate::plugin::Log;

pub const CLIENTS: usize = 10;
/// With ten clients, a hundred requests a second.
pub const PACE: Duration = Duration::from_millis(100);
/// Long enough for several to be in flight at once, short enough for the pace.
pub const PATH: &str = "/?delay=30ms";
/// Longer than any test: a load ends when its test says so.
const ENDLESS: Duration = Duration::from_secs(3600);
/// How long a change may take to be seen: with an istiod that was away it is Envoy that waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(90);
/// So many requests in a row, of ten clients on two workers, are no coincidence.
const ENOUGH: usize = 60;
/// What `debugHeader` says of a request within the limit, and of one beyond it.
const STAYED: &str = "home; reason=room";
pub const SPILLED: &str = "gke; reason=limit";

/// A hundred requests a second from the client's pod to service `a`, until [`Traffic::end`].
///
/// Whatever is waited for, a request that fails ends the waiting and the test.
pub struct Traffic {
    logs: Vec<Log>,
    seen: Arc<Mutex<Vec<Outcome>>>,
    task: JoinHandle<Result<Vec<Outcome>>>,
}

impl Traffic {
    pub async fn start(mesh: &Mesh) -> Result<Traffic> {
        let mut load = fixture::load(mesh, CLIENTS, Until::Elapsed(ENDLESS)).await?;
        let seen: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let to = seen.clone();
        load.path = PATH.to_owned();
        load.pace = PACE;
        load.progress = Some(Arc::new(move |outcome| {
            to.lock().unwrap().push(outcome.clone())
        }));
        // Those that a request may pass; of the gateways' no line tells of requests, since they pass TLS on.
        let proxies = [CLIENT, HOME_APP, PEER_APP];
        let logs: Result<_> = proxies.iter().map(|pod| Log::of(mesh, pod)).collect();
        Ok(Traffic {
            logs: logs?,
            seen,
            task: tokio::spawn(closed_loop(load)),
        })
    }

    fn of<T>(&self, from: usize, look: impl FnOnce(&[Outcome]) -> T) -> T {
        look(&self.seen.lock().unwrap()[from..])
    }

    /// How many requests have ended, when each client has ended one more: those after them were all begun after this was
    /// called.
    pub async fn now(&self) -> Result<usize> {
        let from = self.of(0, <[Outcome]>::len);
        self.wait("each client has had one more answer", from, |later| {
            (0..CLIENTS).all(|client| later.iter().any(|outcome| outcome.client == client))
        })
        .await?;
        Ok(self.of(0, <[Outcome]>::len))
    }

    /// Waits until the requests that ended since `from` are as `all` says.
    async fn wait(&self, what: &str, from: usize, all: impl Fn(&[Outcome]) -> bool) -> Result<()> {
        let done = until_some_by(what, PATIENCE, async || {
            self.of(from, |later| failed(later) > 0 || all(later))
                .then_some(())
        })
        .await;
        done.map_err(|error| error.context(self.of(from, shown)))?;
        self.none_failed(from).await
    }

    /// Says what the proxies' access logs have of those that failed, if any did.
    async fn none_failed(&self, from: usize) -> Result<()> {
        let failed = self.of(from, failed);
        if failed == 0 {
            return Ok(());
        }
        // Envoy writes it once a second.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let logs: Result<Vec<String>> = self.logs.iter().map(Log::failures).collect();
        let (shown, logs) = (self.of(from, shown), logs?.join("\n"));
        bail!("{failed} failed, of\n{shown}\n{logs}")
    }

    /// Waits until one request after another is as `each` says, and for long enough.
    async fn becomes(&self, what: &str, each: impl Fn(&Outcome) -> bool) -> Result<()> {
        let from = self.of(0, <[Outcome]>::len);
        self.wait(what, from, |later| {
            later.len() >= ENOUGH && later[later.len() - ENOUGH..].iter().all(&each)
        })
        .await
    }

    /// All stay home, and each was decided.
    pub async fn stays(&self) -> Result<()> {
        self.becomes("all stay home, as decided", |outcome| {
            outcome.decision == STAYED && outcome.served_by == home()
        })
        .await
    }

    /// All stay home, and the filter says nothing: it is not there, or leaves requests alone.
    pub async fn passes(&self) -> Result<()> {
        self.becomes("all pass untouched", |outcome| {
            outcome.decision.is_empty() && outcome.served_by == home()
        })
        .await
    }

    /// Of the requests begun from now on, some stay home, and some go to the peer, as the limit says.
    pub async fn spills(&self) -> Result<()> {
        let from = self.now().await?;
        self.wait("the surplus goes to the peer", from, |later| {
            let by = |decision: &str, name: String| {
                let those = later.iter().filter(|outcome| outcome.decision == decision);
                those.filter(|outcome| outcome.served_by == name).count()
            };
            by(SPILLED, peer()) >= 10 && by(STAYED, home()) >= 10
        })
        .await
    }

    /// Of the requests that ended in this range none passed by the filter.
    pub fn all_decided(&self, from: usize, to: usize) -> Result<()> {
        let untouched = |seen: &[Outcome]| {
            let seen = seen.iter().take(to - from);
            seen.filter(|outcome| outcome.decision.is_empty()).count()
        };
        match self.of(from, untouched) {
            0 => Ok(()),
            some => bail!("{some} of {} passed by the filter", to - from),
        }
    }

    /// Ends the load when each client has had another answer, so that none was left waiting. None has failed.
    pub async fn end(self) -> Result<Vec<Outcome>> {
        self.now().await?;
        self.task.abort();
        let all = self.of(0, <[Outcome]>::to_vec);
        self.none_failed(0).await?;
        println!("{} requests, none failed", all.len());
        Ok(all)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of requests: how often which status, server, decision and error came.
pub fn shown(outcomes: &[Outcome]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for Outcome {
        status,
        served_by,
        decision,
        error,
        ..
    } in outcomes
    {
        let kind = format!("{status} by {served_by:?}, decided {decision:?} {error}");
        *kinds.entry(kind).or_default() += 1;
    }
    format!("{kinds:#?}")
}
