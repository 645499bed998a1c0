//! A service that says who it is, and counts how many requests it has open at a time.
//!
//! What it does with a request is chosen by the request's headers: [`answer`] lists them.

mod answer;
mod body;
mod count;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use count::Received;
use count::{Releases, Shared};

/// What an [`Echo`] is.
#[derive(Clone, Debug)]
pub struct EchoOptions {
    /// The cluster it stands for; what `x-served-by` says.
    pub name: String,
    /// The pod that it says it is.
    pub pod: String,
    /// Between the end of a request and its answer, where the request does not choose.
    pub delay: Duration,
}

impl EchoOptions {
    /// An echo of this name that answers at once.
    pub fn named(name: &str, pod: &str) -> Self {
        EchoOptions {
            name: name.to_owned(),
            pod: pod.to_owned(),
            delay: Duration::ZERO,
        }
    }
}

/// A running echo service on a port of its own, HTTP/1.1 and HTTP/2 (prior knowledge). Dropped, it closes its connections.
///
/// A request counts as in flight from its headers until just before the last byte of its answer is handed over, so that
/// no proxy can see the end of one before the count went down; an aborted one until the abort is seen.
pub struct Echo {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<JoinHandle<()>>,
}

impl Echo {
    /// Starts one on a free port of 127.0.0.1.
    /// # Errors
    /// There is no free port.
    pub async fn start(options: EchoOptions) -> Result<Echo> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok(Echo {
            addr,
            shared,
            server: Mutex::new(server),
        })
    }

    /// Stops listening and closes all connections, as a service that is gone: nobody can connect until [`Echo::reopen`].
    /// # Errors
    /// That is not so by [`crate::DEADLINE`].
    pub async fn close(&self) -> Result<()> {
        self.server().abort();
        // Its connections are tasks of their own, each gone a moment later.
        crate::until("the echo is closed", || {
            self.server().is_finished() && Arc::strong_count(&self.shared) == 1
        })
        .await
    }

    /// Listens again, on the same port.
    /// # Errors
    /// Another has taken it.
    pub async fn reopen(&self) -> Result<()> {
        let listener = TcpListener::bind(self.addr).await?;
        *self.server() = tokio::spawn(serve(listener, self.shared.clone()));
        Ok(())
    }

    fn server(&self) -> MutexGuard<'_, JoinHandle<()>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The name that it was given.
    pub fn name(&self) -> &str {
        &self.shared.options.name
    }

    /// Requests open now.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// Most requests ever open at once, or since [`Echo::reset_max`].
    pub fn max_in_flight(&self) -> usize {
        self.shared.max_in_flight()
    }

    /// Since when how many requests were open, from the start or [`Echo::reset_max`], in the order of time.
    pub fn changes(&self) -> Vec<(Instant, usize)> {
        self.shared.changes().clone()
    }

    /// Starts the maximum and the changes anew, from what is open now.
    pub fn reset_max(&self) {
        self.shared.reset_max();
    }

    /// Requests received since the start or [`Echo::clear`], in order of arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.received().clone()
    }

    /// How many requests were received since the start or [`Echo::clear`].
    pub fn count(&self) -> usize {
        self.shared.received().len()
    }

    /// Forgets the requests received, the maximum in flight, its changes and the keys released.
    pub fn clear(&self) {
        self.shared.received().clear();
        self.shared.reset_max();
        self.shared.releases.send_replace(Releases::default());
    }

    /// Lets requests with `x-hold: KEY` be answered: those that wait and those yet to come.
    pub fn release(&self, key: &str) {
        self.shared.releases.send_modify(|releases| {
            releases.keys.insert(key.to_owned());
        });
    }

    /// Lets all requests with `x-hold` be answered, whatever their key: those that wait and those yet to come.
    pub fn release_all(&self) {
        self.shared
            .releases
            .send_modify(|releases| releases.all = true);
    }

    /// Every answer to a request that comes from now on has this status, whatever the request asks for; or again the one that
    /// it asks for.
    pub fn fail(&self, status: Option<StatusCode>) {
        *self.shared.fails() = status;
    }

    /// Waits until exactly `n` requests are open.
    /// # Errors
    /// That is not so by [`crate::DEADLINE`].
    pub async fn wait_in_flight(&self, n: usize) -> Result<()> {
        let what = format!("{n} requests in flight at {}", self.name());
        let waited = crate::until(&what, || self.in_flight() == n).await;
        waited.map_err(|error| error.context(format!("{} are", self.in_flight())))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server().abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task: then every connection closes.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // A failed accept concerns a connection that is gone already.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move {
                    let fails = *shared.fails();
                    let mut answer = answer::answer(shared, request).await?;
                    *answer.status_mut() = fails.unwrap_or(answer.status());
                    anyhow::Ok(answer)
                }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http2()
                .enable_connect_protocol()
                .max_concurrent_streams(None);
            // An error here is a client that went away, or the reset that a request asked for.
            let _ = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}
