//! The record of errors and the gauge that shows it: VMs that drive [`Task`]s, each with its own memory of the last record.

use std::collections::VecDeque;

use super::{World, explore};
use crate::ejection::{
    Change, Detection, Ended, Memory, Phase, Record, Step, Task, Verdict, owner,
};
use crate::response::BROKEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// An answer of home's.
    Well,
    Error,
    /// A request, at this time, and whether it is known to be complete; where it is the probe, how that ends.
    Request(u64, bool, Ended),
    /// A turn of the service in the ticks, at this time.
    Tick(u64),
    /// This VM is found dead: it is not called any more, and ticks know.
    Bury(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// The hostcall of a task; of a request, how it ends as the probe.
    Call(Running, Option<Ended>),
    /// The probe ends.
    End(Ended, u64),
    /// As that, of a probe that was given up or let go.
    Late(Ended, u64),
}

/// A task before its next hostcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Running {
    task: Task,
    step: Step,
    now: u64,
    /// The version of the record that it last read.
    version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Errors {
    scripts: Vec<VecDeque<Op>>,
    todo: Vec<VecDeque<Next>>,
    memories: Vec<Memory>,
    detection: [u32; 2],
    /// With its version. Version 0 is that of a record which nobody has written: a write of that version succeeds as long
    /// as nobody has.
    record: (u32, Record),
    /// The first write does not look whether there was one before it.
    blind: bool,
    gauge: i64,
    /// Another module has set the gauge.
    meddled: bool,
    successes: u64,
    ejections: u32,
    /// At home as probes now.
    probes: u32,
    dead: u64,
}

const NOW: u64 = 0;

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

    fn owner(vm: usize) -> u64 {
        owner(vm as u32 + 1, 1)
    }

    /// Goes on with a task up to its next hostcall.
    fn go_on(&mut self, vm: usize, mut running: Running, end: Option<Ended>, mut seen: u64) {
        let detection = self.detection();
        loop {
            let memory = &mut self.memories[vm];
            running.step = running.task.next(memory, &detection, seen);
            match running.step {
                Step::Clock => seen = running.now,
                Step::Done(verdict) => {
                    // All draws are the same, or there were too many states.
                    self.memories[vm].draw = 0;
                    if let (Verdict::Probe, Some(end)) = (verdict, end) {
                        self.todo[vm].push_front(Next::End(end, running.now + 5));
                    }
                    return;
                }
                _ => break,
            }
        }
        self.todo[vm].push_front(Next::Call(running, end));
    }

    fn start(&mut self, vm: usize, task: Task, now: u64, end: Option<Ended>) {
        let running = Running {
            task,
            step: Step::Clock,
            now,
            version: 0,
        };
        self.go_on(vm, running, end, now);
    }

    fn change(&mut self, vm: usize, change: Change, now: u64) {
        self.start(vm, Task::change(change, now), now, None);
    }

    fn call(&mut self, vm: usize, next: Next) {
        match next {
            Next::End(how, now) => {
                self.probes -= 1;
                self.change(vm, Change::Ended(Self::owner(vm), how), now);
            }
            Next::Late(how, now) => self.change(vm, Change::Ended(Self::owner(vm), how), now),
            Next::Call(mut running, end) => {
                let seen = match running.step {
                    Step::Read => {
                        let (version, record) = self.record;
                        running.version = version;
                        running.task.read(&record.to_bytes());
                        0
                    }
                    Step::Write => self.write(running, *running.task.record(), end.is_some()),
                    Step::Again => self.write(running, self.record.1, false),
                    Step::Move(by) => {
                        self.gauge += by;
                        0
                    }
                    Step::Dead(of) => u64::from(self.dead == u64::from(of)),
                    Step::Clock | Step::Done(_) => panic!("no hostcall: {running:?}"),
                };
                self.go_on(vm, running, end, seen);
            }
        }
    }

    /// Writes if the record is still of the version that was read: 1 if so, else 0.
    fn write(&mut self, running: Running, after: Record, request: bool) -> u64 {
        let (now, before) = self.record;
        let version = running.version;
        if now != version && !(self.blind && version == FIRST) {
            return 0;
        }
        self.record = (version + 1, after);
        self.ejections += u32::from(after.ejections > before.ejections);
        if let Phase::Probing { owner, .. } = before.phase
            && !self.is_probe(owner)
        {
            // It was given up, or let go, or an earlier one was answered.
            for next in &mut self.todo[(owner >> 32) as usize - 1] {
                if let Next::End(how, now) = *next {
                    self.probes -= 1;
                    *next = Next::Late(how, now);
                }
            }
        }
        let claimed = matches!(after.phase, Phase::Probing { .. }) && before.phase != after.phase;
        self.probes += u32::from(request && claimed);
        1
    }
}

/// The version of the record that a world begins with.
const FIRST: u32 = 1;

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
            Op::Error => {
                let change = Change::Failed {
                    failure: BROKEN,
                    successes: self.successes,
                    enough: true,
                };
                self.change(vm, change, NOW);
            }
            Op::Request(now, whole, end) => {
                let gauge = self.gauge.cast_unsigned();
                if let Some(task) = Task::check(gauge, Self::owner(vm), whole) {
                    self.start(vm, task, now, Some(end));
                }
            }
            Op::Tick(now) => {
                let task = Task::tick(self.gauge.cast_unsigned(), vm as u32 + 1);
                self.start(vm, task, now, None);
            }
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
            }
        }
        true
    }

    fn always(&self) {
        assert!(self.probes <= 1, "{self:?}");
        if self.meddled {
            return;
        }
        // So no order can leave it wrong.
        let pending = self.todo.iter().flatten().map(|next| match next {
            Next::Call(running, _) => match running.step {
                Step::Move(by) => by,
                _ => 0,
            },
            _ => 0,
        });
        let shown = self.record.1.phase.shown();
        assert_eq!(self.gauge + pending.sum::<i64>(), shown, "{self:?}");
    }

    fn finally(&self) {
        if self.meddled {
            let mut world = self.clone();
            for vm in (0..2).cycle().take(100) {
                world.scripts[vm].push_back(Op::Tick(6));
                while world.step(vm) {}
            }
            assert_eq!(world.gauge, world.record.1.phase.shown(), "{self:?}");
            return;
        }
        assert_eq!(self.gauge, self.record.1.phase.shown(), "{self:?}");
        let orphan = self.dead != 0 && self.is_probe(owner(self.dead as u32, 1));
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
        memories: vec![Memory::default(); scripts.len()],
        detection: [consecutive, 0],
        record: (FIRST, record),
        blind: false,
        gauge: record.phase.shown(),
        meddled: false,
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
        let script = [Request(15, true, end), Request(40_000, true, end)];
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
                    &[Request(9_000, true, end)],
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
                &[Bury(1), Tick(40), Request(45, whole, Ended::Well)],
                &[Request(50, whole, Ended::Nothing)],
            ],
        ));
    }
}

/// A VM that asked before remembers the record of then: home was ejected anew meanwhile, or a probe is on its way.
#[test]
fn one_probe_at_a_time_where_a_vm_remembers_an_older_record() {
    let ejected = Record {
        phase: Phase::Ejected(10),
        ejections: 1,
        ..Record::default()
    };
    for end in ENDS {
        let (states, _) = explore(world(
            1,
            ejected,
            &[
                &[Request(9, true, end), Request(15, true, end)],
                &[Request(8, true, end), Request(40, true, end), Tick(90_000)],
                &[Request(16, true, end)],
            ],
        ));
        assert!(states > 50, "{end:?}: {states}");
    }
}

/// Whichever VM sees it first, and though one may wait between its two hostcalls for as long as it likes.
#[test]
fn a_gauge_that_another_module_set_is_driven_back_in_the_end() {
    for (gauge, record) in [
        (0, Phase::Ejected(10_000)),
        (2, Phase::Ejected(10_000)),
        (7, Phase::Available(0)),
        (-1, Phase::Ramp(5)),
    ] {
        let record = Record {
            phase: record,
            ..Record::default()
        };
        // Every fifth is a look, and four or five in a row must see it.
        let ticks = vec![Tick(6); 26];
        let mut world = world(1, record, &[&ticks, &ticks]);
        world.gauge = gauge;
        world.meddled = true;
        let (states, ends) = explore(world);
        assert!(states > 50 && ends > 0, "{states}");
    }
}

/// Two looks of one VM between another's changes of record and gauge are too few to take that for a fault.
#[test]
fn a_change_that_is_under_way_is_not_mended() {
    let ticks = vec![Tick(6); 14];
    let (states, _) = explore(world(
        1,
        Record::default(),
        &[&[Error], &ticks, &[Error, Error]],
    ));
    assert!(states > 50, "{states}");
}
