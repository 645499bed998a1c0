//! One service in one VM: its count, its decisions in numbers, what is known of the way to its peer.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use super::account::Account;
use super::errors::{self, Errors};
use super::host::{self, Kind, Metric};
use super::worker;
use crate::config::{self, Fault, Mode, Peer, Role, Routing};
use crate::names::{self, Reason, metric};
use crate::policy::mark;
use crate::policy::{Admission, Admit, Decision, Routes, Rule, Step};

/// Added to and taken off a count at configure, to see whether Envoy keeps it. The count is the lower 32 bits, so no
/// request ever takes the test for load.
const PROBE: i64 = 1 << 32;

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
    /// A request came to it.
    pub used: Cell<bool>,
    /// Nothing where errors eject nobody.
    pub errors: Option<Errors>,
    /// Then, whether they did in a configuration before.
    ejected: Option<Metric>,
    pub(super) labels: Labels,
    in_flight: Rc<Account>,
    /// The last request of this worker found room: the next need not look before it adds itself.
    expect_room: Cell<bool>,
    decisions: [Cell<Option<Metric>>; 3 * Reason::ALL.len()],
    pub(super) misroutes: Cell<Option<Metric>>,
    pub(super) routes: RefCell<Routes>,
}

impl Service {
    /// A service with its counts in place.
    /// # Errors
    /// Envoy does not keep the count.
    pub fn new(
        config: config::Service,
        index: usize,
        plugin: &str,
        role: Role,
        default_routing: Routing,
    ) -> Result<Self, Fault> {
        let labels = [
            ("plugin", plugin.to_owned()),
            ("role", role.word().to_owned()),
            ("service", config.host),
        ];
        let name = metric(&pairs(&labels), "in_flight");
        let in_flight = host::metric(Kind::Gauge, &name)
            .filter(|gauge| counts(*gauge))
            .ok_or_else(|| dropped(&name))?;
        let in_flight = worker::account(name.clone(), in_flight).ok_or_else(|| dropped(&name))?;
        let peer = config.peer.as_ref().map_or("", |peer| &peer.name);
        let errors = config.detection.map(|mut detection| {
            if default_routing == Routing::Header {
                detection.min_percent.get_or_insert(MIN_ERROR_PERCENT);
            }
            Errors::new(detection, &labels, peer)
        });
        let errors = errors.transpose().map_err(|name| dropped(&name))?;
        if let Some(gauge) = host::metric(Kind::Gauge, &metric(&pairs(&labels), "limit")) {
            host::record(gauge, config.rule.limit.unwrap_or(0).into());
        }
        let service = Service {
            mode: config.mode,
            routing: config.routing.unwrap_or(default_routing),
            rule: config.rule,
            peer: config.peer,
            index,
            used: Cell::default(),
            ejected: match &errors {
                None if role == Role::Client => errors::gauge(&labels),
                _ => None,
            },
            errors,
            labels,
            in_flight,
            expect_room: Cell::new(true),
            decisions: [const { Cell::new(None) }; 3 * Reason::ALL.len()],
            misroutes: Cell::new(None),
            routes: RefCell::default(),
        };
        if let Some(peer) = &service.peer {
            host::prepare_first_time(&service.misroute_key(peer));
        }
        Ok(service)
    }

    /// What there is to do without requests, now and again.
    pub fn tick(&self) {
        match &self.errors {
            Some(errors) => errors.tick(),
            // Of a configuration before this one, whose last requests may still end.
            None => {
                if let Some(gauge) = self.ejected {
                    errors::forget(&self.labels, gauge);
                }
            }
        }
    }

    /// Whether home is ejected, or in its ramp, as requests before this configuration have left it.
    pub fn is_ejected(&self) -> bool {
        let gauge = self.errors.as_ref().map(Errors::gauge).or(self.ejected);
        gauge.and_then(host::read).is_some_and(|value| value != 0)
    }

    /// The service's host, or `*`.
    pub fn host(&self) -> &str {
        let [_, _, (_, host)] = &self.labels;
        host
    }

    /// The count of requests in flight at home: the gauge's lower half, signed.
    pub fn count(&self) -> Option<i64> {
        host::read(self.in_flight.total()).map(mark::low)
    }

    /// As [`Service::count`], once this VM is known to be counted: if the total is less than what this VM alone has in it,
    /// the VM may have been declared dead.
    fn count_to_admit(&self) -> Option<i64> {
        let count = self.count()?;
        if count >= self.in_flight.own() {
            return Some(count);
        }
        worker::check_place();
        self.count()
    }

    /// Asks for a slot. Nothing where Envoy would not count.
    pub fn admit(&self, limit: u32) -> Option<Admission> {
        let mut admit = Admit::new(limit, self.expect_room.get());
        let mut seen = 0;
        loop {
            let before = admit;
            let carried_out = match admit.step(seen) {
                Step::Done(admission) => {
                    let admitted = admission == Admission::Admitted;
                    self.expect_room.set(admitted);
                    if admitted {
                        self.in_flight.hold(1);
                    }
                    return Some(admission);
                }
                Step::Add(n) => host::add(self.in_flight.total(), n),
                Step::Read => self.count_to_admit().map(|n| seen = n).is_some(),
            };
            if !carried_out {
                if before.holds() {
                    host::add(self.in_flight.total(), -1);
                }
                return None;
            }
        }
    }

    /// Counts a request that goes home without asking. False where Envoy would not count.
    pub fn count_in(&self) -> bool {
        self.in_flight.add(1)
    }

    /// Takes requests off the count.
    pub fn count_out(&self, n: u32) {
        self.in_flight.release(n.into());
    }

    /// Takes a request off the count, and ends the callback.
    pub fn count_out_last(&self) {
        self.in_flight.release_last(1);
    }

    /// What users see of a decision: the destination and the reason.
    pub fn said(&self, decision: Decision) -> (&str, &'static str) {
        match decision {
            Decision::Home(reason) => (names::HOME, reason.word()),
            Decision::Spill(reason) => {
                let peer = self.peer.as_ref().map_or("", |peer| &peer.name);
                (peer, reason.word())
            }
            Decision::Reject(reason) => (names::REJECTED, reason.word()),
        }
    }

    /// Counts a decision.
    #[inline(never)]
    pub fn decided(&self, decision: Decision) {
        let (kind, reason) = match decision {
            Decision::Home(reason) => (0usize, reason),
            Decision::Spill(reason) => (1, reason),
            Decision::Reject(reason) => (2, reason),
        };
        let index = kind
            .saturating_mul(Reason::ALL.len())
            .saturating_add(reason as usize);
        let Some(cell) = self.decisions.get(index) else {
            return;
        };
        count(cell, || {
            let (destination, reason) = self.said(decision);
            let mut labels = pairs(&self.labels).to_vec();
            labels.extend([("destination", destination), ("reason", reason)]);
            metric(&labels, "decisions")
        });
    }

    /// Shared data is one space for all plugins of a proxy, so the key says whose it is.
    pub(super) fn misroute_key(&self, peer: &Peer) -> String {
        metric(&pairs(&self.labels), &peer.host)
    }
}

/// Adds 1 to a counter that is defined when it is first needed.
pub fn count(cell: &Cell<Option<Metric>>, name: impl FnOnce() -> String) {
    if cell.get().is_none() {
        cell.set(host::metric(Kind::Counter, &name()));
    }
    if let Some(counter) = cell.get() {
        host::add(counter, 1);
    }
}

/// The labels that all metrics of a service have.
pub type Labels = [(&'static str, String); 3];

/// Labels in the form that [`metric`] takes.
pub fn pairs(labels: &Labels) -> [(&'static str, &str); 3] {
    labels
        .each_ref()
        .map(|(label, value)| (*label, value.as_str()))
}

fn dropped(name: &str) -> Fault {
    Fault {
        path: "stats_matcher".to_owned(),
        problem: format!(
            "drops wasmcustom.{name}, without which nothing can be counted; include the prefix wasmcustom.{} (Istio: proxyStatsMatcher.inclusionPrefixes)",
            names::PREFIX
        ),
    }
}

/// Whether Envoy keeps this gauge. A stats matcher that drops it makes it read 0 for ever, silently, and then a limit
/// admits everything.
pub fn counts(gauge: Metric) -> bool {
    if host::read(gauge).is_some_and(|value| value != 0) {
        return true;
    }
    host::add(gauge, PROBE);
    let kept = host::read(gauge).is_some_and(|value| value != 0);
    host::add(gauge, PROBE.saturating_neg());
    kept
}
