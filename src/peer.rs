//! One peer of a service in one VM: the count of the requests that are in flight there, what is known of the way to it, and
//! its metrics.
//!
//! **Invariant: a peer of a service that was never used costs nothing.** Its metrics are defined, and its shared data is
//! written, when the service is first used in a VM, and its count when a request is first spilled to it.

pub mod misroute;
mod way;

use core::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use crate::admission;
use crate::health::Health;
use crate::hostcalls::{self, Metric};
use crate::metrics::{self, Labels, Subject};
use crate::notice;
use config::Routing;
use policy::destination::{DestinationId, PeerId};
use policy::names::{self, Declined, SpillReason, keys};
use policy::outcome::{Answerer, Unreached};
use policy::recovery::shared_count::SharedCount;
use policy::time::Millis;
use policy::{Admission, Outcome, Routes};

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
    /// Whether the service has no other peer.
    sole: bool,
    /// Whether it is a subset of the service's own host.
    own: bool,
    /// It is empty until the service is first used.
    used: OnceCell<Box<Used>>,
}

/// What a VM knows of a peer from the first request of the service on.
struct Used {
    /// The count of requests in flight at the peer. It is empty until the first request is spilled, and `None` if Envoy does
    /// not keep the gauge.
    in_flight: OnceCell<Option<Rc<SharedCount>>>,
    /// Whether the last request of this worker found a place there.
    expect_room: Cell<bool>,
    /// It is empty until the first request is offered to the peer, and `None` if Envoy does not keep one of the gauges.
    health: OnceCell<Option<Health>>,
    /// The beliefs about the routes to the peer.
    routes: RefCell<Routes>,
    /// The kind of misroute that the next turn looks at, and the kinds for which the last looks found that the gauge is wrong.
    looks: Cell<(usize, u64)>,
    /// The requests of this worker in a row that the peer did not answer.
    unreached: Cell<Unreached>,
    /// The gauge of the kinds of misroute that stand. `None` if Envoy does not define it.
    misrouted: Option<Metric>,
    misroutes: Cell<Option<Metric>>,
    decisions: [Cell<Option<Metric>>; SpillReason::ALL.len()],
    declined: [Cell<Option<Metric>>; Declined::ALL.len()],
    outcomes: [Cell<Option<Metric>>; Outcome::KINDS],
}

impl Peer {
    /// A peer of a service that no request has used yet.
    pub fn new(
        id: PeerId,
        config: config::Peer,
        routing: Routing,
        (service, sole): (&Rc<Labels>, bool),
    ) -> Peer {
        let own = config.host_and_subset().0 == service.host;
        // `:authority` would lead to home.
        let routing = if own { Routing::Header } else { routing };
        Peer {
            id: id.into(),
            config,
            routing,
            service: Rc::clone(service),
            sole,
            own,
            used: OnceCell::new(),
        }
    }

    /// The name of the peer in the federation.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The host whose route leads to the peer.
    pub fn host(&self) -> &str {
        self.config.host_and_subset().0
    }

    /// Its subset, if that is one of the service's own host. Otherwise it is empty.
    pub fn own(&self) -> &str {
        match self.own {
            true => self.config.host_and_subset().1,
            false => "",
        }
    }

    /// Its subset and its host as one text, for keys.
    pub fn at(&self) -> &str {
        &self.config.at
    }

    /// The service is used. `before` is the same peer in the configuration before, whose count goes on. Its beliefs do not.
    pub fn begin(&self, before: Option<&Peer>) {
        let same = before.filter(|before| before.sole == self.sole);
        let misrouted = same.and_then(|before| before.used()?.misrouted);
        let before = before.and_then(Peer::used);
        let used = Used {
            in_flight: before
                .and_then(|before| before.in_flight.get()?.clone())
                .map_or_else(OnceCell::new, |count| OnceCell::from(Some(count))),
            expect_room: Cell::new(true),
            health: before
                .and_then(|before| self.configured(before))
                .map_or_else(OnceCell::new, |health| OnceCell::from(Some(health))),
            routes: RefCell::default(),
            looks: Cell::default(),
            unreached: Cell::default(),
            misrouted: misrouted.or_else(|| self.misroute_subject().gauge("misrouted")),
            misroutes: Cell::new(None),
            decisions: [const { Cell::new(None) }; SpillReason::ALL.len()],
            declined: [const { Cell::new(None) }; Declined::ALL.len()],
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
        if let Some(gauge) = self.subject().gauge("limit") {
            hostcalls::record(gauge, self.limit().unwrap_or(0).into());
        }
        let count = self.subject().count();
        let key = notice::key(&self.subject().pairs(), keys::UNCOUNTED);
        let (host, name) = (&*self.service.host, self.name());
        match &count {
            Err(gauge) => {
                let text = "service %0: its requests at peer %1 are not counted: %2";
                let dropped = metrics::dropped(gauge).to_string();
                notice::begins(&key, 0, (text, &[host, name, &dropped]))
            }
            Ok(_) => {
                let text = "service %0: its requests at peer %1 are counted again";
                notice::ends(&key, 0, Millis(0), (text, &[host, name]))
            }
        };
        count.ok()
    }

    /// The most requests in flight at the peer. `None` if there is no limit.
    pub fn limit(&self) -> Option<u32> {
        self.config.candidate.limit
    }

    /// Whether its errors eject it. A drained peer gets no probe, so it would be ejected for ever.
    pub fn is_watched(&self) -> bool {
        self.config.detection.is_some() && self.is_open()
    }

    /// Whether new requests are sent to it.
    pub fn is_open(&self) -> bool {
        self.config.candidate.open
    }

    /// Asks for a place at the peer under this limit.
    pub fn admit(&self, limit: u32) -> Admission {
        let Some(used) = self.used() else {
            return Admission::Refused;
        };
        admission::admit(self.in_flight(), limit, &used.expect_room, false)
    }

    /// The error detection of the peer. `None` if ejection is disabled, or Envoy does not keep its gauges.
    pub fn health(&self) -> Option<&Health> {
        let first_offer = || self.first_offer();
        let detection = self.config.detection;
        detection.and(self.used()?.health.get_or_init(first_offer).as_ref())
    }

    #[cold]
    #[inline(never)]
    fn first_offer(&self) -> Option<Health> {
        let detection = self.config.detection?;
        Health::new(detection, self.subject(), self.name()).ok()
    }

    /// The error detection of the same peer in the configuration before, as this one has it.
    fn configured(&self, before: &Used) -> Option<Health> {
        let health = before.health.get()?.as_ref()?;
        Some(health.configured(self.config.detection?, self.name()))
    }

    /// Does what is due without requests.
    pub fn tick(&self) {
        let health = self.used().and_then(|used| used.health.get());
        if let Some(Some(health)) = health {
            health.tick();
        }
    }

    /// Counts a request that was offered to the peer, and that it did not take.
    #[inline(never)]
    pub fn did_not_take(&self, why: Declined) {
        let counter = self.used().and_then(|used| used.declined.get(why as usize));
        if let Some(counter) = counter {
            let labels = [("peer", self.name()), ("reason", why.word())];
            metrics::count(counter, || self.service.metric(&labels, "peer_declined"));
        }
    }

    /// The peer in the names of its metrics.
    fn subject(&self) -> Subject<'_> {
        Subject {
            service: &self.service,
            peer: Some(self.name()),
        }
    }

    /// The peer in the names of its misroutes, which are those of the service if it has no other peer.
    fn misroute_subject(&self) -> Subject<'_> {
        let peer = (!self.sole).then(|| self.name());
        let service = &self.service;
        Subject { service, peer }
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
