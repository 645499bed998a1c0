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
use super::plugin::Plugin;
use super::service::{Labels, Service};
use crate::hostcalls::{self, Level};
use crate::recovery::slot::INDEX;
use config::Role;
use policy::names::metric;
use policy::near::{Look, Looks, Near, near};
use policy::notice::once;
use policy::recovery::index;
use policy::time::Millis;

/// Hosts that are remembered.
const MOST: usize = 32;

/// What a configuration sees of them in one VM.
#[derive(Default)]
pub struct Strangers {
    hosts: RefCell<Vec<String>>,
    /// No more are remembered.
    full: Cell<bool>,
    /// Requests came to all services.
    closed: Cell<bool>,
    looks: Cell<Looks>,
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

impl Plugin {
    /// Compares one of the hosts that were noted with those of services that are not used.
    pub(super) fn see_strangers(&self) {
        let Ok(hosts) = self.strangers.hosts.try_borrow() else {
            return;
        };
        if hosts.is_empty() || self.strangers.closed.get() {
            return;
        }
        let mut looks = self.strangers.looks.get();
        if let Some(look) = looks.next(hosts.len(), self.now().since(self.since)) {
            self.strangers.looks.set(looks);
            self.look(look, &hosts);
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&self, look: Look, hosts: &[String]) {
        // What any VM of the proxy has had a request for.
        let listed = hostcalls::recall_bytes(INDEX).unwrap_or_default();
        let of = [("plugin", &*self.name), ("role", self.role.word())];
        let prefix = metric(&of, "service=.=");
        for name in index::names(&listed) {
            let host = name.strip_prefix(&prefix);
            let host = host.and_then(|rest| rest.strip_suffix(";.;in_flight"));
            if let Some(service) = host.and_then(|host| self.by_name(host)) {
                service.requested.set(true);
            }
        }
        match look {
            Look::At(n, kind) => {
                if let Some(came) = hosts.get(n) {
                    self.compare(came, kind);
                }
            }
            Look::Whole => self.say_none(hosts.first().map_or("", String::as_str)),
        }
    }

    fn compare(&self, came: &str, kind: Near) {
        if self.by_peer_host(came).is_some() {
            return;
        }
        for service in &self.services {
            let written = service.host();
            if service.requested.get() || near(written, came) != Some(kind) {
                continue;
            }
            service.suspected.set(true);
            let text = match kind {
                Near::Short => {
                    "service %0: host must be the full name. Requests for %1 come: if that is the service, write host: %1"
                }
                Near::Alike => {
                    "service %0: no request for it has come in a minute, but for %1: if that is the service, write host: %1"
                }
            };
            notice::begins(&key(&service.labels), 0, (text, &[written, came]));
        }
    }

    /// No service is used, and no host is like any: so it is too where a pod only calls other services.
    fn say_none(&self, came: &str) {
        let known = |service: &Service| service.requested.get() || service.suspected.get();
        if self.services.iter().any(known) {
            return;
        }
        let key = notice::key(&self.labels("*").pairs(), "none");
        let now = hostcalls::monotonic();
        if hostcalls::exchange_bytes(&key, &mut |last| once(last, 0, now)) {
            let text = "no request for any service has come in a minute, but some for %0. A service's host is its full name, NAME.NAMESPACE.svc.cluster.local";
            notice::write(Level::Info, (text, &[came]));
        }
    }

    /// Takes over what was told of the services that this configuration has too, and forgets the others; all of them, where
    /// `now` there is none.
    pub(super) fn forget_strangers(&self, now: Option<&Plugin>) {
        for service in self.services.iter().filter(|s| s.suspected.take()) {
            match now.and_then(|now| now.by_name(service.host())) {
                Some(now) => now.suspected.set(true),
                None => {
                    notice::forget(&key(&service.labels));
                }
            }
        }
    }
}

/// A service of these labels has its first request in this VM.
#[inline(never)]
pub fn found(of: &Labels) {
    let text: notice::Text = ("service %0 has its first request", &[&of.host]);
    notice::ends(&key(of), 0, Millis(0), text);
}

fn key(of: &Labels) -> String {
    notice::key(&of.pairs(), "host")
}
