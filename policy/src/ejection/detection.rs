//! What a service's `outlierDetection` asks for.

use crate::response::Codes;
use crate::time::Millis;

/// The longest that home is ejected, unless `baseEjectionTime` is longer: Envoy's `max_ejection_time`.
pub const LONGEST: Millis = Millis::seconds(300);

/// The time after which a probe without an answer has failed, unless `baseEjectionTime` is longer. It is the default of
/// `baseEjectionTime`, which is long for any answer.
pub const UNANSWERED: Millis = Millis::seconds(30);

/// The time that a probe whose request may not be complete waits for its answer before it is let go, the first time. For the
/// same time, only a request that is known to be complete becomes the probe.
pub const PATIENCE: Millis = Millis::seconds(1);

/// What a service's `outlierDetection` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// Errors in a row that eject; 0: none do.
    pub consecutive_5xx: u32,
    /// Errors of a gateway in a row that eject; 0: none do.
    pub consecutive_gateway: u32,
    /// The time that a ramp lasts, and the time after which one ejection is forgotten. At least 1 ms.
    pub interval: Millis,
    /// The time that the first ejection lasts. At least 1 ms.
    pub base_ejection: Millis,
    /// The most that may be diverted for errors, of a hundred.
    pub max_percent: u32,
    /// A request that found no room is an error.
    pub overflow: bool,
    /// The statuses of HTTP that are errors where home answers; `None`: those of 5xx.
    pub codes: Option<Codes>,
    /// Errors eject only where they are at least so many percent of home's answers of late ([`crate::error_rate`]). 0: however few
    /// they are; `None`: as the kind of proxy has it.
    pub min_percent: Option<u32>,
}

impl Detection {
    /// Statuses are read every so often while all is well, so that a run of errors cannot be missed. At least 1.
    pub fn every(&self) -> u32 {
        let least = match (self.consecutive_5xx, self.consecutive_gateway) {
            (0, n) | (n, 0) => n,
            (a, b) => a.min(b),
        };
        least.clamp(1, crate::sampling::SELDOM)
    }

    /// The longest ejection.
    pub(super) fn longest(&self) -> Millis {
        LONGEST.max(self.base_ejection)
    }

    /// Ejections in a row after which another is not longer.
    pub(super) fn most_ejections(&self) -> u64 {
        let most = self.longest().0.checked_div(self.base_ejection.0);
        most.unwrap_or(0).saturating_add(1)
    }

    /// For how long after an ejection only a request that is known to be complete is a probe.
    pub(super) fn preference(&self) -> Millis {
        PATIENCE.min(self.base_ejection)
    }
}
