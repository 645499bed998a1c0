//! The record of errors and the gauge that shows it: `src/shell/errors.rs`.

use std::collections::VecDeque;

use super::{World, explore};
use crate::ejection::{Detection, Ended, Phase, Record, Verdict};
use crate::response::BROKEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// An answer of home's.
    Well,
    Error,
    /// A request, at this time, and whether it is known to be complete; where it is the probe, how that ends.
    Request(u64, bool, Ended),
    /// Finds the VM of this number dead.
    Bury(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    Fail(u64),
    Look(u64, bool, Ended),
    End(Ended, u64),
    /// As that, of a probe that was given up or let go.
    Late(Ended, u64),
    Orphan(u64),
    /// Writes if the record is still of this version.
    Write(Change, u32, Record),
    Gauge(i64),
}

/// A change of the record, to be tried again where another was faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    Fail(u64),
    Claim(u64, bool, Ended),
    End(u64, Ended, u64),
    Back(u64),
    Overdue(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Errors {
    scripts: Vec<VecDeque<Op>>,
    todo: Vec<VecDeque<Next>>,
    detection: [u32; 2],
    /// With its version. Version 0 is that of a record which nobody has written: a write of that version succeeds as long
    /// as nobody has.
    record: (u32, Record),
    /// The first write does not look whether there was one before it.
    blind: bool,
    gauge: i64,
    successes: u64,
    ejections: u32,
    /// At home as probes now.
    probes: u32,
    dead: u64,
}

const NOW: u64 = 0;
/// After all that happens.
const LAST: u64 = 1_000_000;

impl Errors {
    fn detection(&self) -> Detection {
        Detection {
            consecutive_5xx: self.detection[0],
            consecutive_gateway: self.detection[1],
            interval: 10,
            base_ejection: 10,
            max_percent: 100,
            overflow: false,
            codes: None,
            min_percent: None,
        }
    }

    fn is_probe(&self, of: u64) -> bool {
        matches!(self.record.1.phase, Phase::Probing { owner, .. } if owner == of)
    }

    /// Reads the record, and writes what `change` makes of it with the next hostcall.
    fn try_to(&mut self, vm: usize, change: Change) {
        let (version, record) = self.record;
        let d = self.detection();
        let after = match change {
            Change::Fail(successes) => record.failed(BROKEN, &d, successes, true, NOW),
            Change::Claim(now, whole, _) => record.probed_by(vm as u64 + 1, whole, &d, now),
            Change::End(owner, how, now) => record.probe_ended(owner, how, &d, now),
            Change::Back(now) => record.back(&d, now),
            Change::Overdue(now) => record.overdue(&d, now),
        };
        if let Some(after) = after {
            self.todo[vm].push_front(Next::Write(change, version, after));
        }
    }

    fn call(&mut self, vm: usize, next: Next) {
        match next {
            Next::Fail(successes) => self.try_to(vm, Change::Fail(successes)),
            Next::Look(now, whole, end) => {
                match self.record.1.course(&self.detection(), now, 0, whole) {
                    Verdict::Probe => self.try_to(vm, Change::Claim(now, whole, end)),
                    Verdict::Back => self.try_to(vm, Change::Back(now)),
                    Verdict::Overdue => self.try_to(vm, Change::Overdue(now)),
                    Verdict::Home | Verdict::Away { .. } => {}
                }
            }
            Next::End(how, now) => {
                self.probes -= 1;
                self.try_to(vm, Change::End(vm as u64 + 1, how, now));
            }
            Next::Late(how, now) => self.try_to(vm, Change::End(vm as u64 + 1, how, now)),
            Next::Orphan(owner) => {
                if self.is_probe(owner) {
                    self.try_to(vm, Change::End(owner, Ended::Nothing, LAST));
                }
            }
            Next::Gauge(by) => self.gauge += by,
            Next::Write(change, version, after) => {
                let (now, before) = self.record;
                if now != version && !(self.blind && version == 0) {
                    self.try_to(vm, change);
                    return;
                }
                self.record = (version + 1, after);
                self.ejections += u32::from(after.ejections > before.ejections);
                if let Phase::Probing { owner, .. } = before.phase
                    && !self.is_probe(owner)
                {
                    // It was given up, or let go, or an earlier one was answered.
                    for next in &mut self.todo[owner as usize - 1] {
                        if let Next::End(how, now) = *next {
                            self.probes -= 1;
                            *next = Next::Late(how, now);
                        }
                    }
                }
                if let Change::Claim(now, _, end) = change {
                    self.probes += 1;
                    self.todo[vm].push_front(Next::End(end, now + 5));
                }
                let by = after.phase.shown() - before.phase.shown();
                if by != 0 {
                    self.todo[vm].push_front(Next::Gauge(by));
                }
            }
        }
    }
}

impl World for Errors {
    fn vms(&self) -> usize {
        self.scripts.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        if self.dead == vm as u64 + 1 {
            return false;
        }
        if let Some(next) = self.todo[vm].pop_front() {
            self.call(vm, next);
            return true;
        }
        let Some(op) = self.scripts[vm].pop_front() else {
            return false;
        };
        match op {
            Op::Well => self.successes += 1,
            Op::Error => self.todo[vm].push_back(Next::Fail(self.successes)),
            // The gauge says that there is something to look for.
            Op::Request(now, whole, end) if self.gauge != 0 => {
                self.todo[vm].push_back(Next::Look(now, whole, end))
            }
            Op::Request(..) => {}
            Op::Bury(owner) => {
                match self.todo[owner as usize - 1].front() {
                    None => {}
                    Some(Next::End(..)) => self.probes -= 1,
                    Some(Next::Late(..)) => {}
                    // It dies between callbacks.
                    Some(_) => {
                        self.scripts[vm].push_front(op);
                        return false;
                    }
                }
                self.dead = owner;
                self.todo[owner as usize - 1].clear();
                self.todo[vm].push_back(Next::Orphan(owner));
            }
        }
        true
    }

    fn always(&self) {
        assert!(self.probes <= 1, "{self:?}");
        // So no order can leave it wrong.
        let pending = self.todo.iter().flatten().map(|next| match next {
            Next::Gauge(by) => *by,
            _ => 0,
        });
        let shown = self.record.1.phase.shown();
        assert_eq!(self.gauge + pending.sum::<i64>(), shown, "{self:?}");
    }

    fn finally(&self) {
        assert_eq!(self.gauge, self.record.1.phase.shown(), "{self:?}");
        let orphan = self.dead != 0 && self.is_probe(self.dead);
        assert!(!orphan, "{self:?}");
    }
}

fn world(consecutive: u32, record: Record, scripts: &[&[Op]]) -> Errors {
    Errors {
        scripts: scripts
            .iter()
            .map(|script| script.iter().copied().collect())
            .collect(),
        todo: vec![VecDeque::new(); scripts.len()],
        detection: [consecutive, 0],
        record: (0, record),
        blind: false,
        gauge: record.phase.shown(),
        successes: 0,
        ejections: 0,
        probes: 0,
        dead: 0,
    }
}

use Op::*;

#[test]
fn three_workers_errors_eject_once() {
    for (consecutive, errors) in [(1, 1), (3, 1), (2, 2), (3, 2)] {
        let script = vec![Error; errors];
        let world = world(consecutive, Record::default(), &[&script, &script, &script]);
        let mut ejected = world.clone();
        for vm in 0..3 {
            while ejected.step(vm) {}
        }
        assert_eq!(ejected.ejections, 1, "one after the other");
        let (states, ends) = explore(Once(world));
        assert!(states > 50 && ends > 0);
    }
}

/// What makes the first write one that sees any other: without it an order is found in which an error is lost.
#[test]
#[should_panic(expected = "ejections: 0")]
fn a_first_write_that_is_blind_loses_an_error() {
    let mut world = world(2, Record::default(), &[&[Error], &[Error]]);
    world.blind = true;
    explore(Once(world));
}

/// As [`Errors`], in which home is ejected exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Once(Errors);

impl World for Once {
    fn vms(&self) -> usize {
        self.0.vms()
    }

    fn step(&mut self, vm: usize) -> bool {
        self.0.step(vm)
    }

    fn always(&self) {
        self.0.always();
        assert!(self.0.ejections <= 1, "{self:?}");
    }

    fn finally(&self) {
        self.0.finally();
        assert_eq!(self.0.ejections, 1, "{self:?}");
    }
}

#[test]
fn one_probe_at_a_time_and_the_gauge_shows_the_record_in_the_end() {
    let ejected = Record {
        phase: Phase::Ejected(10),
        ejections: 1,
        ..Record::default()
    };
    for end in ENDS {
        let script = [
            Request(9, true, end),
            Request(15, true, end),
            Request(40_000, true, end),
        ];
        explore(world(
            1,
            ejected,
            &[&script, &script, &[Error, Request(90_000, true, end), Well]],
        ));
    }
}

const ENDS: [Ended; 4] = [Ended::Well, Ended::Begun, Ended::Failed, Ended::Nothing];

/// Probes whose requests may not be complete, which time lets go, and what they tell when another is on its way.
#[test]
fn one_probe_at_a_time_where_those_that_may_not_be_complete_are_let_go() {
    let ejected = Record {
        phase: Phase::Ejected(10),
        ejections: 1,
        ..Record::default()
    };
    for end in ENDS {
        for other in ENDS {
            let (states, _) = explore(world(
                1,
                ejected,
                &[
                    &[Request(30, false, end), Request(1_100, true, other)],
                    &[Request(2_200, false, other), Request(5_000, false, end)],
                    &[Error, Request(9_000, true, end)],
                ],
            ));
            assert!(states > 50, "{end:?} {other:?}: {states}");
        }
    }
}

#[test]
fn a_probe_of_a_dead_vm_is_let_go() {
    let ejected = Record {
        phase: Phase::Ejected(10),
        ejections: 1,
        ..Record::default()
    };
    for whole in [true, false] {
        explore(world(
            1,
            ejected,
            &[
                &[
                    Request(35, whole, Ended::Well),
                    Request(36, whole, Ended::Well),
                ],
                &[Bury(1), Request(45, whole, Ended::Well)],
                &[Request(50, whole, Ended::Nothing)],
            ],
        ));
    }
}
