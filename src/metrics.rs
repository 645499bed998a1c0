//! The metrics of a service, and whether Envoy keeps the filter's gauges: a stats matcher may drop some, and then nothing can be
//! counted.

use core::cell::Cell;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Metric};
use config::{Fault, Role};
use policy::names::{self, metric};

/// Added to a count and taken off again, to see whether Envoy keeps it. The count is the lower 32 bits, so no request ever
/// takes the test for load.
const PROBE: i64 = 1 << 32;

/// Whether Envoy keeps gauges of this plugin; a service's own are looked at when it is first used.
/// # Errors
/// It does not.
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

/// Whether Envoy keeps this gauge. A stats matcher that drops it makes it read 0 for ever, silently, and then a limit
/// admits everything.
pub fn counts(gauge: Metric) -> bool {
    if hostcalls::read(gauge).is_some_and(|value| value != 0) {
        return true;
    }
    hostcalls::add(gauge, PROBE);
    let kept = hostcalls::read(gauge).is_some_and(|value| value != 0);
    hostcalls::add(gauge, PROBE.saturating_neg());
    kept
}

/// Adds 1 to a counter that is defined when it is first needed.
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
    /// In the form that [`metric`] takes.
    pub fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            ("plugin", &self.plugin),
            ("role", self.role.word()),
            ("service", &self.host),
        ]
    }

    /// Defines a gauge of the service.
    pub fn gauge(&self, name: &str) -> Option<Metric> {
        hostcalls::metric(Kind::Gauge, &metric(&self.pairs(), name))
    }
}
