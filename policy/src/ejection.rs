//! When a destination is ejected for its errors, and how it takes its load back after that.
//!
//! The words are those of Envoy's outlier detection, with a whole destination in the place of a host. One [`Record`] has what
//! all workers of the proxy know, and they change it by compare-and-swap. So the functions here take one record and return the
//! next, and each change happens once.
//!
//! **Invariant: two workers do not eject twice.** An error of a destination that is ejected changes nothing.
//! **Invariant: there is one probe at a time.** It is ended by its own VM, by a VM that finds its VM dead, or by time. If the
//! request of a probe may not be complete, a missing answer says nothing about the destination. Then the probe is let go: after
//! a second at first, and after twice the time each further time. The next request becomes the probe. A good answer to the one
//! that was let go counts all the same.
//! **Invariant: a record heals.** Other Wasm modules of the proxy can write shared data. A time that no change here could have
//! written counts as over ([`Record::healed`]), and a number of ejections beyond the largest that is written counts as none.
//! **Invariant: a good answer between two errors separates them**, whichever workers saw which. The good answers of all workers
//! are counted together (the successes), and an error that finds another count than the error before begins a new run. This
//! holds for answers that are read. After many good answers a worker does not read all of them ([`super::sampling`]).

mod bytes;
mod change;
mod detection;
mod jitter;
mod task;

use super::response::Failure;
use super::time::{Instant, Millis};
pub use change::Change;
use detection::AHEAD;
pub use detection::{Detection, LONGEST, PATIENCE, UNANSWERED};
pub use task::{Line, Memory, Step, Task, owner};

/// The state of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Available since this moment: it gets all requests for which it has a place.
    Available(Instant),
    /// Ejected until this moment, and after that until a probe succeeds.
    Ejected(Instant),
    /// Ejected, and a probe is on its way.
    Probing {
        /// The owner of the probe.
        owner: u64,
        /// The moment when it was sent.
        since: Instant,
        /// Whether its answer has begun well, and only its end is missing.
        begun: bool,
        /// Whether its request is known to be complete.
        whole: bool,
    },
    /// In its ramp since this moment: it takes its load back step by step.
    Ramp(Instant),
}

impl Phase {
    /// The value of the gauge `ejected`: 0 for available, 1 for ejected, 2 for in its ramp.
    pub fn shown(self) -> i64 {
        match self {
            Phase::Available(_) => 0,
            Phase::Ejected(_) | Phase::Probing { .. } => 1,
            Phase::Ramp(_) => 2,
        }
    }
}

/// What a proxy knows about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its state.
    pub phase: Phase,
    /// The number of errors in a row, and of gateway errors in a row. While it is ejected, the first is the number of probes
    /// that were let go.
    pub runs: [u32; 2],
    /// The count of good answers at the last error.
    pub successes: u64,
    /// The number of ejections in a row.
    pub ejections: u32,
}

impl Default for Record {
    fn default() -> Self {
        Record {
            phase: Phase::Available(Instant::default()),
            runs: [0; 2],
            successes: 0,
            ejections: 0,
        }
    }
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The destination has answered it well just now. This also counts if the probe was let go before.
    Well,
    /// The destination had begun to answer it well, and nothing contradicted that.
    Begun,
    /// With an error of the destination.
    Failed,
    /// Without any sign of how the destination is. The next request becomes the probe.
    Nothing,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The same as if there were no errors.
    Home,
    /// Send it elsewhere.
    Away {
        /// Whether the destination is in its ramp, and this request is not yet part of it.
        ramp: bool,
    },
    /// It may become the probe, which [`Record::probed_by`] claims.
    Probe,
    /// The ramp is over: [`Record::back`], and the request is sent there.
    Back,
    /// The probe has not ended in time: [`Record::overdue`], and the request is sent elsewhere.
    Overdue,
}

impl Record {
    /// This record without what no change here could have written: a time in the future counts as long over. By this, a
    /// configuration with a shorter `baseEjectionTime` ends an ejection of the configuration before.
    #[inline(never)]
    pub fn healed(&self, detection: &Detection, now: Instant) -> Record {
        let ahead = now.after(AHEAD);
        let phase = match self.phase {
            Phase::Available(since) if since > ahead => Phase::Available(Instant::default()),
            Phase::Ejected(until) if until.since(ahead) > detection.longest_with_jitter() => {
                Phase::Ejected(Instant::default())
            }
            Phase::Probing { since, .. } if since > ahead => Phase::Ejected(Instant::default()),
            Phase::Ramp(since) if since > ahead => Phase::Ramp(Instant::default()),
            phase => phase,
        };
        Record {
            phase,
            ejections: if u64::from(self.ejections) > detection.most_ejections() {
                0
            } else {
                self.ejections
            },
            ..*self
        }
    }

    /// What to do with a request at `now`. `draw` is evenly distributed over all numbers. `whole` says whether the request is
    /// known to be complete.
    pub fn course(&self, detection: &Detection, now: Instant, draw: u32, whole: bool) -> Verdict {
        let all = 1u64 << 32;
        let most = u64::from(detection.max_percent).saturating_mul(all) / 100;
        let away = |share: u64, ramp| {
            if u64::from(draw) < share.min(most) {
                Verdict::Away { ramp }
            } else {
                Verdict::Home
            }
        };
        let this = self.healed(detection, now);
        match this.phase {
            Phase::Available(_) => Verdict::Home,
            Phase::Ejected(until) if this.may_probe(until, detection, now, whole) => Verdict::Probe,
            Phase::Probing { .. } if this.is_overdue(detection, now) => Verdict::Overdue,
            Phase::Ejected(_) | Phase::Probing { .. } => away(all, false),
            Phase::Ramp(since) => {
                let interval = detection.interval.0;
                let left = interval.saturating_sub(now.since(since).0);
                if left == 0 {
                    return Verdict::Back;
                }
                // A precision of 28 bits is enough, and a year has 35 bits of milliseconds.
                let share = left.saturating_mul(all >> 4).checked_div(interval);
                away(share.unwrap_or(0).saturating_mul(1 << 4), true)
            }
        }
    }

    fn may_probe(&self, until: Instant, detection: &Detection, now: Instant, whole: bool) -> bool {
        let wait = if whole {
            Millis::default()
        } else {
            detection.preference()
        };
        now >= until.after(wait)
    }

    /// Whether a probe has taken too long. If nothing else ended its request, the destination would stay ejected as long as the
    /// client waits.
    fn is_overdue(&self, detection: &Detection, now: Instant) -> bool {
        let Phase::Probing {
            since,
            begun,
            whole,
            ..
        } = self.phase
        else {
            return false;
        };
        let [let_go, _] = self.runs;
        let time = if begun || whole {
            detection.base_ejection.max(UNANSWERED)
        } else {
            PATIENCE.times(1 << let_go.min(5)).min(UNANSWERED)
        };
        now.since(since) >= time
    }

    /// The record after an error. `None` if the error changes nothing. `successes` is the count of good answers now. `enough`
    /// says whether errors are as large a part of the answers as is configured.
    pub fn failed(
        &self,
        failure: Failure,
        detection: &Detection,
        successes: u64,
        enough: bool,
        now: Instant,
    ) -> Option<Record> {
        let this = self.healed(detection, now);
        if matches!(this.phase, Phase::Ejected(_) | Phase::Probing { .. }) {
            return None;
        }
        let [run, gateway] = if this.successes == successes {
            this.runs
        } else {
            [0; 2]
        };
        let runs = [
            run.saturating_add(1),
            if failure.gateway {
                gateway.saturating_add(1)
            } else {
                0
            },
        ];
        let reached = |run: u32, limit: u32| limit > 0 && run >= limit;
        let [run, gateway] = runs;
        if enough
            && (reached(run, detection.consecutive_5xx)
                || reached(gateway, detection.consecutive_gateway))
        {
            return Some(this.ejected(detection, now));
        }
        Some(Record {
            runs,
            successes,
            ..this
        })
    }

    /// The record with the probe claimed by `owner`. `None` if it is not time for a probe, or another one is on its way.
    /// `whole` says whether its request is known to be complete.
    pub fn probed_by(
        &self,
        owner: u64,
        whole: bool,
        detection: &Detection,
        now: Instant,
    ) -> Option<Record> {
        let this = self.healed(detection, now);
        match this.phase {
            Phase::Ejected(until) if this.may_probe(until, detection, now, whole) => Some(Record {
                phase: Phase::Probing {
                    owner,
                    since: now,
                    begun: false,
                    whole,
                },
                ..this
            }),
            _ => None,
        }
    }

    /// The record after the answer to the probe of `owner` began well. For a gRPC stream, the status comes at its end.
    pub fn probe_begun(&self, owner: u64) -> Option<Record> {
        match self.phase {
            Phase::Probing {
                owner: its,
                since,
                begun: false,
                whole,
            } if its == owner => Some(Record {
                phase: Phase::Probing {
                    owner,
                    since,
                    begun: true,
                    whole,
                },
                ..*self
            }),
            _ => None,
        }
    }

    /// The record after the probe of `owner` ended. `None` if that changes nothing.
    pub fn probe_ended(
        &self,
        owner: u64,
        ended: Ended,
        detection: &Detection,
        now: Instant,
    ) -> Option<Record> {
        let this = self.healed(detection, now);
        let its = matches!(this.phase, Phase::Probing { owner: its, .. } if its == owner);
        // The probe was let go before, and another request is the probe or can become it.
        let late = match this.phase {
            Phase::Probing { .. } => true,
            Phase::Ejected(until) => now >= until,
            _ => false,
        };
        match ended {
            Ended::Well if its || late => Some(this.ramp(now)),
            Ended::Begun if its => Some(this.ramp(now)),
            Ended::Failed if its => Some(this.ejected(detection, now)),
            // Any next request may be the probe, whether it has a body or not.
            Ended::Nothing if its => Some(Record {
                phase: Phase::Ejected(now.before(detection.preference())),
                ..this
            }),
            _ => None,
        }
    }

    /// The record after a probe that did not end in time. It has failed, or its answer has begun well and goes on, which is a
    /// success, or its request may not be complete and it is let go.
    pub fn overdue(&self, detection: &Detection, now: Instant) -> Option<Record> {
        let this = self.healed(detection, now);
        match this.phase {
            Phase::Probing { begun, whole, .. } if this.is_overdue(detection, now) => {
                let [let_go, gateway] = this.runs;
                Some(match (begun, whole) {
                    (true, _) => this.ramp(now),
                    (_, true) => this.ejected(detection, now),
                    _ => Record {
                        phase: Phase::Ejected(now),
                        runs: [let_go.saturating_add(1), gateway],
                        ..this
                    },
                })
            }
            _ => None,
        }
    }

    /// The record after the ramp.
    pub fn back(&self, detection: &Detection, now: Instant) -> Option<Record> {
        let this = self.healed(detection, now);
        match this.phase {
            Phase::Ramp(since) if now.since(since) >= detection.interval => Some(Record {
                phase: Phase::Available(now),
                ..this
            }),
            _ => None,
        }
    }

    fn ramp(&self, now: Instant) -> Record {
        Record {
            phase: Phase::Ramp(now),
            runs: [0; 2],
            ..*self
        }
    }

    #[inline(never)]
    fn ejected(&self, detection: &Detection, now: Instant) -> Record {
        // As in Envoy, one ejection is forgotten for each interval without an ejection.
        let forgotten = match self.phase {
            Phase::Available(since) => now
                .since(since)
                .0
                .checked_div(detection.interval.0)
                .unwrap_or(0),
            _ => 0,
        };
        let before = u64::from(self.ejections).saturating_sub(forgotten);
        let ejections = before.saturating_add(1).min(detection.most_ejections());
        let time = detection
            .base_ejection
            .times(ejections)
            .min(detection.longest());
        Record {
            phase: Phase::Ejected(now.after(time)),
            runs: [0; 2],
            successes: self.successes,
            ejections: u32::try_from(ejections).unwrap_or(u32::MAX),
        }
    }

    /// The duration of an ejection that begins at `now`.
    pub fn lasts(&self, now: Instant) -> Millis {
        match self.phase {
            Phase::Ejected(until) => until.since(now),
            _ => Millis::default(),
        }
    }
}

#[cfg(test)]
#[path = "ejection_test.rs"]
mod tests;
