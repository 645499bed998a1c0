//! Services that no request comes for, and what comes instead: a host that was written wrong matches nothing, and nothing else
//! would show it.
//!
//! **Invariant: it costs no hostcall of a request, and nothing at all once every service was used.** A request of no service
//! leaves its host, of which some are remembered; a tick compares one of them at the most.

use core::cell::{Cell, RefCell};

use super::host;
use super::notice;
use super::plugin::Plugin;
use super::service::Labels;
use super::slot::INDEX;
use crate::config::Role;
use crate::names::metric;
use crate::policy::index;
use crate::policy::near::{Near, near};

/// Hosts that are remembered.
const MOST: usize = 32;
/// Ticks in a minute.
const MINUTE: u32 = 300;
/// What stands for all services together in the key of a condition.
const ANY: &str = "*";

/// What a configuration sees of them in one VM.
#[derive(Default)]
pub struct Strangers {
    hosts: RefCell<Vec<String>>,
    /// No more are remembered.
    full: Cell<bool>,
    /// Requests came to all services.
    closed: Cell<bool>,
    /// How many were compared: for a short form, and after a minute for one that is alike.
    compared: [Cell<usize>; 2],
    told: Cell<bool>,
}

impl Strangers {
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

impl Plugin {
    /// Compares one of the hosts that were noted with those of services that are not used.
    pub(super) fn see_strangers(&self) {
        let Ok(hosts) = self.strangers.hosts.try_borrow() else {
            return;
        };
        if hosts.is_empty() || self.strangers.closed.get() {
            return;
        }
        let minutes = self.now().checked_rem(MINUTE) == Some(0);
        for (kind, compared) in [Near::Short, Near::Alike]
            .into_iter()
            .zip(&self.strangers.compared)
        {
            if kind == Near::Alike && self.now() < MINUTE {
                return;
            }
            let n = compared.get();
            if let Some(host) = hosts.get(n) {
                compared.set(n.saturating_add(1));
                self.compare(host, kind);
                return;
            }
        }
        if minutes && !self.strangers.told.get() {
            self.say_none(hosts.first().map_or("", String::as_str));
        }
    }

    #[cold]
    fn compare(&self, came: &str, kind: Near) {
        if self.by_peer_host(came).is_some() {
            return;
        }
        for service in &self.services {
            let written = service.host();
            if service.visited.get() || near(written, came) != Some(kind) || self.was_used(written)
            {
                continue;
            }
            self.strangers.told.set(true);
            let text = match kind {
                Near::Short => {
                    "service %0: host must be the full name. Requests for %1 come: if that is the service, write host: %1"
                }
                Near::Alike => {
                    "service %0: no request for it has come in a minute, but for %1: if that is the service, write host: %1"
                }
            };
            notice::begins(
                &key(&self.name, self.role, came),
                0,
                (text, &[written, came]),
            );
        }
    }

    /// No service is used, and no host is like any.
    #[cold]
    #[inline(never)]
    fn say_none(&self, came: &str) {
        if self
            .services
            .iter()
            .any(|service| self.was_used(service.host()))
        {
            return;
        }
        self.strangers.told.set(true);
        let text = "no request for any service has come in a minute, but some for %0. A service's host is its full name, NAME.NAMESPACE.svc.cluster.local";
        notice::begins(&key(&self.name, self.role, ANY), 0, (text, &[came]));
    }

    /// Whether any VM of the proxy has had a request for this service.
    #[cold]
    #[inline(never)]
    fn was_used(&self, host: &str) -> bool {
        let listed = host::recall_bytes(INDEX).unwrap_or_default();
        let count = metric(&labels(&self.name, self.role, host), "in_flight");
        index::names(&listed).any(|name| name == count)
    }
}

/// A service of these labels has its first request in this VM.
#[inline(never)]
pub fn found(of: &Labels) {
    let text: notice::Text = ("service %0 has its first request", &[&of.host]);
    for host in [&of.host, ANY] {
        notice::ends(&key(&of.plugin, of.role, host), 0, 0, text);
    }
}

#[inline(never)]
fn key(plugin: &str, role: Role, host: &str) -> String {
    notice::key(&labels(plugin, role, host), "host")
}

fn labels<'a>(plugin: &'a str, role: Role, host: &'a str) -> [(&'static str, &'a str); 3] {
    [("plugin", plugin), ("role", role.word()), ("service", host)]
}
