//! Carries out what a configuration owes to the destinations that were used before it: [`policy::left`] says what, and why.

use core::cell::RefCell;

use crate::health;
use crate::hostcalls::{self, Metric};
use crate::metrics::Subject;
use crate::peer::{Peer, misroute};
use crate::plugin::Plugin;
use crate::service::Service;
use crate::succession;
use config::{Mode, Role};
use policy::ejection::Memory;
use policy::left::{Left, Stands, Step};
use policy::recovery::{INDEX, index};

/// A name in the index, and the gauges of that destination, defined once: Envoy keeps each definition as long as the VM lives.
#[derive(Default)]
struct Known {
    name: String,
    limit: Option<Metric>,
    ejected: Option<Metric>,
    misrouted: Option<Metric>,
    /// Of the record of its errors, where these are not looked at.
    memory: Memory,
}

thread_local! {
    /// The index as this VM last read it, which only grows.
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// A tick of the current root context `root`, which runs this.
pub fn tick(left: &mut Left, root: u32, plugin: &Plugin) {
    left.tick(succession::changes());
    carry_out(left, Some(root), plugin);
}

/// The last VM that ran this plugin ends it: nothing is configured any more.
pub fn end(plugin: &Plugin) {
    carry_out(&mut Left::default(), None, plugin);
}

#[inline(never)]
fn carry_out(left: &mut Left, root: Option<u32>, plugin: &Plugin) {
    // It is never borrowed twice at once.
    let _ = KNOWN.try_with(|known| {
        let Ok(mut known) = known.try_borrow_mut() else {
            return;
        };
        let mut stands = Stands::End;
        loop {
            match left.next(stands) {
                Step::List => see(&mut known),
                Step::Ask(n) => {
                    stands = known.get(n).map_or(Stands::End, |known| {
                        let of = plugin.destination_of(&known.name);
                        of.map_or(Stands::Others, |of| how_stands(root, plugin, of))
                    });
                }
                Step::Show(n, limit) => {
                    if let Some(known) = known.get_mut(n) {
                        known.show(plugin, root.is_some(), limit);
                    }
                }
                Step::Available(n) => {
                    if let Some(known) = known.get_mut(n) {
                        known.forget(plugin);
                    }
                }
                Step::Done => return,
            }
        }
    });
}

/// Reads the index.
fn see(all: &mut Vec<Known>) {
    let listed = hostcalls::recall_bytes(INDEX).unwrap_or_default();
    for (n, name) in index::names(&listed).enumerate() {
        if all.get(n).is_none_or(|known| known.name != name) {
            all.truncate(n);
            all.push(Known {
                name: name.to_owned(),
                ..Known::default()
            });
        }
    }
}

/// How a destination, by the host of its service and its name if it is a peer, stands with what `root` runs, which is the plugin,
/// or with nothing.
fn how_stands(root: Option<u32>, plugin: &Plugin, (host, peer): (&str, Option<&str>)) -> Stands {
    let Some(root) = root else {
        return Stands::Nowhere;
    };
    match (plugin.by_name(host), peer) {
        (Some(service), None) => Stands::Here {
            limit: service.rule.limit.unwrap_or(0),
            watched: service.detection.is_some(),
        },
        (Some(service), Some(peer)) => match service.peer_named(peer) {
            Some(peer) => Stands::Here {
                limit: peer.limit().unwrap_or(0),
                watched: peer.is_watched(),
            },
            None => Stands::Nowhere,
        },
        (None, _) if succession::may_serve_elsewhere(root, plugin, host) => Stands::Others,
        (None, _) => Stands::Nowhere,
    }
}

impl Known {
    /// Shows the limit, and forgets the misroutes of another peer, and of one that is not sent anything any more. Whether the plugin
    /// `runs`.
    fn show(&mut self, plugin: &Plugin, runs: bool, limit: u32) {
        let Some((host, peer)) = plugin.destination_of(&self.name) else {
            return;
        };
        let service = &plugin.labels(host);
        let of = Subject { service, peer };
        if self.limit.is_none() {
            self.limit = of.gauge("limit");
        }
        if let Some(gauge) = self.limit {
            hostcalls::record(gauge, limit.into());
        }
        if plugin.role != Role::Client {
            return;
        }
        if self.misrouted.is_none() {
            self.misrouted = of.gauge("misrouted");
        }
        let service = plugin.by_name(host).filter(|_| runs);
        let spills = |s: &&Service| s.mode == Mode::Enforce && s.spills();
        let service = service.filter(spills);
        if let Some(gauge) = self.misrouted {
            let peer = service.and_then(|service| service.misroutes_of(peer));
            misroute::forget(of, gauge, peer.map(Peer::at));
        }
    }

    /// Makes the destination available.
    fn forget(&mut self, plugin: &Plugin) {
        let Some((host, peer)) = plugin.destination_of(&self.name) else {
            return;
        };
        let service = &plugin.labels(host);
        let of = Subject { service, peer };
        if self.ejected.is_none() {
            self.ejected = of.gauge("ejected");
        }
        if let Some(gauge) = self.ejected {
            health::forget(of, gauge, &mut self.memory);
        }
    }
}
