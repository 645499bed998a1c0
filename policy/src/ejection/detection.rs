//! What an `outlierDetection` configures.

use crate::response::Codes;
use crate::time::Millis;

/// The longest ejection, unless `baseEjectionTime` is longer: Envoy's `max_ejection_time`.
pub const LONGEST: Millis = Millis::seconds(300);

/// The time after which a probe without an answer has failed, unless `baseEjectionTime` is longer. It is the default of
/// `baseEjectionTime`, which is long for any answer.
pub const UNANSWERED: Millis = Millis::seconds(30);

/// The time that a probe whose request may not be complete waits for its answer before it is let go, the first time. For the
/// same time, only a request that is known to be complete becomes the probe.
pub const PATIENCE: Millis = Millis::seconds(1);

/// A VM reads the clock before it reads a record, which another VM may write in between. A time in a record may be so far ahead.
pub(super) const AHEAD: Millis = Millis::seconds(1);

/// What an `outlierDetection` configures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// The number of errors in a row that eject. 0 means that no number does.
    pub consecutive_5xx: u32,
    /// The number of gateway errors in a row that eject. 0 means that no number does.
    pub consecutive_gateway: u32,
    /// The time that a ramp lasts, and the time after which one ejection is forgotten. At least 1 ms.
    pub interval: Millis,
    /// The time that the first ejection lasts. At least 1 ms.
    pub base_ejection: Millis,
    /// The largest percentage of requests that errors may divert, from 1 to 100.
    pub max_percent: u32,
    /// Whether a request that found no place is an error.
    pub overflow: bool,
    /// The HTTP statuses that are errors if the destination answers with them. `None` means all from 500 to 599.
    pub codes: Option<Codes>,
    /// Errors eject only if they are at least this percentage of the recent answers ([`crate::error_rate`]). 0 means any number
    /// of errors. `None` means the default for the kind of proxy.
    pub min_percent: Option<u32>,
}

impl Detection {
    /// While there are no errors, every n-th status is read, where n is this. It is small enough that a run of errors is not
    /// missed. At least 1.
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

    /// The number of ejections in a row after which a further one is not longer.
    pub(super) fn most_ejections(&self) -> u64 {
        let most = self.longest().0.checked_div(self.base_ejection.0);
        most.unwrap_or(0).saturating_add(1)
    }

    /// The time after an ejection in which only a request that is known to be complete becomes the probe.
    pub(super) fn preference(&self) -> Millis {
        PATIENCE.min(self.base_ejection)
    }
}
