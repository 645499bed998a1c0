//! What a configuration owes to services that were used before it: their gauges show what is configured now, or nothing.
//!
//! **Invariant: once all VMs run the same configuration, `limit` shows what that says**, 0 for a service that it does not
//! have in any listener. A VM writes its own limit when it first uses a service, and again for each service that any VM of the process has
//! used, in the first tick of each configuration that becomes its current one, and whenever a root context of it ends. So whatever a VM wrote for an older
//! configuration, and in whatever order the VMs come to the newer one, it overwrites itself; and what a dead VM wrote, the
//! VM in its place does. Which services were used is in the index of counts, where a service is before its limit is shown.
//!
//! **Invariant: what another listener serves is that one's to show.** Two listeners may have the same plugin and role with
//! different services, and a VM learns which of its root contexts are of which side by their requests. So a service of a
//! root context that is not known to be replaced is left alone, until that root context ends or is known to be.
//!
//! **Invariant: a service whose errors are not looked at shows no ejection**: the last requests of a configuration before may
//! still end and eject, so its gauge is looked at now and again.

use core::cell::RefCell;

use crate::health;
use crate::hostcalls::{self, Metric};
use crate::metrics::Labels;
use crate::plugin::Plugin;
use crate::service::Service;
use crate::{misroute, succession};
use config::{Mode, Role};
use policy::ejection::Memory;
use policy::names;
use policy::recovery::{INDEX, index};

/// A name in the index, and the gauges of that service, defined once: Envoy keeps each definition as long as the VM lives.
#[derive(Default)]
struct Known {
    name: String,
    limit: Option<Metric>,
    ejected: Option<Metric>,
    misrouted: Option<Metric>,
}

thread_local! {
    /// The index as this VM last read it, which only grows.
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// What a root context does for services that were used before.
#[derive(Default)]
pub struct Left {
    /// The change of what runs that was last seen to.
    seen: u32,
    /// Without error detection now.
    unwatched: Vec<Unwatched>,
    next: usize,
}

impl Left {
    /// A tick of the current root context `root`, which runs this.
    pub fn tick(&mut self, root: u32, plugin: &Plugin) {
        let changes = succession::changes();
        if self.seen != changes {
            self.seen = changes;
            self.unwatched.clear();
            each(plugin, |host, known| {
                let service = plugin.by_name(host);
                if service.is_none() && succession::may_serve_elsewhere(root, plugin, host) {
                    return;
                }
                known.show_limit(plugin, host, service.and_then(|s| s.rule.limit));
                known.forget_misroutes(plugin, host, service);
                if service.is_none_or(|service| service.detection.is_none()) {
                    self.unwatched.extend(known.unwatched(plugin, host));
                }
            });
            self.unwatched.iter_mut().for_each(Unwatched::look);
            return;
        }
        self.next = self.next.saturating_add(1);
        let next = self.next.checked_rem(self.unwatched.len());
        if let Some(unwatched) = next.and_then(|next| self.unwatched.get_mut(next)) {
            unwatched.look();
        }
    }
}

/// A service whose errors are not looked at.
struct Unwatched {
    labels: Labels,
    /// `ejected`.
    gauge: Metric,
    memory: Memory,
}

impl Known {
    fn show_limit(&mut self, plugin: &Plugin, host: &str, limit: Option<u32>) {
        if self.limit.is_none() {
            self.limit = plugin.labels(host).gauge("limit");
        }
        if let Some(gauge) = self.limit {
            hostcalls::record(gauge, limit.unwrap_or(0).into());
        }
    }

    /// Forgets the misroutes of another peer, and of one that is not sent anything any more.
    fn forget_misroutes(&mut self, plugin: &Plugin, host: &str, service: Option<&Service>) {
        if plugin.role != Role::Client {
            return;
        }
        let spills = service.filter(|s| s.mode == Mode::Enforce && s.spills());
        let peer = spills.and_then(|service| service.peer.as_ref());
        let peer = peer.map(|peer| &*peer.host);
        let labels = plugin.labels(host);
        if self.misrouted.is_none() {
            self.misrouted = labels.gauge("misrouted");
        }
        if let Some(gauge) = self.misrouted {
            misroute::forget(&labels, gauge, peer);
        }
    }

    /// The service, once its gauge is defined.
    fn unwatched(&mut self, plugin: &Plugin, host: &str) -> Option<Unwatched> {
        let labels = plugin.labels(host);
        if self.ejected.is_none() {
            self.ejected = labels.gauge("ejected");
        }
        Some(Unwatched {
            labels,
            gauge: self.ejected?,
            memory: Memory::default(),
        })
    }
}

impl Unwatched {
    /// Makes the service available.
    fn look(&mut self) {
        health::forget(&self.labels, self.gauge, &mut self.memory);
    }
}

/// The last VM that ran this plugin ends it: nothing is configured any more.
pub fn end(plugin: &Plugin) {
    each(plugin, |host, known| {
        known.show_limit(plugin, host, None);
        known.forget_misroutes(plugin, host, None);
        if let Some(mut unwatched) = known.unwatched(plugin, host) {
            unwatched.look();
        }
    });
}

/// Calls `see` with the name of each service of this plugin and role that any VM of the process has used.
fn each(plugin: &Plugin, mut see: impl FnMut(&str, &mut Known)) {
    let of = [("plugin", &*plugin.name), ("role", plugin.role.word())];
    let prefix = names::metric(&of, "service=.=");
    let listed = hostcalls::recall_bytes(INDEX).unwrap_or_default();
    // It is never borrowed twice at once.
    let _ = KNOWN.try_with(|all| {
        let Ok(mut all) = all.try_borrow_mut() else {
            return;
        };
        for (n, name) in index::names(&listed).enumerate() {
            if all.get(n).is_none_or(|known| known.name != name) {
                all.truncate(n);
                all.push(Known {
                    name: name.to_owned(),
                    ..Known::default()
                });
            }
            let host = name.strip_prefix(&prefix);
            let host = host.and_then(|rest| rest.strip_suffix(";.;in_flight"));
            if let (Some(host), Some(known)) = (host, all.get_mut(n)) {
                see(host, known);
            }
        }
    });
}
