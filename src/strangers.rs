//! Services without requests, and requests for other hosts. A host that is misspelled in the configuration matches no request,
//! and nothing else would show that.
//!
//! **Invariant: this costs no hostcall of a request, and nothing at all once every service was used.** A request that belongs
//! to no service leaves its host, and some of these hosts are remembered. A tick compares at most one of them.
//!
//! **Invariant: clients cannot cause more lines in the log.** The line is about the service as it is written, whichever hosts
//! requests have. The condition ends with the first request for the service, and is forgotten when the service is no longer
//! configured.

use core::cell::{Cell, RefCell};

use super::notice;
use crate::metrics::Labels;
use config::Role;
use policy::names::keys;
use policy::near::Looks;
use policy::time::Millis;

/// The number of hosts that are remembered.
const MOST: usize = 32;

/// What one VM knows for one configuration.
#[derive(Default)]
pub struct Strangers {
    pub(super) hosts: RefCell<Vec<String>>,
    /// No more hosts are remembered.
    full: Cell<bool>,
    /// Requests have come to all services.
    pub(super) closed: Cell<bool>,
    pub(super) looks: Cell<Looks>,
}

impl Strangers {
    /// No hosts yet. On the receiving side a client writes any host, so none is remembered.
    pub fn of(role: Role) -> Strangers {
        let strangers = Strangers::default();
        if role != Role::Client {
            strangers.close();
        }
        strangers
    }

    /// Requests have come to all services, so nothing has to be looked for.
    pub fn close(&self) {
        self.full.set(true);
        self.closed.set(true);
    }

    /// Remembers the host of a request that belongs to no service.
    pub fn note(&self, host: &str) {
        if self.full.get() || host.is_empty() {
            return;
        }
        if let Ok(mut hosts) = self.hosts.try_borrow_mut()
            && !hosts.iter().any(|known| known == host)
        {
            hosts.push(host.to_owned());
            self.full.set(hosts.len() >= MOST);
        }
    }
}

/// A service with these labels has its first request in this VM.
#[inline(never)]
pub fn found(of: &Labels) {
    let text: notice::Text = ("service %0 has its first request", &[&of.host]);
    notice::ends(&key(of), 0, Millis(0), text);
}

/// The key of the condition that a service's host is misspelled.
pub fn key(of: &Labels) -> String {
    notice::key(&of.pairs(), keys::HOST)
}
