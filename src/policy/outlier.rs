//! When home is taken out for its errors, and how it takes its load back.
//!
//! The words are those of Envoy's outlier detection, with the whole of home in the place of a host. One [`Record`] holds
//! what all workers of the proxy know; they change it by compare-and-swap, so what is here is from one record to the
//! next, and every change happens once.
//!
//! **Invariant: two workers do not eject twice.** An error while home is ejected changes nothing.
//! **Invariant: one probe at a time.** Only its owner ends one, or its owner's undertaker.
//! **Invariant: good answers between two errors part them**, whichever workers saw which: they are counted together
//! (the witness), and an error that finds that count moved begins a new run. It holds for answers that are read: a worker
//! in a long calm does not read all ([`super::attention`]).

use super::answer::Failure;

/// The longest that home is ejected, in milliseconds, unless `baseEjectionTime` is longer: Envoy's `max_ejection_time`.
pub const LONGEST: u64 = 300_000;

/// After how long a probe that has no answer has failed, in milliseconds, unless `baseEjectionTime` is longer: its default,
/// which is long for any answer.
pub const UNANSWERED: u64 = 30_000;

/// What a service's `outlierDetection` says. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Detection {
    /// Statuses are read every so often while all is well, so that a run of errors cannot be missed. At least 1.
    pub fn every(&self) -> u32 {
        let least = match (self.consecutive_5xx, self.consecutive_gateway) {
            (0, n) | (n, 0) => n,
            (a, b) => a.min(b),
        };
        least.clamp(1, super::attention::SELDOM)
    }

    /// Whether a probe that went at `since` has failed, having no answer. Where nothing else ends a request, home would be
    /// ejected for as long as its client waits.
    fn overdue(&self, since: u64, now: u64) -> bool {
        now.saturating_sub(since) >= self.base_ejection.max(UNANSWERED)
    }
}

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
    /// Errors in a row, and of a gateway in a row.
    pub runs: [u32; 2],
    /// The count of good answers that the last error saw.
    pub witness: u64,
    /// Ejections in a row.
    pub ejections: u32,
}

impl Default for Record {
    fn default() -> Self {
        Record {
            phase: Phase::Available(0),
            runs: [0; 2],
            witness: 0,
            ejections: 0,
        }
    }
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
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
    /// What to do with a request at `now`, for a `draw` that is even over all numbers.
    pub fn course(&self, detection: &Detection, now: u64, draw: u32) -> Course {
        let all = 1u64 << 32;
        let most = u64::from(detection.max_percent).saturating_mul(all) / 100;
        let away = |share: u64, ramp| {
            if u64::from(draw) < share.min(most) {
                Course::Away { ramp }
            } else {
                Course::Home
            }
        };
        match self.phase {
            Phase::Available(_) => Course::Home,
            Phase::Ejected(until) if now >= until => Course::Probe,
            Phase::Probing { since, .. } if detection.overdue(since, now) => Course::Overdue,
            Phase::Ejected(_) | Phase::Probing { .. } => away(all, false),
            Phase::Ramp(since) => {
                let left = detection.interval.saturating_sub(now.saturating_sub(since));
                if left == 0 {
                    return Course::Back;
                }
                // 28 bits are fine enough, and a year of milliseconds has 35.
                let share = left
                    .saturating_mul(all >> 4)
                    .checked_div(detection.interval);
                away(share.unwrap_or(0).saturating_mul(1 << 4), true)
            }
        }
    }

    /// After an error, where that changes anything. `witness` is the count of good answers now.
    pub fn failed(
        &self,
        failure: Failure,
        detection: &Detection,
        witness: u64,
        now: u64,
    ) -> Option<Record> {
        if matches!(self.phase, Phase::Ejected(_) | Phase::Probing { .. }) {
            return None;
        }
        let [run, gateway] = if self.witness == witness {
            self.runs
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
        if reached(run, detection.consecutive_5xx)
            || reached(gateway, detection.consecutive_gateway)
        {
            return Some(self.ejected(detection, now));
        }
        Some(Record {
            runs,
            witness,
            ..*self
        })
    }

    /// With the probe claimed by `owner`, where it is time for one and no other is on its way.
    pub fn probed_by(&self, owner: u64, now: u64) -> Option<Record> {
        match self.phase {
            Phase::Ejected(until) if now >= until => Some(Record {
                phase: Phase::Probing {
                    owner,
                    since: now,
                    begun: false,
                },
                ..*self
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
            } if its == owner => Some(Record {
                phase: Phase::Probing {
                    owner,
                    since,
                    begun: true,
                },
                ..*self
            }),
            _ => None,
        }
    }

    /// After the probe of `owner` ended: well, or with an error of home's, or without saying anything of home (nothing),
    /// and then the next request is the probe.
    pub fn probe_ended(
        &self,
        owner: u64,
        well: Option<bool>,
        detection: &Detection,
        now: u64,
    ) -> Option<Record> {
        match self.phase {
            Phase::Probing { owner: its, .. } if its == owner => {}
            _ => return None,
        }
        Some(match well {
            Some(true) => self.ramp(now),
            Some(false) => self.ejected(detection, now),
            None => Record {
                phase: Phase::Ejected(now),
                ..*self
            },
        })
    }

    /// After a probe that did not end in time: it failed, or its answer has begun and goes on, which is well.
    pub fn overdue(&self, detection: &Detection, now: u64) -> Option<Record> {
        match self.phase {
            Phase::Probing { since, begun, .. } if detection.overdue(since, now) => {
                Some(if begun {
                    self.ramp(now)
                } else {
                    self.ejected(detection, now)
                })
            }
            _ => None,
        }
    }

    /// After the ramp.
    pub fn back(&self, detection: &Detection, now: u64) -> Option<Record> {
        match self.phase {
            Phase::Ramp(since) if now.saturating_sub(since) >= detection.interval => Some(Record {
                phase: Phase::Available(now),
                ..*self
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
        let ejections = before.saturating_add(1);
        let time = detection
            .base_ejection
            .saturating_mul(ejections)
            .min(LONGEST.max(detection.base_ejection));
        Record {
            phase: Phase::Ejected(now.saturating_add(time)),
            runs: [0; 2],
            witness: self.witness,
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

    /// The record as bytes, for shared data.
    pub fn to_bytes(&self) -> [u8; 40] {
        let (kind, number, owner) = match self.phase {
            Phase::Available(since) => (0u32, since, 0),
            Phase::Ejected(until) => (1, until, 0),
            Phase::Probing {
                owner,
                since,
                begun: false,
            } => (2, since, owner),
            Phase::Ramp(since) => (3, since, 0),
            Phase::Probing { owner, since, .. } => (4, since, owner),
        };
        let [run, gateway] = self.runs;
        let words = [kind, self.ejections, run, gateway].map(u32::to_le_bytes);
        let longs = [self.witness, number, owner].map(u64::to_le_bytes);
        let bytes = words.as_flattened().iter().chain(longs.as_flattened());
        let mut out = [0; 40];
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        out
    }

    /// The record that these bytes are; where they are none, that of a home of which nothing is known.
    pub fn from_bytes(bytes: &[u8]) -> Record {
        let word = |at: usize| -> Option<u32> {
            let four = bytes.get(at..at.saturating_add(4))?;
            Some(u32::from_le_bytes(four.try_into().ok()?))
        };
        let long = |at: usize| -> Option<u64> {
            let eight = bytes.get(at..at.saturating_add(8))?;
            Some(u64::from_le_bytes(eight.try_into().ok()?))
        };
        let read = || {
            let number = long(24)?;
            let phase = match word(0)? {
                0 => Phase::Available(number),
                1 => Phase::Ejected(number),
                kind @ (2 | 4) => Phase::Probing {
                    owner: long(32)?,
                    since: number,
                    begun: kind == 4,
                },
                3 => Phase::Ramp(number),
                _ => return None,
            };
            Some(Record {
                phase,
                ejections: word(4)?,
                runs: [word(8)?, word(12)?],
                witness: long(16)?,
            })
        };
        read().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "outlier_test.rs"]
mod tests;
