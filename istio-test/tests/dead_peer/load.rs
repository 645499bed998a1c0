//! Clients that go on until they are told to stop, each request with a path of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::client::{Dial, empty, full, request};
use envoy_test::wait::until_some_by;
use istio_test::federation::answered;
use istio_test::{Cluster, Mesh, fixture};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::PATIENCE;

/// A request that takes longer is lost.
const LOST: Duration = Duration::from_secs(120);
/// What a calm client waits between an answer and its next request: a connection to the peer stands idle meanwhile.
const CALM: Duration = Duration::from_millis(100);

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which client sent it.
    pub client: usize,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// From the load's start to the request's beginning.
    pub begun: Duration,
    /// How long it took.
    pub took: Duration,
    /// 0 where there was no answer.
    pub status: u16,
    /// Whose application answered, or empty.
    pub by: String,
    /// Whether the filter sent it to the peer.
    pub spilled: bool,
}

impl Sent {
    pub fn ok(&self) -> bool {
        self.status == 200
    }

    pub fn by_peer(&self) -> bool {
        self.ok() && self.by == fixture::peer()
    }

    /// Spilled, and answered at home: it came back.
    pub fn returned(&self) -> bool {
        self.ok() && self.spilled && self.by == fixture::home()
    }
}

/// Those that were not answered with a 200.
pub fn lost(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|sent| !sent.ok()).collect()
}

/// A load under way.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    dial: Dial,
    host: &'static str,
    start: Instant,
    stop: AtomicBool,
    next: AtomicUsize,
    seen: Mutex<Vec<Sent>>,
}

impl Load {
    /// A client for each of `methods` that sends to service `a`, one request of 100 ms after another.
    pub async fn of(mesh: &Mesh, methods: &[&'static str]) -> Result<Load> {
        Load::with_calm(mesh, methods, &[]).await
    }

    /// As [`Load::of`], and more clients, which wait a while before their next request.
    pub async fn with_calm(
        mesh: &Mesh,
        methods: &[&'static str],
        calm: &[&'static str],
    ) -> Result<Load> {
        let to = fixture::dial(mesh).await?;
        let mut load = Load::over(to, istio_test::mesh::SERVICE, methods);
        load.spawn(calm, CALM);
        Ok(load)
    }

    /// As [`Load::of`], over other connections and for another host.
    pub fn over(dial: Dial, host: &'static str, methods: &[&'static str]) -> Load {
        let mut load = Load {
            shared: Arc::new(Shared {
                dial,
                host,
                start: Instant::now(),
                stop: AtomicBool::new(false),
                next: AtomicUsize::new(0),
                seen: Mutex::default(),
            }),
            tasks: JoinSet::new(),
        };
        load.spawn(methods, Duration::ZERO);
        load
    }

    fn spawn(&mut self, methods: &[&'static str], pause: Duration) {
        for method in methods {
            let client = self.shared.clone().client(self.tasks.len(), method, pause);
            self.tasks.spawn(client);
        }
    }

    /// From the load's start to now.
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Waits until `n` requests begun after `since` are as `is` says.
    pub async fn wait(
        &self,
        what: &str,
        since: Duration,
        n: usize,
        is: impl Fn(&Sent) -> bool,
    ) -> Result<()> {
        let seen = || self.shared.seen.lock().unwrap();
        let so = |sent: &&Sent| sent.begun >= since && is(sent);
        until_some_by(what, PATIENCE, async || {
            (seen().iter().filter(so).count() >= n).then_some(())
        })
        .await
        .with_context(|| format!("{:#?}", seen().iter().rev().take(4).collect::<Vec<_>>()))
    }

    /// Begins no request any more, and returns all when the last has ended.
    pub async fn finish(mut self) -> Result<Vec<Sent>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done?;
        }
        let seen = std::mem::take(&mut *self.shared.seen.lock().unwrap());
        ensure!(!seen.is_empty(), "no request was sent");
        println!("{}", summary(&seen));
        Ok(seen)
    }
}

impl Shared {
    async fn client(self: Arc<Self>, index: usize, method: &'static str, pause: Duration) {
        let mut client = None;
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let path = format!("/{n}?delay=100ms");
            let begin = Instant::now();
            let one = async {
                let client = match &mut client {
                    Some(open) => open,
                    none => none.insert(self.dial.client(false).await?),
                };
                let body = if method == "POST" { full("x") } else { empty() };
                let ask = request(method, self.host, &path, &[], body)?;
                client.send(ask).await
            };
            let answer = timeout(LOST, one).await.ok().and_then(Result::ok);
            let decision = |answer| envoy_test::client::Answer::header(answer, "x-peer-spillover");
            let spilled = answer.as_ref().map(decision).unwrap_or_default();
            let sent = Sent {
                client: index,
                method,
                begun: begin - self.start,
                took: begin.elapsed(),
                status: answer.as_ref().map_or(0, |answer| answer.status),
                by: answer.as_ref().map(answered).unwrap_or_default(),
                spilled: spilled.starts_with(Cluster::Peer.name()),
            };
            if answer.is_none() {
                client = None;
            }
            self.seen.lock().unwrap().push(sent);
            sleep(pause).await;
        }
    }
}

/// The numbers of a load, in a line.
fn summary(sent: &[Sent]) -> String {
    let count = |is: &dyn Fn(&Sent) -> bool| sent.iter().filter(|sent| is(sent)).count();
    let longest = sent.iter().map(|sent| sent.took).max().unwrap_or_default();
    format!(
        "{} sent: {} home, {} peer, {} returned, {} lost; the longest took {} ms",
        sent.len(),
        count(&|sent| sent.ok() && !sent.spilled),
        count(&Sent::by_peer),
        count(&Sent::returned),
        count(&|sent| !sent.ok()),
        longest.as_millis(),
    )
}
