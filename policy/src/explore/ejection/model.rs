//! What a VM does, hostcall by hostcall.

use std::collections::VecDeque;

use super::World;
use crate::ejection::{
    Change, Detection, Ended, Memory, Phase, Record, Step, Task, Verdict, owner,
};
use crate::response::BROKEN;
use crate::time::{Instant, Millis};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// An answer of home's.
    Well,
    Error,
    /// A request, at this time, and whether it is known to be complete; where it is the probe, how that ends.
    Request(u64, bool, Ended),
    /// A turn of the service in the ticks, at this time.
    Tick(u64),
    /// A turn of the service in the ticks where the VM's configuration looks at no errors.
    Forget,
    /// Another module of the proxy sets the gauge.
    Meddle(i64),
    /// This VM is found dead: it is not called any more, and ticks know.
    DeclareDead(u64),
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
pub(super) struct Errors {
    scripts: Vec<VecDeque<Op>>,
    todo: Vec<VecDeque<Next>>,
    memories: Vec<Memory>,
    detection: [u32; 2],
    /// With its version. Version 0 is that of a record which nobody has written: it reads as none, and a write of that version
    /// succeeds as long as nobody has.
    record: (u32, Record),
    /// The first write does not look whether there was one before it.
    pub(super) blind: bool,
    pub(super) gauge: i64,
    /// Another module has set the gauge.
    pub(super) meddled: bool,
    /// In the end no VM looks at errors.
    pub(super) forgets: bool,
    successes: u64,
    pub(super) ejections: u32,
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
            interval: Millis(10),
            base_ejection: Millis(10),
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
        self.start(vm, Task::change(change, Instant(now)), now, None);
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
                        let bytes = record.to_bytes();
                        running
                            .task
                            .read(if version == NONE { &[] } else { &bytes });
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
/// That of no record.
const NONE: u32 = 0;

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
            Op::Forget => {
                if let Some(task) = Task::forget(self.gauge.cast_unsigned()) {
                    self.start(vm, task, NOW, None);
                }
            }
            Op::Meddle(gauge) => {
                self.gauge = gauge;
                self.meddled = true;
            }
            Op::DeclareDead(owner) => {
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
            let op = if self.forgets {
                Op::Forget
            } else {
                Op::Tick(6)
            };
            for vm in (0..2).cycle().take(100) {
                world.scripts[vm].push_back(op);
                while world.step(vm) {}
            }
            // Where errors eject nobody, a record that no gauge tells of is not looked for.
            let right = match self.forgets {
                true => 0,
                false => world.record.1.phase.shown(),
            };
            assert_eq!(world.gauge, right, "{self:?}");
            return;
        }
        assert_eq!(self.gauge, self.record.1.phase.shown(), "{self:?}");
        let left_by_the_dead = self.dead != 0 && self.is_probe(owner(self.dead as u32, 1));
        assert!(!left_by_the_dead, "{self:?}");
    }
}

pub(super) fn world(consecutive: u32, record: Record, scripts: &[&[Op]]) -> Errors {
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
        forgets: false,
        successes: 0,
        ejections: 0,
        probes: 0,
        dead: 0,
    }
}

impl Errors {
    /// The same without any record yet.
    pub(super) fn without_record(mut self) -> Errors {
        self.record.0 = NONE;
        self
    }
}
