//! The part of an ejection's duration that chance adds, so that the proxies of a mesh which eject a destination at the same moment do
//! not probe it at the same moment, and not again after each failed probe.
//!
//! **Invariant: an ejection is never shorter than configured**, and at most a tenth longer. The VM that ejects draws the part. The
//! record has it, so all workers of a proxy agree. As in Envoy (`max_ejection_time_jitter`), it comes on top of the longest ejection.

use super::{Detection, Phase, Record};
use crate::time::{Instant, Millis};

/// The largest part of a duration that is added: this one divided by that number.
const PART: u64 = 10;

impl Record {
    /// This record with a longer ejection, if one begins at `now`. `draw` is evenly distributed over all numbers.
    pub fn with_jitter(&self, now: Instant, draw: u32) -> Record {
        // Of the draw 24 bits are enough, and a year has 35 bits of milliseconds.
        let part = (self.lasts(now).0 / PART).saturating_mul(u64::from(draw >> 8)) >> 24;
        match self.phase {
            Phase::Ejected(until) => Record {
                phase: Phase::Ejected(until.after(Millis(part))),
                ..*self
            },
            _ => *self,
        }
    }
}

impl Detection {
    /// The longest ejection that a record has.
    pub(super) fn longest_with_jitter(&self) -> Millis {
        let longest = self.longest();
        Millis(longest.0.saturating_add(longest.0 / PART))
    }
}

#[cfg(test)]
#[path = "jitter_test.rs"]
mod tests;
