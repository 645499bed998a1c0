//! What a VM does with the record of home's errors and the gauge that shows it, hostcall by hostcall.
//!
//! A machine of single steps, as [`crate::Admit`]: the filter carries out a [`Step`] and hands back what came of it; the explorer
//! drives some VMs' machines in every order. What a VM knows between its tasks is its [`Memory`].
//!
//! **Invariant: the record moves first, and the gauge after it by the difference**, so the gauge is right in the end, whatever the
//! order in which the VMs come to it.
//! **Invariant: what is decided by a record that was read before is decided again by the record that is changed.** A record is
//! remembered for as long as the gauge is what it was then; it says whether there is anything to change, and no more.

use super::{Change, Detection, Ended, Phase, Record, Verdict};
use crate::recovery::roster::Vm;
use crate::time::{Instant, Millis};

/// Between two numbers of the sequence of draws (Weyl's, by the golden ratio): even over any stretch.
const STEP: u32 = 0x9E37_79B9;
/// Turns in the ticks between two looks whether record and gauge are what this filter made them. A turn comes every tick, or
/// once a second where many services were used: so these are one to five seconds.
const LOOK_AFTER: u32 = 5;
/// So many looks in a row must see the same fault before it is mended: another VM may just be between its changes of the two.
/// And fewer than [`SPREAD`] more, by the number of the VM, so that one comes first.
const LOOKS: u32 = 2;
const SPREAD: u32 = 3;
/// Writes of a change before it is given up. Each that fails is one in which another VM changed the record, and most proxies
/// have fewer.
const TRIES: u8 = 32;

/// Who a stream of a VM is as a probe, among all of the proxy.
pub fn owner(vm: Vm, stream: u32) -> u64 {
    u64::from(vm) << 32 | u64::from(stream)
}

/// What a VM remembers of one service's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The record as last read, and what the gauge was then.
    last: Option<(u64, Record)>,
    /// Even over all numbers, and another for each request.
    pub(crate) draw: u32,
    turn: u32,
    /// Gauge and record as they last were seen to differ, and how many looks in a row saw that.
    differ: (u64, Record, u32),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the clock that only goes forward, in milliseconds.
    Clock,
    /// Read the record and hand it to [`Task::read`].
    Read,
    /// Write [`Task::record`] if the record was not written since it was last read; say 1 if it was written, else 0.
    Write,
    /// Write the bytes of the record that was last read once more, as [`Step::Write`].
    Again,
    /// Add this to the gauge.
    Move(i64),
    /// Say whether this VM was declared dead, 1 or 0.
    Dead(Vm),
    /// Finished. What there is to log is [`Task::line`].
    Done(Verdict),
}

/// What there is to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// Home is ejected for this time, for its last error.
    Ejected(Millis),
    /// As that, since the probe failed.
    ProbeFailed(Millis),
    /// As that, since the probe is not answered.
    Unanswered(Millis),
    /// A probe was answered.
    Answered,
    /// Home has all its load back.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Check,
    Checking,
    Remembered,
    Tick,
    LookedAfter,
    Mended,
    Mend,
    Due,
    Forget,
    Forgotten,
    Ticking,
    IsDead,
    Timed,
    Change,
    Changing,
    Written,
    End,
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    at: At,
    change: Change,
    verdict: Verdict,
    vm: Vm,
    tries: u8,
    /// There was a record when it was last read.
    is_there: bool,
    gauge: u64,
    now: Instant,
    moved: i64,
    record: Record,
    line: Option<Line>,
}

impl Task {
    #[inline(never)]
    fn new(at: At, change: Change, gauge: u64, now: Instant) -> Task {
        Task {
            at,
            change,
            verdict: Verdict::Home,
            vm: 0,
            tries: 0,
            is_there: false,
            gauge,
            now,
            moved: 0,
            record: Record::default(),
            line: None,
        }
    }

    /// What to do with a request, where the gauge is this; `None`: nothing but to send it home. `owner` is who it would be as a
    /// probe; `whole`: it is known to be complete.
    pub fn check(gauge: u64, owner: u64, whole: bool) -> Option<Task> {
        (gauge != 0).then(|| {
            Task::new(
                At::Check,
                Change::Claim { owner, whole },
                gauge,
                Instant::default(),
            )
        })
    }

    /// A change, at this moment.
    pub fn change(change: Change, now: Instant) -> Task {
        Task::new(At::Change, change, 0, now)
    }

    /// What there is to do without requests, in the VM of this number, where the gauge is this: to end a ramp that is over, and
    /// a probe whose VM is dead or that is not answered; and to mend what others have done to the record or to its gauge, which
    /// any module of the proxy can write.
    pub fn tick(gauge: u64, vm: Vm) -> Task {
        let mut task = Task::new(At::Tick, Change::Back, gauge, Instant::default());
        task.vm = vm;
        task
    }

    /// What there is to do where errors eject nobody and the gauge is this: home is available, and the gauge shows that, whatever
    /// others have made of it. `None`: nothing.
    pub fn forget(gauge: u64) -> Option<Task> {
        (gauge != 0).then(|| Task::new(At::Forget, Change::Forget, gauge, Instant::default()))
    }

    /// The record as it is to be written.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What there is to log at the end.
    pub fn line(&self) -> Option<Line> {
        self.line
    }

    /// What the last step read: the bytes of the record, none if there is no record yet.
    pub fn read(&mut self, bytes: &[u8]) {
        self.is_there = !bytes.is_empty();
        self.record = Record::from_bytes(bytes);
    }

    /// The next step. `seen` is what came of the last one if it was [`Step::Clock`], [`Step::Write`], [`Step::Again`] or
    /// [`Step::Dead`], and is not looked at otherwise.
    #[inline(never)]
    pub fn next(&mut self, memory: &mut Memory, detection: &Detection, seen: u64) -> Step {
        match self.at {
            At::Check => self.go(At::Checking, Step::Clock),
            At::Checking => {
                self.now = Instant(seen);
                memory.draw = memory.draw.wrapping_add(STEP);
                match memory.last {
                    Some((gauge, record)) if gauge == self.gauge => {
                        self.record = record;
                        match self.course(memory, detection) {
                            Verdict::Probe => self.go(At::Remembered, Step::Read),
                            verdict => self.follow(verdict),
                        }
                    }
                    _ => self.go(At::Remembered, Step::Read),
                }
            }
            At::Remembered => {
                self.remember(memory);
                let verdict = self.course(memory, detection);
                self.follow(verdict)
            }
            At::Tick => {
                memory.turn = memory.turn.wrapping_add(1);
                match memory.turn.checked_rem(LOOK_AFTER) {
                    Some(0) => self.go(At::LookedAfter, Step::Read),
                    _ => self.look(),
                }
            }
            At::Forget => self.go(At::Forgotten, Step::Read),
            At::Forgotten if self.record.phase.shown() != 0 => self.make(detection),
            At::LookedAfter | At::Forgotten => self.mend(memory),
            At::Mend if seen != 0 => self.go(At::Mended, Step::Move(self.moved)),
            At::Mend | At::Mended => self.look(),
            At::Due => self.go(At::Ticking, Step::Read),
            At::Change => self.go(At::Changing, Step::Read),
            At::Ticking => {
                self.remember(memory);
                match self.record.phase {
                    Phase::Ramp(_) => self.go(At::Timed, Step::Clock),
                    Phase::Probing { owner, .. } => {
                        self.change = Change::Ended(owner, Ended::Nothing);
                        // The upper half of 64 bits has 32.
                        self.go(At::IsDead, Step::Dead((owner >> 32) as Vm))
                    }
                    _ => self.done(),
                }
            }
            At::IsDead => {
                if seen == 0 {
                    self.change = Change::Overdue;
                }
                self.go(At::Timed, Step::Clock)
            }
            At::Timed => {
                self.now = Instant(seen);
                self.go(At::Changing, Step::Read)
            }
            At::Changing => self.make(detection),
            At::Written if seen != 0 => {
                self.changed();
                if self.moved == 0 {
                    return self.done();
                }
                self.go(At::End, Step::Move(self.moved))
            }
            At::Written => {
                self.tries = self.tries.saturating_add(1);
                if self.tries < TRIES {
                    self.go(At::Changing, Step::Read)
                } else {
                    self.done()
                }
            }
            At::End => self.done(),
        }
    }

    fn go(&mut self, at: At, step: Step) -> Step {
        self.at = at;
        step
    }

    fn done(&mut self) -> Step {
        self.go(At::End, Step::Done(self.verdict))
    }

    /// Makes the change of the record that was just read.
    #[inline(never)]
    fn make(&mut self, detection: &Detection) -> Step {
        let Some(after) = self.change.of(&self.record, detection, self.now) else {
            return self.done();
        };
        let before = self.record.phase.shown();
        self.moved = after.phase.shown().saturating_sub(before);
        self.record = after;
        self.go(At::Written, Step::Write)
    }

    #[inline(never)]
    fn remember(&self, memory: &mut Memory) {
        memory.last = Some((self.gauge, self.record));
    }

    #[inline(never)]
    fn course(&self, memory: &Memory, detection: &Detection) -> Verdict {
        let whole = matches!(self.change, Change::Claim { whole: true, .. });
        self.record.course(detection, self.now, memory.draw, whole)
    }

    /// Changes what the verdict on a request says is to be changed.
    fn follow(&mut self, verdict: Verdict) -> Step {
        self.verdict = Verdict::Away { ramp: false };
        match verdict {
            // Until it is claimed: another may be faster.
            Verdict::Probe => {}
            Verdict::Overdue => self.change = Change::Overdue,
            Verdict::Back => {
                self.change = Change::Back;
                self.verdict = Verdict::Home;
            }
            Verdict::Home | Verdict::Away { .. } => {
                self.verdict = verdict;
                return self.done();
            }
        }
        self.go(At::Changing, Step::Read)
    }

    /// Looks at the record, where the gauge says that there is something to look for.
    fn look(&mut self) -> Step {
        if self.gauge == 0 || matches!(self.change, Change::Forget) {
            self.done()
        } else {
            self.go(At::Ticking, Step::Read)
        }
    }

    /// Mends what others have done: a record that is gone is written again, and the gauge driven to what the record says.
    #[inline(never)]
    fn mend(&mut self, memory: &mut Memory) -> Step {
        let record = self.record;
        if !self.is_there {
            // There is none before the first error.
            return match self.gauge {
                0 => self.done(),
                _ => self.go(At::Due, Step::Write),
            };
        }
        let by = record.phase.shown().wrapping_sub(self.gauge.cast_signed());
        let seen = match memory.differ {
            (gauge, of, seen) if by != 0 && (gauge, of) == (self.gauge, record) => {
                seen.saturating_add(1)
            }
            _ => 0,
        };
        memory.differ = (self.gauge, record, seen);
        if by == 0 || seen < LOOKS.saturating_add(self.vm % SPREAD) {
            return self.look();
        }
        self.moved = by;
        // Whoever wrote meanwhile, or mends too, makes this fail.
        self.go(At::Mend, Step::Again)
    }

    /// The record was changed.
    fn changed(&mut self) {
        let (phase, ms) = (self.record.phase, self.record.lasts(self.now));
        self.line = match self.change {
            Change::Failed { .. } if matches!(phase, Phase::Ejected(_)) => Some(Line::Ejected(ms)),
            Change::Ended(_, Ended::Well | Ended::Begun) => Some(Line::Answered),
            Change::Ended(_, Ended::Failed) => Some(Line::ProbeFailed(ms)),
            Change::Overdue if matches!(phase, Phase::Ramp(_)) => Some(Line::Answered),
            Change::Overdue if ms > Millis::default() => Some(Line::Unanswered(ms)),
            Change::Back => Some(Line::Back),
            Change::Claim { .. } => {
                self.verdict = Verdict::Probe;
                None
            }
            _ => None,
        };
    }
}

#[cfg(test)]
#[path = "task_test.rs"]
mod tests;
