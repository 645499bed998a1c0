//! One service in one VM: its count, its decisions in numbers, what is known of the way to its peer.
//!
//! **Invariant: a service that was never used costs nothing.** Its metrics are defined, and its shared data is written, at
//! its first request in a VM; a configuration only stores what it says.

use core::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use super::notice;
use super::strangers;
use crate::health::Health;
use crate::hostcalls::{self, Kind, Metric};
use crate::metrics::{Labels, count, counts, dropped};
use crate::recovery;
use config::{self, Mode, Peer, Role, Routing};
use policy::destination::DestinationId;
use policy::names::{self, metric};
use policy::outcome::{Answerer, Unreached};
use policy::recovery::mark;
use policy::recovery::shared_count::{Change, SharedCount};
use policy::time::Millis;
use policy::{Admission, Admit, Decision, Detection, Outcome, Routes, Rule, Step};

/// `minErrorPercent` on gateways and waypoints, which many clients share.
const MIN_ERROR_PERCENT: u32 = 50;

/// A service at work.
pub struct Service {
    pub mode: Mode,
    pub routing: Routing,
    pub rule: Rule,
    /// Nothing where the role is server, whose rule sends nobody away.
    pub peer: Option<Peer>,
    pub index: usize,
    /// Its home's index among all destinations of the configuration; its peers follow.
    pub first: usize,
    /// `None` if ejection is disabled.
    pub detection: Option<Detection>,
    /// The plugin visits it in its ticks.
    pub visited: Cell<bool>,
    /// Some VM of the proxy has had a request for it, as far as this one has looked.
    pub(super) requested: Cell<bool>,
    /// Its host was told to be like one that requests come for.
    pub(super) suspected: Cell<bool>,
    pub(super) labels: Labels,
    used: OnceCell<Box<Used>>,
    /// The last request of this worker found room: the next need not look before it adds itself.
    expect_room: Cell<bool>,
    pub(super) routes: RefCell<Routes>,
    /// The kind of misroute that the next tick looks at, and those that the last looks saw the gauge wrong about.
    pub(super) looks: Cell<(usize, u64)>,
    /// Of what this worker spilled.
    pub(super) unreached: Cell<Unreached>,
}

/// What a service has from its first request in this VM on.
pub(super) struct Used {
    /// `None` if Envoy does not keep one of its gauges: then its requests go home, uncounted.
    counts: Option<Counts>,
    decisions: [Cell<Option<Metric>>; Decision::KINDS],
    outcomes: [Cell<Option<Metric>>; Outcome::KINDS],
    pub(super) misroutes: Cell<Option<Metric>>,
}

struct Counts {
    in_flight: Rc<SharedCount>,
    /// At the peer. Empty until the first request is spilled, and `None` if Envoy does not keep the gauge.
    at_peer: OnceCell<Option<Rc<SharedCount>>>,
    /// `None` if ejection is disabled.
    errors: Option<Health>,
    /// `None` if there is no peer.
    misrouted: Option<Metric>,
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
        let detection = config.detection.map(|mut detection| {
            // A gateway or a waypoint, by the same test.
            if default_routing == Routing::Header {
                detection.min_percent.get_or_insert(MIN_ERROR_PERCENT);
            }
            detection
        });
        Service {
            mode: config.mode,
            routing: config.routing.unwrap_or(default_routing),
            rule: config.rule,
            peer: config.peer,
            index,
            first,
            detection,
            visited: Cell::default(),
            requested: Cell::default(),
            suspected: Cell::default(),
            labels: Labels {
                plugin: Rc::clone(plugin),
                role,
                host: config.host,
            },
            used: OnceCell::new(),
            expect_room: Cell::new(true),
            routes: RefCell::default(),
            looks: Cell::default(),
            unreached: Cell::default(),
        }
    }

    /// Whether there is anything for which a request would be sent to the peer.
    pub fn spills(&self) -> bool {
        let rule = &self.rule;
        rule.peer_open && (rule.evacuate || rule.limit.is_some() || self.detection.is_some())
    }

    /// Whether it was, in this VM.
    pub fn is_used(&self) -> bool {
        self.used.get().is_some()
    }

    pub(super) fn used(&self) -> Option<&Used> {
        if self.used.get().is_none() {
            // It is empty, so nothing is refused.
            let _ = self.used.set(Box::new(self.first_use()));
        }
        self.used.get().map(Box::as_ref)
    }

    #[cold]
    fn first_use(&self) -> Used {
        let counts = self.counts();
        let (key, host) = (notice::key(&self.labels.pairs(), "uncounted"), self.host());
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
        let name = metric(&self.labels.pairs(), "in_flight");
        let total = hostcalls::metric(Kind::Gauge, &name).filter(|gauge| counts(*gauge));
        let count = total.and_then(|total| recovery::count(name.clone(), total));
        let in_flight = count.ok_or(name)?;
        let errors = self
            .detection
            .map(|d| Health::new(d, &self.labels, self.peer_name()));
        if let Some(gauge) = self.labels.gauge("limit") {
            hostcalls::record(gauge, self.rule.limit.unwrap_or(0).into());
        }
        let misrouted = self
            .peer
            .as_ref()
            .and_then(|_| self.labels.gauge("misrouted"));
        Ok(Counts {
            in_flight,
            at_peer: OnceCell::new(),
            errors: errors.transpose()?,
            misrouted,
        })
    }

    /// Goes on with what this service counts with in the configuration before, where it was used.
    pub fn go_on(&self, before: &Service) {
        let same_peer = self.peer_name() == before.peer_name();
        let Some(Some(before)) = before.used.get().map(|used| &used.counts) else {
            return;
        };
        if self.is_used() {
            return;
        }
        let errors = match (self.detection, &before.errors) {
            (Some(detection), Some(before)) => Some(before.configured(detection, self.peer_name())),
            (None, _) => None,
            // What is new is looked for with the first request.
            (Some(_), None) => return,
        };
        let in_flight = Rc::clone(&before.in_flight);
        let misrouted = before.misrouted;
        let at_peer = before.at_peer.clone();
        let counts = Some(Counts {
            in_flight,
            at_peer: if same_peer { at_peer } else { OnceCell::new() },
            errors,
            misrouted,
        });
        // It is empty, so nothing is refused.
        let _ = self.used.set(Box::new(Used::of(counts)));
    }

    fn peer_name(&self) -> &str {
        self.peer.as_ref().map_or("", |peer| &peer.name)
    }

    /// Error detection, where it is configured and the service was used.
    pub fn health(&self) -> Option<&Health> {
        self.used.get()?.counts.as_ref()?.errors.as_ref()
    }

    /// Whether Envoy counts its requests. The first one of a VM finds out.
    pub fn is_counted(&self) -> bool {
        self.used().is_some_and(|used| used.counts.is_some())
    }

    /// The gauge of the kinds of misroute that stand.
    pub(super) fn misroutes_standing(&self) -> Option<Metric> {
        self.used.get()?.counts.as_ref()?.misrouted
    }

    /// What there is to do without requests.
    pub fn tick(&self) {
        if let Some(health) = self.health() {
            health.tick();
        }
        self.look_after_misroutes();
    }

    fn in_flight(&self) -> Option<&SharedCount> {
        Some(&*self.used.get()?.counts.as_ref()?.in_flight)
    }

    /// The count of requests in flight at one of its destinations.
    fn in_flight_at(&self, to: DestinationId) -> Option<&SharedCount> {
        if to == DestinationId::HOME {
            return self.in_flight();
        }
        let at_peer = &self.used.get()?.counts.as_ref()?.at_peer;
        at_peer.get_or_init(|| self.first_spill()).as_deref()
    }

    #[cold]
    #[inline(never)]
    fn first_spill(&self) -> Option<Rc<SharedCount>> {
        let mut labels = self.labels.pairs().to_vec();
        labels.push(("peer", self.peer_name()));
        let name = metric(&labels, "peer_in_flight");
        let total = hostcalls::metric(Kind::Gauge, &name).filter(|gauge| counts(*gauge))?;
        recovery::count(name, total)
    }

    /// The service's host, or `*`.
    pub fn host(&self) -> &str {
        &self.labels.host
    }

    /// The count of requests in flight at home.
    pub fn count(&self) -> Option<i64> {
        self.in_flight().and_then(in_flight_of)
    }

    /// Asks for a slot. Nothing where Envoy would not count.
    pub fn admit(&self, limit: u32) -> Option<Admission> {
        let in_flight = self.in_flight()?;
        let mut admit = Admit::new(limit, self.expect_room.get());
        let mut seen = 0;
        loop {
            let before = admit;
            let carried_out = match admit.step(seen) {
                Step::Done(admission) => {
                    let admitted = admission == Admission::Admitted;
                    self.expect_room.set(admitted);
                    if admitted {
                        recovery::change(in_flight, Change::hold());
                    }
                    return Some(admission);
                }
                Step::Add(n) => hostcalls::add(in_flight.total(), n),
                Step::Read => count_to_admit(in_flight).map(|n| seen = n).is_some(),
            };
            if !carried_out {
                if before.holds() {
                    hostcalls::add(in_flight.total(), -1);
                }
                return None;
            }
        }
    }

    /// Counts a request that is sent without asking. False if Envoy would not count it.
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

    /// What users see of a decision: the destination and the reason.
    pub fn said(&self, decision: Decision) -> (&str, &'static str) {
        let destination = match decision {
            Decision::Home(_) => names::HOME,
            Decision::Spill { .. } => self.peer_name(),
            Decision::Reject => names::REJECTED,
        };
        (destination, decision.reason())
    }

    /// Counts a decision.
    pub fn decided(&self, decision: Decision) {
        let Some(cell) = self
            .used()
            .and_then(|used| used.decisions.get(decision.index()))
        else {
            return;
        };
        count(cell, || {
            let (destination, reason) = self.said(decision);
            let mut labels = self.labels.pairs().to_vec();
            labels.extend([("destination", destination), ("reason", reason)]);
            metric(&labels, "decisions")
        });
    }

    /// Counts what became of a request that was spilled.
    #[inline(never)]
    pub fn came_of_it(&self, outcome: Outcome) {
        let counter = self
            .used()
            .and_then(|used| used.outcomes.get(outcome.index()));
        let Some(counter) = counter else {
            return;
        };
        count(counter, || {
            let destination = match outcome.who {
                Answerer::Peer => self.peer_name(),
                Answerer::Home => names::RETURNED,
            };
            let mut labels = self.labels.pairs().to_vec();
            labels.extend([
                ("destination", destination),
                ("response_code_class", outcome.class.word()),
            ]);
            metric(&labels, "outcomes")
        });
    }
}

impl Used {
    fn of(counts: Option<Counts>) -> Used {
        Used {
            counts,
            decisions: [const { Cell::new(None) }; Decision::KINDS],
            outcomes: [const { Cell::new(None) }; Outcome::KINDS],
            misroutes: Cell::new(None),
        }
    }
}

/// The gauge's lower half, signed.
fn in_flight_of(count: &SharedCount) -> Option<i64> {
    hostcalls::read(count.total()).map(mark::low)
}

/// The count, once this VM is known to be in it: if it is less than what this VM alone has in it, the VM may have been
/// declared dead.
fn count_to_admit(count: &SharedCount) -> Option<i64> {
    let total = in_flight_of(count)?;
    if !count.is_missed(total) {
        return Some(total);
    }
    recovery::check_place();
    in_flight_of(count)
}
