//! One peer of a service in one VM: the count of the requests that are in flight there, what is known of the way to it, and
//! its metrics.
//!
//! **Invariant: a peer of a service that was never used costs nothing.** Its metrics are defined, and its shared data is
//! written, when the service is first used in a VM, and its count when a request is first spilled to it.

pub mod misroute;
mod way;

use core::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use crate::hostcalls::Metric;
use crate::metrics::{self, Labels, Subject};
use config::Routing;
use policy::destination::{DestinationId, PeerId};
use policy::names::{self, SpillReason};
use policy::outcome::{Answerer, Unreached};
use policy::recovery::shared_count::SharedCount;
use policy::{Outcome, Routes};

pub use way::Left;

/// A peer of a service.
pub struct Peer {
    pub id: DestinationId,
    /// Its name, and the host whose route leads to it.
    config: config::Peer,
    /// How a request is rewritten so that its route leads to the peer.
    pub routing: Routing,
    /// The labels of the service.
    service: Rc<Labels>,
    /// It is empty until the service is first used.
    used: OnceCell<Box<Used>>,
}

/// What a VM knows of a peer from the first request of the service on.
struct Used {
    /// The count of requests in flight at the peer. It is empty until the first request is spilled, and `None` if Envoy does
    /// not keep the gauge.
    in_flight: OnceCell<Option<Rc<SharedCount>>>,
    /// The beliefs about the routes to the peer.
    routes: RefCell<Routes>,
    /// The kind of misroute that the next tick looks at, and the kinds for which the last looks found that the gauge is wrong.
    looks: Cell<(usize, u64)>,
    /// The requests of this worker in a row that the peer did not answer.
    unreached: Cell<Unreached>,
    /// The gauge of the kinds of misroute that stand. `None` if Envoy does not define it.
    misrouted: Option<Metric>,
    misroutes: Cell<Option<Metric>>,
    decisions: [Cell<Option<Metric>>; SpillReason::ALL.len()],
    outcomes: [Cell<Option<Metric>>; Outcome::KINDS],
}

impl Peer {
    /// A peer of a service that no request has used yet.
    pub fn new(id: PeerId, config: config::Peer, routing: Routing, service: &Rc<Labels>) -> Peer {
        Peer {
            id: id.into(),
            config,
            routing,
            service: Rc::clone(service),
            used: OnceCell::new(),
        }
    }

    /// The name of the peer in the federation.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The host whose route leads to the peer.
    pub fn host(&self) -> &str {
        &self.config.host
    }

    /// The service is used. `before` is the same peer in the configuration before, whose count goes on. Its beliefs do not.
    pub fn begin(&self, before: Option<&Peer>) {
        let before = before.and_then(|before| before.used.get());
        let used = Used {
            in_flight: before.map_or_else(OnceCell::new, |before| before.in_flight.clone()),
            routes: RefCell::default(),
            looks: Cell::default(),
            unreached: Cell::default(),
            misrouted: match before {
                Some(before) => before.misrouted,
                None => self.service.gauge("misrouted"),
            },
            misroutes: Cell::new(None),
            decisions: [const { Cell::new(None) }; SpillReason::ALL.len()],
            outcomes: [const { Cell::new(None) }; Outcome::KINDS],
        };
        // It is empty, so nothing is refused.
        let _ = self.used.set(Box::new(used));
    }

    fn used(&self) -> Option<&Used> {
        self.used.get().map(Box::as_ref)
    }

    /// The count of requests in flight at the peer. `None` if Envoy does not keep the gauge.
    pub fn in_flight(&self) -> Option<&SharedCount> {
        let first_spill = || self.first_spill();
        self.used()?.in_flight.get_or_init(first_spill).as_deref()
    }

    #[cold]
    #[inline(never)]
    fn first_spill(&self) -> Option<Rc<SharedCount>> {
        self.subject().count().ok()
    }

    /// The peer in the names of its metrics.
    fn subject(&self) -> Subject<'_> {
        Subject {
            service: &self.service,
            peer: Some(self.name()),
        }
    }

    /// The counter of requests for which the decision was this peer, for this reason.
    pub fn decisions(&self, why: SpillReason) -> Option<&Cell<Option<Metric>>> {
        self.used()?.decisions.get(why as usize)
    }

    /// Counts the outcome of a request that was spilled to the peer.
    #[inline(never)]
    pub fn came_of_it(&self, outcome: Outcome) {
        let counter = self
            .used()
            .and_then(|used| used.outcomes.get(outcome.index()));
        let Some(counter) = counter else {
            return;
        };
        metrics::count(counter, || {
            let destination = match outcome.who {
                Answerer::Peer => self.name(),
                Answerer::Home => names::RETURNED,
            };
            let labels = [
                ("destination", destination),
                ("response_code_class", outcome.class.word()),
            ];
            self.service.metric(&labels, "outcomes")
        });
    }
}
