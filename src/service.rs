//! One service in one VM: the count of its requests at home, its error detection, its decisions, and its peers.
//!
//! **Invariant: a service that was never used costs nothing.** Its metrics are defined, and its shared data is written, at
//! its first request in a VM. A configuration only stores what it says.

use core::cell::{Cell, OnceCell};
use core::iter;
use std::rc::Rc;

use super::admission::{self, in_flight_of};
use super::notice;
use super::strangers;
use crate::health::Health;
use crate::hostcalls::{self, Metric};
use crate::metrics::{Labels, Subject, count, dropped};
use crate::peer::Peer;
use crate::recovery;
use config::{self, Mode, Role, Routing};
use policy::destination::{DestinationId, PeerId};
use policy::names::{self, HomeReason, keys};
use policy::recovery::shared_count::{Change, SharedCount};
use policy::select::Candidate;
use policy::time::Millis;
use policy::{Admission, Decision, Detection, Rule, Spill};

/// `minErrorPercent` on gateways and waypoints, which many clients share.
const MIN_ERROR_PERCENT: u32 = 50;

/// A service of a configuration.
pub struct Service {
    pub mode: Mode,
    pub rule: Rule,
    pub spill: Option<Rc<Spill>>,
    /// Its peers, in the order of the configuration. There are none if the role is server. An `Rc` for each makes the module
    /// 2,000 bytes smaller than a slice of them, since the compiler then writes their end out only once.
    pub peers: Box<[Rc<Peer>]>,
    /// What the choice needs to know of each of them.
    pub candidates: Box<[Candidate]>,
    pub index: usize,
    /// The index of its home among all destinations of the configuration. Its peers follow.
    pub first: usize,
    /// `None` if ejection is disabled.
    pub detection: Option<Detection>,
    /// Whether the plugin visits it in its ticks.
    pub visited: Cell<bool>,
    /// Whether any VM of the proxy has had a request for it, as far as this VM has looked.
    pub(super) requested: Cell<bool>,
    /// Whether a log line says that its host is like one that requests come for.
    pub(super) suspected: Cell<bool>,
    pub(super) labels: Rc<Labels>,
    used: OnceCell<Box<Used>>,
    /// Whether the last request of this worker found room. If so, the next one adds itself to the count before it reads it.
    expect_room: Cell<bool>,
    /// The turns that it had in the ticks.
    turn: Cell<usize>,
}

/// What a service has from its first request in this VM on.
struct Used {
    /// `None` if Envoy does not keep one of its gauges. Then its requests go home, and are not counted.
    counts: Option<Counts>,
    home: [Cell<Option<Metric>>; HomeReason::ALL.len()],
    rejected: Cell<Option<Metric>>,
}

struct Counts {
    in_flight: Rc<SharedCount>,
    /// `None` if ejection is disabled.
    errors: Option<Health>,
}

impl Service {
    /// A service that no request has used yet.
    pub fn new(
        config: config::Service,
        (index, first): (usize, usize),
        plugin: &Rc<str>,
        role: Role,
        default_routing: Routing,
    ) -> Self {
        let min_percent = |mut detection: Detection| {
            // A gateway or a waypoint, by the same test.
            if default_routing == Routing::Header {
                detection.min_percent.get_or_insert(MIN_ERROR_PERCENT);
            }
            detection
        };
        let detection = config.detection.map(min_percent);
        let routing = config.routing.unwrap_or(default_routing);
        let labels = Rc::new(Labels {
            plugin: Rc::clone(plugin),
            role,
            host: config.host,
        });
        let candidates = config.peers.iter().map(|peer| peer.candidate).collect();
        let sole = config.peers.len() == 1;
        let peers = config.peers.into_iter().zip(PeerId::all());
        let peers = peers.map(|(mut peer, id)| {
            peer.detection = peer.detection.map(min_percent);
            Rc::new(Peer::new(id, peer, routing, (&labels, sole)))
        });
        Service {
            mode: config.mode,
            rule: config.rule,
            spill: config.spill,
            peers: peers.collect(),
            candidates,
            index,
            first,
            detection,
            visited: Cell::default(),
            requested: Cell::default(),
            suspected: Cell::default(),
            labels,
            used: OnceCell::new(),
            expect_room: Cell::new(true),
            turn: Cell::default(),
        }
    }

    /// Home, then the peers in their order.
    pub fn destinations(&self) -> impl Iterator<Item = DestinationId> {
        let peers = self.peers.iter().map(|peer| peer.id);
        iter::once(DestinationId::HOME).chain(peers)
    }

    /// One of its peers. `None` if the destination is home.
    pub fn peer(&self, id: DestinationId) -> Option<&Peer> {
        Some(self.peers.get(id.index().checked_sub(1)?)?)
    }

    /// Whether one of its peers is this subset of the service's own host.
    pub fn has_peer_in(&self, subset: &str) -> bool {
        self.peers.iter().any(|peer| peer.own() == subset)
    }

    /// The peer of this name.
    pub fn peer_named(&self, name: &str) -> Option<&Peer> {
        let mut peers = self.peers.iter().map(Rc::as_ref);
        peers.find(|peer| peer.name() == name)
    }

    /// The peer whose misroutes are those of the service, or those of this peer of several. `None` if it is drained.
    pub fn misroutes_of(&self, name: Option<&str>) -> Option<&Peer> {
        let peer = match (name, &*self.peers) {
            (None, [sole]) => Some(&**sole),
            (Some(name), [_, _, ..]) => self.peer_named(name),
            _ => None,
        };
        peer.filter(|peer| peer.is_open())
    }

    /// Whether a request may ever be sent to a peer.
    pub fn spills(&self) -> bool {
        let rule = &self.rule;
        rule.peer_open && (rule.evacuate || rule.limit.is_some() || self.detection.is_some())
    }

    /// Whether it was used in this VM.
    pub fn is_used(&self) -> bool {
        self.used.get().is_some()
    }

    fn used(&self) -> Option<&Used> {
        if self.used.get().is_none() {
            // It is empty, so nothing is refused.
            let _ = self.used.set(Box::new(self.first_use()));
        }
        self.used.get().map(Box::as_ref)
    }

    #[cold]
    fn first_use(&self) -> Used {
        let counts = self.counts();
        let (key, host) = (
            notice::key(&self.labels.pairs(), keys::UNCOUNTED),
            self.host(),
        );
        match &counts {
            Err(name) => {
                let text = "service %0: its requests stay home and are not counted: %1";
                notice::begins(&key, 0, (text, &[host, &dropped(name).to_string()]))
            }
            Ok(_) => {
                let text = "service %0: its requests are counted again";
                notice::ends(&key, 0, Millis(0), (text, &[host]))
            }
        };
        strangers::found(&self.labels);
        Used::of(counts.ok())
    }

    /// Defines what is counted.
    /// # Errors
    /// The name of a gauge that Envoy does not keep.
    fn counts(&self) -> Result<Counts, String> {
        let home = Subject::home(&self.labels);
        let in_flight = home.count()?;
        let errors = self.detection.map(|d| Health::new(d, home, self.whither()));
        if let Some(gauge) = self.labels.gauge("limit") {
            hostcalls::record(gauge, self.rule.limit.unwrap_or(0).into());
        }
        self.peers.iter().for_each(|peer| peer.begin(None));
        Ok(Counts {
            in_flight,
            errors: errors.transpose()?,
        })
    }

    /// Goes on with the counts of this service in the configuration before, if it was used there.
    pub fn go_on(&self, service: &Service) {
        let Some(Some(before)) = service.used.get().map(|used| &used.counts) else {
            return;
        };
        if self.is_used() {
            return;
        }
        let errors = match (self.detection, &before.errors) {
            (Some(detection), Some(before)) => Some(before.configured(detection, self.whither())),
            (None, _) => None,
            // Its gauges are defined and tested at the first request.
            (Some(_), None) => return,
        };
        for peer in &self.peers {
            peer.begin(service.peer_named(peer.name()));
        }
        let in_flight = Rc::clone(&before.in_flight);
        let counts = Some(Counts { in_flight, errors });
        // It is empty, so nothing is refused.
        let _ = self.used.set(Box::new(Used::of(counts)));
    }

    /// Where requests go that home does not get, for the log.
    fn whither(&self) -> &str {
        match &*self.peers {
            [peer] => peer.name(),
            _ => "its peers",
        }
    }

    /// The error detection of home, if it is configured and the service was used.
    pub fn health(&self) -> Option<&Health> {
        self.used.get()?.counts.as_ref()?.errors.as_ref()
    }

    /// The error detection of one of its destinations, if it is configured and the destination was used.
    pub fn health_at(&self, to: DestinationId) -> Option<&Health> {
        if to == DestinationId::HOME {
            return self.health();
        }
        self.peer(to)?.health()
    }

    /// Whether Envoy counts its requests. The first request in a VM finds out.
    pub fn is_counted(&self) -> bool {
        self.used().is_some_and(|used| used.counts.is_some())
    }

    /// Does what is due without requests.
    pub fn tick(&self) {
        if let Some(health) = self.health() {
            health.tick();
        }
        self.peers.iter().for_each(|peer| peer.tick());
        // It reads shared data, which for all peers would cost more than everything else in a tick.
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let nth = turn.checked_rem(self.peers.len());
        if let Some(peer) = nth.and_then(|nth| self.peers.get(nth)) {
            peer.look_after_misroutes();
        }
    }

    fn in_flight(&self) -> Option<&SharedCount> {
        Some(&*self.used.get()?.counts.as_ref()?.in_flight)
    }

    /// The count of requests in flight at one of its destinations.
    fn in_flight_at(&self, to: DestinationId) -> Option<&SharedCount> {
        if to == DestinationId::HOME {
            return self.in_flight();
        }
        self.peer(to)?.in_flight()
    }

    /// The service's host, or `*`.
    pub fn host(&self) -> &str {
        &self.labels.host
    }

    /// Whether one of its destinations has a limit, and as many requests in flight.
    pub fn is_full(&self, at: DestinationId) -> bool {
        let limit = match self.peer(at) {
            None => self.rule.limit,
            Some(peer) => peer.limit(),
        };
        let count = || self.in_flight_at(at).and_then(in_flight_of);
        limit.is_some_and(|limit| count().is_some_and(|n| n >= limit.into()))
    }

    /// Asks for a place at home.
    pub fn admit(&self, limit: u32) -> Admission {
        admission::admit(self.in_flight(), limit, &self.expect_room, true)
    }

    /// Asks for a place at a peer.
    pub fn admit_at(&self, to: PeerId, limit: u32) -> Admission {
        self.peer(to.into())
            .map_or(Admission::Refused, |peer| peer.admit(limit))
    }

    /// Counts a request that is sent without asking for a place. Returns false if Envoy refuses to count it.
    pub fn count_in(&self, to: DestinationId) -> bool {
        self.in_flight_at(to).is_some_and(recovery::add)
    }

    /// Whether this VM has more than one request in flight at a destination.
    pub fn holds_many(&self, to: DestinationId) -> bool {
        self.in_flight_at(to).is_some_and(|count| count.own() > 1)
    }

    /// Takes requests off the count.
    pub fn count_out(&self, to: DestinationId, n: u32) {
        self.release(to, n, false);
    }

    /// Takes a request off the count, and ends the callback.
    pub fn count_out_last(&self, to: DestinationId) {
        self.release(to, 1, true);
    }

    fn release(&self, to: DestinationId, n: u32, last: bool) {
        if let Some(count) = self.in_flight_at(to) {
            recovery::change(count, Change::release(n, last));
        }
    }

    /// The destination and the reason of a decision, as users see them.
    pub fn said(&self, decision: Decision) -> (&str, &'static str) {
        let destination = match decision {
            Decision::Home(_) => names::HOME,
            Decision::Spill { to, .. } => self.peer(to.into()).map_or("", Peer::name),
            Decision::Reject => names::REJECTED,
        };
        (destination, decision.reason())
    }

    /// Counts a decision.
    pub fn decided(&self, decision: Decision) {
        let Some(used) = self.used() else { return };
        let counter = match decision {
            Decision::Home(why) => used.home.get(why as usize),
            Decision::Spill { to, why } => {
                self.peer(to.into()).and_then(|peer| peer.decisions(why))
            }
            Decision::Reject => Some(&used.rejected),
        };
        let Some(counter) = counter else { return };
        count(counter, || {
            let (destination, reason) = self.said(decision);
            let labels = [("destination", destination), ("reason", reason)];
            self.labels.metric(&labels, "decisions")
        });
    }
}

impl Used {
    fn of(counts: Option<Counts>) -> Used {
        Used {
            counts,
            home: [const { Cell::new(None) }; HomeReason::ALL.len()],
            rejected: Cell::new(None),
        }
    }
}
