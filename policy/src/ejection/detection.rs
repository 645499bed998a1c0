//! What a service's `outlierDetection` asks for.

use crate::response::Codes;

/// The longest that home is ejected, in milliseconds, unless `baseEjectionTime` is longer: Envoy's `max_ejection_time`.
pub const LONGEST: u64 = 300_000;

/// After how long a probe that has no answer has failed, in milliseconds, unless `baseEjectionTime` is longer: its default,
/// which is long for any answer.
pub const UNANSWERED: u64 = 30_000;

/// How long a probe whose request may not be complete waits for its answer before it is let go, in milliseconds, the first
/// time; and for how long a request that is known to be complete is preferred as a probe.
pub const PATIENCE: u64 = 1_000;

/// What a service's `outlierDetection` says. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// Errors in a row that eject; 0: none do.
    pub consecutive_5xx: u32,
    /// Errors of a gateway in a row that eject; 0: none do.
    pub consecutive_gateway: u32,
    /// What a ramp lasts, and what makes one ejection before be forgotten. At least 1.
    pub interval: u64,
    /// What the first ejection lasts. At least 1.
    pub base_ejection: u64,
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
    pub(super) fn longest(&self) -> u64 {
        LONGEST.max(self.base_ejection)
    }

    /// Ejections in a row after which another is not longer.
    pub(super) fn most_ejections(&self) -> u64 {
        let most = self.longest().checked_div(self.base_ejection);
        most.unwrap_or(0).saturating_add(1)
    }

    /// For how long after an ejection only a request that is known to be complete is a probe.
    pub(super) fn preference(&self) -> u64 {
        PATIENCE.min(self.base_ejection)
    }
}
