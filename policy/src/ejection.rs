//! When home is taken out for its errors, and how it takes its load back.
//!
//! The words are those of Envoy's outlier detection, with the whole of home in the place of a host. One [`Record`] holds
//! what all workers of the proxy know; they change it by compare-and-swap, so what is here is from one record to the
//! next, and every change happens once.
//!
//! **Invariant: two workers do not eject twice.** An error while home is ejected changes nothing.
//! **Invariant: one probe at a time.** Only its owner ends one, or whoever finds its owner's VM dead, or time. One whose
//! request may not be complete says nothing of home by having no answer: it is let go after a while, first a second and
//! twice as long each time, and the next request is the probe; a good answer of home's to it counts all the same.
//! **Invariant: a record heals.** Other Wasm modules of the proxy can write shared data. A time that no change here could
//! have written counts as over ([`Record::healed`]), and a number of ejections beyond the largest that is written as none.
//! **Invariant: good answers between two errors part them**, whichever workers saw which: they are counted together
//! (the successes), and an error that finds that count moved begins a new run. It holds for answers that are read: a worker
//! in a long calm does not read all ([`super::sampling`]).

mod bytes;
mod change;
mod detection;
mod task;

use super::response::Failure;
use super::time::{Instant, Millis};
pub use change::Change;
pub use detection::{Detection, LONGEST, PATIENCE, UNANSWERED};
pub use task::{Line, Memory, Step, Task, owner};

/// How home stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It gets what it has room for, since this moment.
    Available(Instant),
    /// It is taken out until this moment, and then until a probe succeeds.
    Ejected(Instant),
    /// A probe is on its way.
    Probing {
        /// Who it is.
        owner: u64,
        /// When it went.
        since: Instant,
        /// Whether its answer has begun, well, and only the end is yet to say.
        begun: bool,
        /// Whether its request is known to be complete.
        whole: bool,
    },
    /// It takes its load back, since this moment.
    Ramp(Instant),
}

impl Phase {
    /// What the gauge `ejected` shows: 0 available, 1 ejected, 2 in its ramp.
    pub fn shown(self) -> i64 {
        match self {
            Phase::Available(_) => 0,
            Phase::Ejected(_) | Phase::Probing { .. } => 1,
            Phase::Ramp(_) => 2,
        }
    }
}

/// What is known of home in one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// How it stands.
    pub phase: Phase,
    /// Errors in a row, and of a gateway in a row. While home is ejected the first is how many probes were let go.
    pub runs: [u32; 2],
    /// The count of good answers that the last error saw.
    pub successes: u64,
    /// Ejections in a row.
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
    /// Home answered it well just now. That counts also where it was let go.
    Well,
    /// Home had begun to answer it well, and nothing contradicted that.
    Begun,
    /// With an error of home's.
    Failed,
    /// Without saying anything of home: the next request is the probe.
    Nothing,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// As if there were no errors.
    Home,
    /// Divert it.
    Away {
        /// Home takes its load back, and this is not yet of it.
        ramp: bool,
    },
    /// It may be the probe: claim that with [`Record::probed_by`].
    Probe,
    /// The ramp is over: [`Record::back`], and home.
    Back,
    /// The probe has not ended in time: [`Record::overdue`], and divert it.
    Overdue,
}

impl Record {
    /// This record without what no change here could have written: a time that is yet to come counts as long over. A
    /// configuration with a shorter `baseEjectionTime` ends an ejection of one before it by this.
    #[inline(never)]
    pub fn healed(&self, detection: &Detection, now: Instant) -> Record {
        let phase = match self.phase {
            Phase::Available(since) if since > now => Phase::Available(Instant::default()),
            Phase::Ejected(until) if until.since(now) > detection.longest() => {
                Phase::Ejected(Instant::default())
            }
            Phase::Probing { since, .. } if since > now => Phase::Ejected(Instant::default()),
            Phase::Ramp(since) if since > now => Phase::Ramp(Instant::default()),
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

    /// What to do with a request at `now`, for a `draw` that is even over all numbers. `whole`: the request is known to be
    /// complete.
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
                // 28 bits are fine enough, and a year of milliseconds has 35.
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

    /// Whether a probe has had its time. Where nothing else ends a request, home would be ejected for as long as its client
    /// waits.
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

    /// After an error, where that changes anything. `successes` is the count of good answers now, and `enough` whether errors
    /// are as large a part of the answers as is asked for.
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

    /// With the probe claimed by `owner`, where it is time for one and no other is on its way. `whole`: its request is known
    /// to be complete.
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

    /// After the answer to the probe of `owner` began well: a stream of gRPC says how it ended when it does.
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

    /// After the probe of `owner` ended, where that changes anything.
    pub fn probe_ended(
        &self,
        owner: u64,
        ended: Ended,
        detection: &Detection,
        now: Instant,
    ) -> Option<Record> {
        let this = self.healed(detection, now);
        let its = matches!(this.phase, Phase::Probing { owner: its, .. } if its == owner);
        // It was let go, and another is the probe, or can be.
        let late = match this.phase {
            Phase::Probing { .. } => true,
            Phase::Ejected(until) => now >= until,
            _ => false,
        };
        match ended {
            Ended::Well if its || late => Some(this.ramp(now)),
            Ended::Begun if its => Some(this.ramp(now)),
            Ended::Failed if its => Some(this.ejected(detection, now)),
            // Whoever comes next, whether or not it has a body.
            Ended::Nothing if its => Some(Record {
                phase: Phase::Ejected(now.before(detection.preference())),
                ..this
            }),
            _ => None,
        }
    }

    /// After a probe that did not end in time: it failed, or its answer has begun and goes on, which is well, or its request
    /// may not be complete, and it is let go.
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

    /// After the ramp.
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
        // As Envoy: each interval without an ejection makes one be forgotten.
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

    /// The time that an ejection which begins at `now` lasts.
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
