//! What an echo knows of its requests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::{HeaderMap, StatusCode};
use tokio::sync::watch;

use super::EchoOptions;

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Number of the request, from 0, over the life of the echo.
    pub id: usize,
    /// GET, POST, …
    pub method: String,
    /// Host header or `:authority`.
    pub host: String,
    /// Path with query.
    pub path: String,
    /// Names (lower case) and values, in their order.
    pub headers: Vec<(String, String)>,
    /// Bytes of its body read so far: all of them, once it was answered.
    pub body_len: usize,
}

impl Received {
    /// The first value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Keys of `x-hold` that may go.
#[derive(Default)]
pub(super) struct Releases {
    pub all: bool,
    pub keys: HashSet<String>,
}

/// What the connections of an echo share.
pub(super) struct Shared {
    pub options: EchoOptions,
    pub releases: watch::Sender<Releases>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    /// Since when so many were in flight, in the order of time.
    changes: Mutex<Vec<(Instant, usize)>>,
    next_id: AtomicUsize,
    received: Mutex<Vec<Received>>,
    /// The status of every answer, where one is set.
    fails: Mutex<Option<StatusCode>>,
}

impl Shared {
    pub fn new(options: EchoOptions) -> Self {
        Shared {
            options,
            releases: watch::Sender::new(Releases::default()),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            changes: Mutex::default(),
            next_id: AtomicUsize::new(0),
            received: Mutex::default(),
            fails: Mutex::default(),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight.load(Ordering::SeqCst)
    }

    pub fn reset_max(&self) {
        let mut changes = self.changes();
        changes.clear();
        self.max_in_flight.store(self.in_flight(), Ordering::SeqCst);
    }

    pub fn changes(&self) -> MutexGuard<'_, Vec<(Instant, usize)>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fails(&self) -> MutexGuard<'_, Option<StatusCode>> {
        self.fails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests received. A test that panicked while it held them has not harmed them.
    pub fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request and returns its number.
    pub fn record(&self, method: &str, host: &str, path: &str, headers: &HeaderMap) -> usize {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        self.received().push(Received {
            id,
            method: method.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body_len: 0,
        });
        id
    }

    /// Adds bytes of a body to the request of this number, if it was not cleared meanwhile.
    pub fn read_body(&self, id: usize, bytes: usize) {
        if let Some(request) = self
            .received()
            .iter_mut()
            .rev()
            .find(|request| request.id == id)
        {
            request.body_len += bytes;
        }
    }
}

/// One request in flight; dropped, it no longer is.
pub(super) struct InFlight(Arc<Shared>);

impl InFlight {
    pub fn new(shared: Arc<Shared>) -> Self {
        // Counted under the lock, so that the changes have the order of what they say.
        let mut changes = shared.changes();
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.max_in_flight.fetch_max(now, Ordering::SeqCst);
        changes.push((Instant::now(), now));
        drop(changes);
        InFlight(shared)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut changes = self.0.changes();
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        changes.push((Instant::now(), before.saturating_sub(1)));
    }
}
