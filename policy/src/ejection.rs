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
pub use change::Change;
pub use detection::{Detection, LONGEST, PATIENCE, UNANSWERED};
pub use task::{Line, Memory, Step, Task, owner};

/// How home stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It gets what it has room for, since this moment.
    Available(u64),
    /// It is taken out until this moment, and then until a probe succeeds.
    Ejected(u64),
    /// A probe is on its way.
    Probing {
        /// Who it is.
        owner: u64,
        /// When it went.
        since: u64,
        /// Whether its answer has begun, well, and only the end is yet to say.
        begun: bool,
        /// Whether its request is known to be complete.
        whole: bool,
    },
    /// It takes its load back, since this moment.
    Ramp(u64),
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
            phase: Phase::Available(0),
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
    pub fn healed(&self, detection: &Detection, now: u64) -> Record {
        let phase = match self.phase {
            Phase::Available(since) if since > now => Phase::Available(0),
            Phase::Ejected(until) if until.saturating_sub(now) > detection.longest() => {
                Phase::Ejected(0)
            }
            Phase::Probing { since, .. } if since > now => Phase::Ejected(0),
            Phase::Ramp(since) if since > now => Phase::Ramp(0),
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
    pub fn course(&self, detection: &Detection, now: u64, draw: u32, whole: bool) -> Verdict {
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
                let left = detection.interval.saturating_sub(now.saturating_sub(since));
                if left == 0 {
                    return Verdict::Back;
                }
                // 28 bits are fine enough, and a year of milliseconds has 35.
                let share = left
                    .saturating_mul(all >> 4)
                    .checked_div(detection.interval);
                away(share.unwrap_or(0).saturating_mul(1 << 4), true)
            }
        }
    }

    fn may_probe(&self, until: u64, detection: &Detection, now: u64, whole: bool) -> bool {
        let wait = if whole { 0 } else { detection.preference() };
        now >= until.saturating_add(wait)
    }

    /// Whether a probe has had its time. Where nothing else ends a request, home would be ejected for as long as its client
    /// waits.
    fn is_overdue(&self, detection: &Detection, now: u64) -> bool {
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
            PATIENCE.saturating_mul(1 << let_go.min(5)).min(UNANSWERED)
        };
        now.saturating_sub(since) >= time
    }

    /// After an error, where that changes anything. `successes` is the count of good answers now, and `enough` whether errors
    /// are as large a part of the answers as is asked for.
    pub fn failed(
        &self,
        failure: Failure,
        detection: &Detection,
        successes: u64,
        enough: bool,
        now: u64,
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
        now: u64,
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
        now: u64,
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
                phase: Phase::Ejected(now.saturating_sub(detection.preference())),
                ..this
            }),
            _ => None,
        }
    }

    /// After a probe that did not end in time: it failed, or its answer has begun and goes on, which is well, or its request
    /// may not be complete, and it is let go.
    pub fn overdue(&self, detection: &Detection, now: u64) -> Option<Record> {
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
    pub fn back(&self, detection: &Detection, now: u64) -> Option<Record> {
        let this = self.healed(detection, now);
        match this.phase {
            Phase::Ramp(since) if now.saturating_sub(since) >= detection.interval => Some(Record {
                phase: Phase::Available(now),
                ..this
            }),
            _ => None,
        }
    }

    fn ramp(&self, now: u64) -> Record {
        Record {
            phase: Phase::Ramp(now),
            runs: [0; 2],
            ..*self
        }
    }

    #[inline(never)]
    fn ejected(&self, detection: &Detection, now: u64) -> Record {
        // As Envoy: each interval without an ejection makes one be forgotten.
        let forgotten = match self.phase {
            Phase::Available(since) => now
                .saturating_sub(since)
                .checked_div(detection.interval)
                .unwrap_or(0),
            _ => 0,
        };
        let before = u64::from(self.ejections).saturating_sub(forgotten);
        let ejections = before.saturating_add(1).min(detection.most_ejections());
        let time = detection
            .base_ejection
            .saturating_mul(ejections)
            .min(detection.longest());
        Record {
            phase: Phase::Ejected(now.saturating_add(time)),
            runs: [0; 2],
            successes: self.successes,
            ejections: u32::try_from(ejections).unwrap_or(u32::MAX),
        }
    }

    /// How long an ejection that begins at `now` lasts, in milliseconds.
    pub fn lasts(&self, now: u64) -> u64 {
        match self.phase {
            Phase::Ejected(until) => until.saturating_sub(now),
            _ => 0,
        }
    }
}

#[cfg(test)]
#[path = "ejection_test.rs"]
mod tests;
