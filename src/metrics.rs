//! The metrics of a service and of its destinations, and whether Envoy keeps the filter's gauges: a stats matcher may drop some,
//! and then nothing can be counted.

use core::cell::Cell;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Metric};
use crate::recovery;
use config::{Fault, Role};
use policy::names::{self, metric};
use policy::recovery::shared_count::SharedCount;

/// It is added to a count and taken off again, to find out whether Envoy keeps the gauge. The count is the lower 32 bits, so
/// other workers do not see a request in it.
const PROBE: i64 = 1 << 32;

/// Whether Envoy keeps gauges of this plugin. The gauges of a service are tested when it is first used.
/// # Errors
/// Envoy does not keep them.
pub fn keeps_gauges(plugin: &str, role: Role) -> Result<(), Fault> {
    let labels = [("plugin", plugin), ("role", role.word())];
    let name = metric(&labels, names::GAUGES_KEPT);
    let gauge = hostcalls::metric(Kind::Gauge, &name).filter(|gauge| counts(*gauge));
    gauge.map(|_| ()).ok_or_else(|| dropped(&name))
}

/// What to do about a gauge that Envoy does not keep.
pub fn dropped(name: &str) -> Fault {
    Fault {
        path: "stats_matcher".to_owned(),
        problem: format!(
            "drops wasmcustom.{name}, without which nothing can be counted; include the prefix wasmcustom.{} (Istio: proxyStatsMatcher.inclusionPrefixes)",
            names::PREFIX
        ),
    }
}

/// Whether Envoy keeps this gauge. If a stats matcher drops a gauge, it always reads 0, and a limit would admit everything.
pub fn counts(gauge: Metric) -> bool {
    if hostcalls::read(gauge).is_some_and(|value| value != 0) {
        return true;
    }
    hostcalls::add(gauge, PROBE);
    let kept = hostcalls::read(gauge).is_some_and(|value| value != 0);
    hostcalls::add(gauge, PROBE.saturating_neg());
    kept
}

/// Adds 1 to a counter, which is defined at its first use.
pub fn count(cell: &Cell<Option<Metric>>, name: impl FnOnce() -> String) {
    if cell.get().is_none() {
        cell.set(hostcalls::metric(Kind::Counter, &name()));
    }
    if let Some(counter) = cell.get() {
        hostcalls::add(counter, 1);
    }
}

/// The labels that all metrics of a service have.
pub struct Labels {
    pub plugin: Rc<str>,
    pub role: Role,
    pub host: String,
}

impl Labels {
    /// The labels in the form that [`metric`] takes.
    pub fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            ("plugin", &self.plugin),
            ("role", self.role.word()),
            ("service", &self.host),
        ]
    }

    /// The full name of a metric of the service that has `more` labels.
    #[inline(never)]
    pub fn metric(&self, more: &[(&str, &str)], name: &str) -> String {
        let mut labels = self.pairs().to_vec();
        labels.extend(more);
        metric(&labels, name)
    }

    /// Defines a gauge of the service.
    pub fn gauge(&self, name: &str) -> Option<Metric> {
        hostcalls::metric(Kind::Gauge, &self.metric(&[], name))
    }
}

/// A destination of a service, in the names of its metrics and in the keys of its shared data.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The labels of the service.
    pub service: &'a Labels,
    /// The name of the peer. `None` for home.
    pub peer: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// The home of this service.
    pub fn home(service: &'a Labels) -> Subject<'a> {
        let peer = None;
        Subject { service, peer }
    }

    /// The full name of a metric of this destination, or the key of a record of it. What home has as `name` a peer has as
    /// `peer_` and `name`, with the label `peer`. Home has no such label, since a module of an earlier version goes on with
    /// the metrics and records of home in an upgrade.
    #[inline(never)]
    pub fn name(&self, name: &str) -> String {
        match self.peer {
            None => self.own(name),
            Some(_) => self.own(&["peer_", name].concat()),
        }
    }

    /// The labels of the destination: those of the service, and `peer` if it is a peer.
    pub fn pairs(&self) -> Vec<(&'static str, &'a str)> {
        let mut pairs = self.service.pairs().to_vec();
        pairs.extend(self.peer.map(|peer| ("peer", peer)));
        pairs
    }

    /// The full name of a metric of this destination, with the label `peer` if it is a peer.
    pub fn own(&self, name: &str) -> String {
        match self.peer {
            None => self.service.metric(&[], name),
            Some(peer) => self.service.metric(&[("peer", peer)], name),
        }
    }

    /// Defines a gauge of this destination, by [`Subject::name`].
    pub fn gauge(&self, name: &str) -> Option<Metric> {
        hostcalls::metric(Kind::Gauge, &self.name(name))
    }

    /// The count of requests in flight there.
    /// # Errors
    /// The name of the gauge, if Envoy does not keep it.
    #[inline(never)]
    pub fn count(&self) -> Result<Rc<SharedCount>, String> {
        let name = self.name("in_flight");
        let total = hostcalls::metric(Kind::Gauge, &name).filter(|gauge| counts(*gauge));
        let count = total.and_then(|total| recovery::count(name.clone(), total));
        count.ok_or(name)
    }
}
