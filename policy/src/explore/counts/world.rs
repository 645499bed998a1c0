//! The host of a few VMs, and what the filter does in their callbacks: it carries out the steps of the shipped machines.

mod look;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::gauges::{COUNTS, GAUGES, PROCESS, SLOTS, total_name};
use super::op::{Do, Op};
use super::trace::Trace;
use crate::recovery::callback::Callback;
use crate::recovery::mark::{self, Add, Gauge};
use crate::recovery::roster::{Liveness, Roster, Vm};
use crate::recovery::shared_count::{Change, Next, SharedCount};
use crate::recovery::{self, Fact, INDEX, ROSTER, Recovery, Step};
use crate::{Admission, Admit};

pub(super) const LIMIT: u32 = 2;
/// Ticks after which a VM inside a callback is taken for dead here: the fewest, so that live ones are too.
pub(super) const STALE: u32 = 1;
/// So many more if it is outside: more than a script has, so that this happens at the end alone.
pub(super) const SILENT: u32 = 4;
const ROOT: u32 = 1;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct One {
    pub(super) script: Vec<Op>,
    /// The last is next.
    todo: Vec<Do>,
    pub(super) alive: bool,
    /// The requests that it has in flight.
    requests: [i64; 2],
    pub(super) recovery: Recovery,
    callback: Callback,
    /// The counts of home and of the peer.
    counts: [Option<Rc<SharedCount>>; COUNTS],
    value: Option<u64>,
    bytes: Vec<u8>,
    clock: u64,
}

impl Clone for One {
    /// A copy that shares nothing with this one.
    fn clone(&self) -> One {
        let recovery = self.recovery.clone();
        let count = |n: usize| recovery.count(&total_name(n));
        let counts = [0, 1].map(|n| self.counts[n].as_ref().and_then(|_| count(n)));
        One {
            script: self.script.clone(),
            todo: self.todo.clone(),
            callback: self.callback.clone(),
            bytes: self.bytes.clone(),
            recovery,
            counts,
            alive: self.alive,
            requests: self.requests,
            value: self.value,
            clock: self.clock,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Counts {
    vms: Vec<Rc<One>>,
    /// Their hashes: a step changes one VM.
    hashes: Vec<u64>,
    /// By VM: those that were inside a callback since its last one began.
    inside: Vec<u8>,
    gauges: Vec<u64>,
    /// The roster and the index, each with the number of its last write.
    shared: [(Vec<u8>, u32); 2],
    /// A live VM was taken for dead at some time.
    pub(super) wronged: bool,
    /// All ticks come late.
    pub(super) late: bool,
    pub(super) trace: Trace,
}

impl Hash for Counts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.hashes, &self.inside, &self.gauges).hash(state);
        (&self.shared, self.wronged).hash(state);
    }
}

/// VMs with these scripts. Those that do not begin with [`Op::Join`] have a slot, and home's count, already.
pub(super) fn world(scripts: &[&[Op]]) -> Counts {
    let vms = scripts.iter().map(|script| {
        let mut recovery = Recovery::of(Liveness::new(STALE, 1, SILENT));
        recovery.root_begins();
        Rc::new(One {
            script: script.iter().rev().copied().collect(),
            todo: Vec::new(),
            alive: true,
            requests: [0; 2],
            recovery,
            callback: Callback::new(),
            counts: [None, None],
            value: None,
            bytes: Vec::new(),
            clock: 0,
        })
    });
    let roster = recovery::first_roster(PROCESS << 24);
    let mut world = Counts {
        vms: vms.collect(),
        hashes: vec![0; scripts.len()],
        inside: vec![0; scripts.len()],
        gauges: vec![0; GAUGES.len()],
        shared: [(roster, 1), (recovery::first_index(), 2)],
        wronged: false,
        late: false,
        trace: Trace::default(),
    };
    for (vm, script) in scripts.iter().enumerate() {
        if script.first() != Some(&Op::Join) {
            let first_use = [Do::End, Do::Use(0), Do::Run(recovery::Op::Settle)];
            world.one(vm).todo.extend(first_use);
            while world.call(vm) {}
        }
    }
    world
}

impl Counts {
    fn one(&mut self, vm: usize) -> &mut One {
        Rc::make_mut(&mut self.vms[vm])
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &One> {
        self.vms.iter().map(Rc::as_ref).filter(|one| one.alive)
    }

    /// Makes the next hostcall of a VM that others can see; false if there is none, in which case its callback has ended.
    fn call(&mut self, vm: usize) -> bool {
        while let Some(next) = self.one(vm).todo.pop() {
            if self.carry_out(vm, next) {
                return true;
            }
        }
        false
    }

    /// Makes the next hostcall of a VM that others can see; false if it has nothing to do any more.
    pub(super) fn step(&mut self, vm: usize) -> bool {
        while self.vms[vm].alive {
            if self.call(vm) {
                self.inside.iter_mut().for_each(|inside| *inside |= 1 << vm);
                break;
            }
            let Some(op) = self.one(vm).script.pop() else {
                return false;
            };
            self.begin(vm, op);
        }
        let mut hasher = DefaultHasher::new();
        self.vms[vm].hash(&mut hasher);
        let hash = hasher.finish();
        hash != std::mem::replace(&mut self.hashes[vm], hash)
    }

    /// What the filter does in the callback, the last first.
    pub(super) fn begin(&mut self, vm: usize, op: Op) {
        let busy = |(n, one): (usize, &Rc<One>)| u8::from(!one.todo.is_empty()) << n;
        self.inside[vm] = self.vms.iter().enumerate().map(busy).sum();
        let one = self.one(vm);
        match op {
            Op::Join => one.todo.extend([Do::End, Do::Run(recovery::Op::Settle)]),
            Op::Request(n) => {
                let admit = Do::Admit(n, Admit::new(LIMIT, false), 0);
                one.todo.extend([Do::End, admit]);
                if one.counts[n].is_none() {
                    one.todo.push(Do::Use(n));
                }
                one.todo.push(Do::Begin);
                if one.callback.is_first_stream() {
                    one.todo.push(Do::Run(recovery::Op::Settle));
                }
            }
            Op::Offer => {
                let admit = Do::Admit(0, Admit::new(LIMIT, false), 0);
                one.todo.extend([Do::End, Do::Offer(1), admit, Do::Begin]);
                if one.callback.is_first_stream() {
                    one.todo.push(Do::Run(recovery::Op::Settle));
                }
            }
            Op::Release(n) if one.requests[n] > 0 => {
                one.requests[n] -= 1;
                let change = Do::Change(n, Change::release(1, true));
                one.value = Some(0);
                one.todo.extend([Do::End, change, Do::Begin]);
            }
            Op::Release(_) => {}
            Op::Remove(n) => one.counts[n] = None,
            Op::Tick | Op::LateTick => {
                one.clock += if op == Op::LateTick { 1000 } else { 0 };
                let tick = Do::Run(recovery::Op::Tick(ROOT));
                let begins = Do::Run(recovery::Op::TickBegins);
                one.todo.extend([Do::End, tick, begins]);
            }
            Op::Work => one.todo.extend([Do::End, Do::Run(recovery::Op::Work)]),
            Op::Die => one.todo.extend([Do::Dead, Do::Begin]),
        }
    }

    /// Adds to a gauge, and lets `then` know.
    fn add(&mut self, vm: usize, (gauge, n): Add, then: Option<Do>) -> bool {
        self.trace(vm, Step::Add(gauge, n));
        let gauge = &mut self.gauges[gauge as usize];
        *gauge = gauge.wrapping_add_signed(n);
        let one = self.one(vm);
        one.value = Some(0);
        one.todo.extend(then);
        true
    }

    /// Carries out what is next; false if that took no hostcall that others can see.
    fn carry_out(&mut self, vm: usize, next: Do) -> bool {
        let one = Rc::make_mut(&mut self.vms[vm]);
        match next {
            Do::Begin => {
                assert!(!one.callback.begins(), "a script has few callbacks");
                let add = one.callback.enter();
                return add.is_some_and(|add| self.add(vm, add, Some(Do::Entered)));
            }
            Do::Entered => one.callback.entered(one.value.is_some()),
            Do::End => {
                let add = one.callback.leave();
                return add.is_some_and(|add| self.add(vm, add, Some(Do::Left(add.0))));
            }
            Do::Left(gauge) => one.callback.left(gauge, one.value.is_some()),
            Do::Run(op) => {
                one.recovery.begin(op);
                one.todo.push(Do::Steps);
            }
            Do::Use(n) => {
                one.todo.push(Do::Used(n));
                let name = total_name(n);
                if one.recovery.count(&name).is_none() {
                    assert!(one.recovery.begin_count(name, n as Gauge));
                    one.todo.push(Do::Steps);
                }
            }
            Do::Used(n) => one.counts[n] = one.recovery.count(&total_name(n)),
            Do::Steps => return self.carry_out_step(vm),
            Do::Admit(n, mut admit, seen) => match admit.step(Some(seen)) {
                crate::Step::Read => return self.read_total(vm, n, admit, true),
                crate::Step::Add(by) => {
                    return self.add(vm, (n as Gauge, by), Some(Do::Admit(n, admit, 0)));
                }
                crate::Step::Done(Admission::Admitted) => {
                    one.requests[n] += 1;
                    one.value = Some(0);
                    // It is offered to no other.
                    one.todo.pop_if(|next| matches!(next, Do::Offer(_)));
                    one.todo.push(Do::Change(n, Change::hold(true)));
                }
                crate::Step::Done(_) => {}
            },
            Do::Offer(n) => {
                one.todo.push(Do::Admit(n, Admit::new(LIMIT, false), 0));
                if one.counts[n].is_none() {
                    one.todo.push(Do::Use(n));
                }
            }
            Do::Again(n, admit) => return self.read_total(vm, n, admit, false),
            Do::Change(n, mut change) => {
                let count = one.counts[n].as_ref().expect("it is used");
                match change.step(count, &one.callback, one.value.is_some()) {
                    Next::Add(add) => return self.add(vm, add, Some(Do::Change(n, change))),
                    Next::Settle => {
                        let settle = Do::Run(recovery::Op::Settle);
                        one.todo.extend([Do::Change(n, change), settle]);
                    }
                    Next::Done(_) => {}
                }
            }
            Do::Dead => {
                one.alive = false;
                one.script.clear();
                one.todo.clear();
                return true;
            }
        }
        false
    }

    fn trace(&mut self, vm: usize, step: Step) {
        self.trace.then(vm, step);
    }

    fn read_total(&mut self, vm: usize, n: usize, admit: Admit, first: bool) -> bool {
        self.trace(vm, Step::Read(n as Gauge));
        let total = mark::low(self.gauges[n]);
        let one = Rc::make_mut(&mut self.vms[vm]);
        let missed = one.counts[n].as_ref().is_some_and(|c| c.is_missed(total));
        if first && missed {
            let check = Do::Run(recovery::Op::CheckPlace);
            one.todo.extend([Do::Again(n, admit), check]);
        } else {
            one.todo.push(Do::Admit(n, admit, total));
        }
        true
    }

    fn carry_out_step(&mut self, vm: usize) -> bool {
        let one = Rc::make_mut(&mut self.vms[vm]);
        let bytes = std::mem::take(&mut one.bytes);
        let value = one.value.take();
        let step = one.recovery.step(&one.callback, Fact { value, bytes });
        if step != Step::Done {
            one.todo.push(Do::Steps);
            self.trace(vm, step.clone());
        }
        let one = Rc::make_mut(&mut self.vms[vm]);
        match step {
            Step::Define(name) => {
                let gauge = GAUGES.iter().position(|known| *known == name);
                one.value = Some(gauge.expect("it is known") as u64);
            }
            Step::Read(gauge) => {
                one.value = Some(self.gauges[gauge as usize]);
                return true;
            }
            Step::Add(gauge, n) => {
                let gauge = &mut self.gauges[gauge as usize];
                *gauge = gauge.wrapping_add_signed(n);
                one.value = Some(0);
                return true;
            }
            Step::Recall(key) => {
                let (bytes, number) = &self.shared[usize::from(key != ROSTER)];
                one.bytes.clone_from(bytes);
                one.value = Some((*number).into());
                if let Some(owner) = one.recovery.declares_dead() {
                    self.never_of_one_outside(vm, owner);
                }
                return true;
            }
            Step::Write(key, bytes, number) => {
                assert!(key == ROSTER || key == INDEX);
                let (now, its) = &mut self.shared[usize::from(key != ROSTER)];
                if number == Some(*its) {
                    one.value = Some(0);
                    *now = bytes;
                    *its += 2;
                    self.note_wronged();
                }
                return true;
            }
            Step::Clock => one.value = Some(one.clock),
            Step::Tell(_) | Step::Done => {}
        }
        false
    }

    fn note_wronged(&mut self) {
        let roster = self.roster();
        let wronged = self.living().any(|one| roster.lost(one.recovery.vm()));
        self.wronged |= wronged;
    }

    /// **Invariant: a VM that was outside of a callback for a whole tick is not declared dead in it**, but for one that was
    /// wronged before: its marks may be in a slot that another has by now.
    fn never_of_one_outside(&self, vm: usize, owner: Vm) {
        let mut vms = self.vms.iter().enumerate();
        if let Some((n, _)) = vms.find(|(_, one)| one.alive && one.recovery.vm() == owner) {
            let inside = self.inside[vm] & 1 << n != 0;
            assert!(inside || self.wronged, "{self:?}");
        }
    }
}
