//! What a VM does with the record of a destination's errors and with the gauge that shows it, hostcall by hostcall.
//!
//! This is a machine of single steps like [`crate::Admit`]. The filter carries out each [`Step`] and passes back its result.
//! The explorer drives the machines of several VMs in every order. [`Memory`] is what a VM keeps from one task to the next.
//!
//! **Invariant: the record changes first, and then the gauge by the difference.** So the gauge is right in the end, in whatever
//! order the VMs change it.
//! **Invariant: no record is changed because of a remembered one.** A record is remembered as long as the gauge has the same
//! value. If it says that there is something to change, the record is read, and what to do is decided again.

use super::{Change, Detection, Ended, Phase, Record, Verdict};
use crate::recovery::roster::Vm;
use crate::time::{Instant, Millis};

/// The difference between two draws. It is that of Weyl's sequence by the golden ratio, which is even over any stretch.
const STEP: u32 = 0x9E37_79B9;
/// The number of turns between two checks whether the record and the gauge are what this filter made them. A turn comes in
/// every tick, or once a second if many services are used. So this is one to five seconds.
const LOOK_AFTER: u32 = 5;
/// The number of checks in a row that must find the same fault before it is mended, since another VM may be between its changes
/// of both. Each VM needs up to [`SPREAD`] checks more, by its number, so that one VM is the first.
const LOOKS: u32 = 2;
const SPREAD: u32 = 3;
/// The number of writes after which a change is given up. A write fails only if another VM changed the record, and most proxies
/// have fewer VMs.
const TRIES: u8 = 32;

/// The owner of a probe: a stream of a VM, as a number that no other stream of the proxy has.
pub fn owner(vm: Vm, stream: u32) -> u64 {
    u64::from(vm) << 32 | u64::from(stream)
}

/// What a VM remembers of one destination's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The record that was read last, and the value of the gauge then.
    last: Option<(u64, Record)>,
    /// The number that was drawn last.
    pub(crate) draw: u32,
    turn: u32,
    /// The gauge and the record when a check last found them different, and the number of checks in a row that found that.
    differ: (u64, Record, u32),
}

impl Memory {
    /// What a VM remembers at first. Each VM has another `seed`, so that those of a mesh do not draw the same numbers.
    pub fn new(seed: u64) -> Memory {
        Memory {
            draw: seed as u32,
            ..Memory::default()
        }
    }

    /// The next number, of which all are evenly distributed over all numbers.
    fn draw(&mut self) -> u32 {
        self.draw = self.draw.wrapping_add(STEP);
        self.draw
    }
}

/// The next hostcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the monotonic clock, in milliseconds.
    Clock,
    /// Read the record, and pass it to [`Task::read`].
    Read,
    /// Write [`Task::record`] if no VM has written the record since it was read. The result is 1 if it was written, or else 0.
    Write,
    /// Write the bytes of the record that was read last once more, like [`Step::Write`].
    Again,
    /// Add this to the gauge.
    Move(i64),
    /// Find out whether this VM was declared dead. The result is 1 or 0.
    Dead(Vm),
    /// The task is finished. [`Task::line`] is what has to be logged.
    Done(Verdict),
}

/// What has to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// The destination is ejected for this time, and for what chance adds to it, because of its last error.
    Ejected(Millis),
    /// The same, because the probe failed.
    ProbeFailed(Millis),
    /// The same, because the probe has no answer.
    Unanswered(Millis),
    /// A probe was answered well.
    Answered,
    /// The destination has all its load back.
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
    /// Whether there was a record when it was read last.
    is_there: bool,
    gauge: u64,
    now: Instant,
    moved: i64,
    record: Record,
    /// How long the ejection lasts that begins, without what chance adds.
    lasts: Millis,
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
            lasts: Millis::default(),
            line: None,
        }
    }

    /// The task of deciding what to do with a request if the gauge has this value. `None` if the request is sent as if there
    /// were no errors. `owner` is the owner of the probe that the request may become. `whole` says whether it is known to be
    /// complete.
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

    /// The task of a change at this moment.
    pub fn change(change: Change, now: Instant) -> Task {
        Task::new(At::Change, change, 0, now)
    }

    /// The task of a tick, in the VM with this number, if the gauge has this value. It ends a ramp that is over, and a probe
    /// whose VM is dead or that has no answer. It also mends what others have done to the record or to the gauge, which any
    /// module of the proxy can write.
    pub fn tick(gauge: u64, vm: Vm) -> Task {
        let mut task = Task::new(At::Tick, Change::Back, gauge, Instant::default());
        task.vm = vm;
        task
    }

    /// The task of a tick if ejection is disabled and the gauge has this value: the destination becomes available and the gauge
    /// shows that, whatever others have written. `None` if there is nothing to do.
    pub fn forget(gauge: u64) -> Option<Task> {
        (gauge != 0).then(|| Task::new(At::Forget, Change::Forget, gauge, Instant::default()))
    }

    /// The record that has to be written.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What has to be logged at the end.
    pub fn line(&self) -> Option<Line> {
        self.line
    }

    /// Takes the bytes of the record that was read. They are empty if there is no record.
    pub fn read(&mut self, bytes: &[u8]) {
        self.is_there = !bytes.is_empty();
        self.record = Record::from_bytes(bytes);
    }

    /// The next step. `seen` is the result of the last step if that was [`Step::Clock`], [`Step::Write`], [`Step::Again`] or
    /// [`Step::Dead`]. Otherwise it is not used.
    #[inline(never)]
    pub fn next(&mut self, memory: &mut Memory, detection: &Detection, seen: u64) -> Step {
        match self.at {
            At::Check => self.go(At::Checking, Step::Clock),
            At::Checking => {
                self.now = Instant(seen);
                memory.draw();
                match memory.last {
                    Some((gauge, record)) if gauge == self.gauge => {
                        self.record = record;
                        match self.course(memory, detection) {
                            Verdict::Probe | Verdict::Back | Verdict::Overdue => {
                                self.go(At::Remembered, Step::Read)
                            }
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
            At::Forgotten if self.record.phase.shown() != 0 => self.make(memory, detection),
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
                        // The upper half of 64 bits, which has 32.
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
            At::Changing => self.make(memory, detection),
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
    fn make(&mut self, memory: &mut Memory, detection: &Detection) -> Step {
        let Some(after) = self.change.of(&self.record, detection, self.now) else {
            return self.done();
        };
        let before = self.record.phase.shown();
        self.moved = after.phase.shown().saturating_sub(before);
        self.lasts = after.lasts(self.now);
        self.record = after.with_jitter(self.now, memory.draw());
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

    /// Makes the change that the verdict on a request asks for.
    fn follow(&mut self, verdict: Verdict) -> Step {
        self.verdict = Verdict::Away { ramp: false };
        match verdict {
            // It is not the probe until the claim is written, since another VM may be faster.
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

    /// Looks at the record, because the gauge says that there is something to do.
    fn look(&mut self) -> Step {
        if self.gauge == 0 || matches!(self.change, Change::Forget) {
            self.done()
        } else {
            self.go(At::Ticking, Step::Read)
        }
    }

    /// Mends what others have done: a record that is gone is written again, and the gauge is changed to what the record says.
    #[inline(never)]
    fn mend(&mut self, memory: &mut Memory) -> Step {
        let record = self.record;
        if !self.is_there {
            // There is no record before the first error.
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
        // This fails if another VM has written meanwhile, or mends too.
        self.go(At::Mend, Step::Again)
    }

    /// The record was changed.
    fn changed(&mut self) {
        let (phase, ms) = (self.record.phase, self.lasts);
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
