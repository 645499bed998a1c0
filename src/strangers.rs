//! Services that no request comes for, and what comes instead: a host that was written wrong matches nothing, and nothing else
//! would show it.
//!
//! **Invariant: it costs no hostcall of a request, and nothing at all once every service was used.** A request of no service
//! leaves its host, of which some are remembered; a tick compares one of them at the most.
//!
//! **Invariant: clients add no lines.** What is told is a condition of the service as it was written, whatever comes instead of
//! it. It ends with the first request for that service, and is forgotten once the service is not configured any more.

use core::cell::{Cell, RefCell};

use super::notice;
use crate::metrics::Labels;
use config::Role;
use policy::near::Looks;
use policy::time::Millis;

/// Hosts that are remembered.
const MOST: usize = 32;

/// What a configuration sees of them in one VM.
#[derive(Default)]
pub struct Strangers {
    pub(super) hosts: RefCell<Vec<String>>,
    /// No more are remembered.
    full: Cell<bool>,
    /// Requests came to all services.
    pub(super) closed: Cell<bool>,
    pub(super) looks: Cell<Looks>,
}

impl Strangers {
    /// None yet. At a server a host is whatever its client wrote, so none is remembered.
    pub fn of(role: Role) -> Strangers {
        let strangers = Strangers::default();
        if role != Role::Client {
            strangers.close();
        }
        strangers
    }

    /// Requests came to all services: there is nothing to look for.
    pub fn close(&self) {
        self.full.set(true);
        self.closed.set(true);
    }

    /// Notes the host of a request that is for no service.
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

/// A service of these labels has its first request in this VM.
#[inline(never)]
pub fn found(of: &Labels) {
    let text: notice::Text = ("service %0 has its first request", &[&of.host]);
    notice::ends(&key(of), 0, Millis(0), text);
}

/// The key of the condition that its host is written wrong.
pub fn key(of: &Labels) -> String {
    notice::key(&of.pairs(), "host")
}
