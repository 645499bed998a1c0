//! What a tick does about hosts of requests that belong to no service ([`crate::strangers`]).

use crate::hostcalls::{self, Level};
use crate::notice;
use crate::plugin::Plugin;
use crate::service::Service;
use crate::strangers::key;
use policy::names::keys;
use policy::near::{Look, Near, near};
use policy::notice::once;
use policy::recovery::{INDEX, index};

impl Plugin {
    /// Compares one of the remembered hosts with those of services that are not used.
    pub(crate) fn see_strangers(&self) {
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
        // The services that any VM of the proxy has had a request for.
        let listed = hostcalls::recall_bytes(INDEX).unwrap_or_default();
        for name in index::names(&listed) {
            let host = self.destination_of(name).map(|(host, _)| host);
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

    /// No service is used, and no host resembles any of them. This is also true for a pod that only calls other services.
    fn say_none(&self, came: &str) {
        let known = |service: &Service| service.requested.get() || service.suspected.get();
        if self.services.iter().any(known) {
            return;
        }
        let key = notice::key(&self.labels("*").pairs(), keys::NONE);
        let now = hostcalls::monotonic();
        if hostcalls::exchange_bytes(&key, &mut |last| once(last, 0, now)) {
            let text = "no request for any service has come in a minute, but some for %0. A service's host is its full name, NAME.NAMESPACE.svc.cluster.local";
            notice::write(Level::Info, (text, &[came]));
        }
    }

    /// Takes over what the log said about services that this configuration has too, and forgets the others. If there is no
    /// configuration `now`, it forgets all of them.
    pub(crate) fn forget_strangers(&self, now: Option<&Plugin>) {
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
