//! What a VM does, hostcall by hostcall.

use std::collections::VecDeque;

use super::super::World;
use crate::destination::{DestinationId, PeerId};
use crate::dispatch::{Fact, Step};
use crate::ejection::{self, Change, Ended, Memory, Phase, Record, Task, Verdict, owner};
use crate::response::BROKEN;
use crate::select::Candidate;
use crate::time::{Instant, Millis};
use crate::{Admission, Admit, Decision, Detection, Dispatch, Origin, Rule, admission};

/// Each has one place and is ejected by one error. The second is asked after the first.
const PEERS: &[Candidate] = &[
    Candidate {
        priority: 0,
        weight: 1,
        hash: 0,
        open: true,
        limit: Some(1),
        detects: true,
    },
    Candidate {
        priority: 1,
        weight: 1,
        hash: 1,
        open: true,
        limit: Some(1),
        detects: true,
    },
];

const RULE: Rule = Rule {
    limit: None,
    evacuate: true,
    peer_open: true,
    reject_when_full: false,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// A request at this time or later, and whether it can be rewritten for each peer.
    Request(u64, [bool; 2]),
    /// The oldest request is answered at this time or later, by a peer, so.
    Answer(u64, Ended),
}

/// A task about a peer, before its next hostcall, and the version of the record that it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Running {
    task: Task,
    step: ejection::Step,
    peer: usize,
    version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Begun {
    dispatch: Dispatch<'static>,
    fact: Fact,
    rewrite: [bool; 2],
    owner: u64,
    admit: Option<(Admit, Option<i64>, usize)>,
    held: Option<DestinationId>,
}

/// A request that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    held: Option<DestinationId>,
    /// It is the probe of this peer.
    probe: Option<usize>,
    owner: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vm {
    pub(super) script: VecDeque<Op>,
    pub(super) streams: u32,
    pub(super) begun: Option<Begun>,
    /// What is to be said of a peer, as a task.
    pub(super) running: Option<Running>,
    pub(super) in_flight: VecDeque<Sent>,
    pub(super) memories: [Memory; 2],
    pub(super) alive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peers {
    pub(super) vms: Vec<Vm>,
    /// The clock, which all VMs share.
    pub(super) now: u64,
    /// Of each peer, with its version.
    pub(super) records: [(u32, Record); 2],
    pub(super) gauges: [i64; 2],
    /// Of home and of each peer.
    pub(super) counts: [i64; 3],
    /// The VM that dies at any moment, and is found dead later.
    pub(super) dies: Option<usize>,
    /// The VM that was found dead, as its number in the roster.
    pub(super) found: u32,
}

fn detection() -> Detection {
    Detection {
        consecutive_5xx: 1,
        interval: Millis(10),
        base_ejection: Millis(10),
        max_percent: 100,
        ..Detection::default()
    }
}

impl Peers {
    fn call_task(&mut self, vm: usize, mut running: Running) {
        let peer = running.peer;
        let seen = match running.step {
            ejection::Step::Read => {
                let (version, record) = self.records[peer];
                running.version = version;
                running.task.read(&record.to_bytes());
                0
            }
            ejection::Step::Write => {
                let fresh = self.records[peer].0 == running.version;
                if fresh {
                    self.records[peer] = (running.version + 1, *running.task.record());
                }
                fresh.into()
            }
            ejection::Step::Again => {
                let fresh = self.records[peer].0 == running.version;
                self.records[peer].0 += u32::from(fresh);
                fresh.into()
            }
            ejection::Step::Move(by) => {
                self.gauges[peer] += by;
                0
            }
            ejection::Step::Dead(vm) => u64::from(vm == self.found),
            step => panic!("no hostcall: {step:?}"),
        };
        self.go_on_task(vm, running, seen);
    }

    /// Goes on with a task up to its next hostcall.
    fn go_on_task(&mut self, vm: usize, mut running: Running, mut seen: u64) {
        let one = &mut self.vms[vm];
        loop {
            let memory = &mut one.memories[running.peer];
            running.step = running.task.next(memory, &detection(), seen);
            match running.step {
                ejection::Step::Clock => seen = self.now,
                ejection::Step::Done(verdict) => {
                    // All draws are the same, or there were too many states.
                    memory.draw = 0;
                    one.running = None;
                    if let Some(begun) = &mut one.begun {
                        begun.fact = Fact::Verdict(verdict);
                    }
                    return;
                }
                _ => break,
            }
        }
        one.running = Some(running);
    }

    fn start(&mut self, vm: usize, peer: usize, task: Task) {
        let running = Running {
            task,
            step: ejection::Step::Read,
            peer,
            version: 0,
        };
        self.go_on_task(vm, running, 0);
    }

    /// Goes on with a request up to its next hostcall, and makes it.
    fn go_on(&mut self, vm: usize) {
        loop {
            if let Some(running) = self.vms[vm].running {
                return self.call_task(vm, running);
            }
            let Some(begun) = &mut self.vms[vm].begun else {
                return;
            };
            if let Some((mut admit, seen, at)) = begun.admit {
                let add = match admit.step(seen) {
                    admission::Step::Add(n) => n,
                    admission::Step::Read => 0,
                    admission::Step::Done(admission) => {
                        begun.admit = None;
                        begun.fact = Fact::Admission(admission);
                        if admission == Admission::Admitted {
                            begun.held = Some(DestinationId::peer(at as u8 - 1));
                        }
                        continue;
                    }
                };
                self.counts[at] += add;
                begun.admit = Some((admit, Some(self.counts[at]), at));
                return;
            }
            let step = begun.dispatch.next(begun.fact);
            begun.fact = Fact::Yes;
            match step {
                Step::PeerHealth(peer) => {
                    let (peer, owner) = (peer.index(), begun.owner);
                    let gauge = self.gauges[peer].cast_unsigned();
                    begun.fact = Fact::Verdict(Verdict::Home);
                    if let Some(task) = Task::check(gauge, owner, true) {
                        self.start(vm, peer, task);
                    }
                    // It has read the gauge.
                    return;
                }
                Step::PeerRoom(peer, limit) => {
                    begun.admit = Some((Admit::new(limit, true), Some(0), peer.index() + 1));
                }
                Step::LetGo(peer) => {
                    let change = Change::Ended(begun.owner, Ended::Nothing);
                    let now = Instant(self.now);
                    self.start(vm, peer.index(), Task::change(change, now));
                }
                Step::TakeBack(peer) => {
                    self.counts[peer.index() + 1] -= 1;
                    begun.held = None;
                    return;
                }
                Step::Count(at) => {
                    self.counts[at.index()] += 1;
                    begun.held = Some(at);
                    return;
                }
                Step::Rewrite(peer) => begun.fact = begun.rewrite[peer.index()].into(),
                Step::MaySpill | Step::Way(..) | Step::Declined(..) | Step::Hold(_) => {}
                Step::Done(decision) => return self.sent(vm, decision),
                step => panic!("not here: {step:?}"),
            }
        }
    }

    fn sent(&mut self, vm: usize, decision: Decision) {
        let Some(begun) = self.vms[vm].begun.take() else {
            return;
        };
        let probe = begun.dispatch.probe().map(|at| at.index() - 1);
        let to = decision.to().map(DestinationId::index);
        assert!(
            probe.is_none() || probe.map(|peer| peer + 1) == to,
            "{self:?}"
        );
        self.vms[vm].in_flight.push_back(Sent {
            held: begun.held,
            probe,
            owner: begun.owner,
        });
    }

    fn answer(&mut self, vm: usize, now: u64, how: Ended) {
        self.now = self.now.max(now);
        let Some(sent) = self.vms[vm].in_flight.pop_front() else {
            return;
        };
        let at = sent.held.map_or(0, DestinationId::index);
        self.counts[at] -= i64::from(sent.held.is_some());
        let change = match (sent.probe, how) {
            (Some(_), how) => Change::Ended(sent.owner, how),
            (None, Ended::Failed) => Change::Failed {
                failure: BROKEN,
                successes: 0,
                enough: true,
            },
            (None, _) => return,
        };
        if let Some(peer) = sent.probe.or(at.checked_sub(1)) {
            self.start(vm, peer, Task::change(change, Instant(self.now)));
        }
    }

    /// What a VM has in a count.
    fn has(vm: &Vm, at: usize) -> i64 {
        let is = |held: Option<DestinationId>| held.is_some_and(|held| held.index() == at);
        let sent = vm.in_flight.iter().filter(|sent| is(sent.held)).count() as i64;
        let begun = vm.begun.as_ref().map_or(0, |begun| {
            let asks = match begun.admit {
                Some((admit, _, asked)) if asked == at => admit.holds(),
                _ => false,
            };
            i64::from(is(begun.held)) + i64::from(asks)
        });
        sent + begun
    }

    /// The probes of a peer that are on their way, or are to be.
    fn probes(&self, peer: usize) -> usize {
        let of = |vm: &Vm| {
            let sent = vm.in_flight.iter().filter(|sent| sent.probe == Some(peer));
            let begun = vm.begun.as_ref().and_then(|begun| begun.dispatch.probe());
            sent.count() + usize::from(begun == Some(PeerId::new(peer as u8).into()))
        };
        self.vms.iter().map(of).sum()
    }

    /// The VM that dies does so, and later is found dead and what it counted is taken off.
    fn die(&mut self, vm: usize) {
        if self.vms[vm].alive {
            self.vms[vm].alive = false;
            return;
        }
        for at in 0..self.counts.len() {
            self.counts[at] -= Self::has(&self.vms[vm], at);
        }
        let one = &mut self.vms[vm];
        (one.begun, one.running) = (None, None);
        one.in_flight.clear();
        self.found = vm as u32 + 1;
        self.dies = None;
    }
}

impl World for Peers {
    /// And the one death.
    fn vms(&self) -> usize {
        self.vms.len() + 1
    }

    fn step(&mut self, vm: usize) -> bool {
        if vm == self.vms.len() {
            let dies = self.dies;
            dies.inspect(|vm| self.die(*vm));
            return dies.is_some();
        }
        let one = &mut self.vms[vm];
        if !one.alive {
            return false;
        }
        if one.running.is_some() || one.begun.is_some() {
            self.go_on(vm);
            return true;
        }
        match one.script.pop_front() {
            Some(Op::Request(now, rewrite)) => {
                self.now = self.now.max(now);
                one.streams += 1;
                one.begun = Some(Begun {
                    dispatch: Dispatch::new(RULE, PEERS, None, Origin::Own, true),
                    fact: Fact::Yes,
                    rewrite,
                    owner: owner(vm as u32 + 1, one.streams),
                    admit: None,
                    held: None,
                });
            }
            Some(Op::Answer(now, how)) => self.answer(vm, now, how),
            None => return false,
        }
        true
    }

    fn always(&self) {
        for at in 0..self.counts.len() {
            let has: i64 = self.vms.iter().map(|vm| Self::has(vm, at)).sum();
            assert_eq!(self.counts[at], has, "at {at}: {self:?}");
        }
        for peer in 0..PEERS.len() {
            assert!(self.probes(peer) <= 1, "{peer}: {self:?}");
        }
    }

    fn finally(&self) {
        let mut world = self.clone();
        // The living answer what they have, and tick, until nothing is to be done.
        for vm in (0..world.vms.len()).filter(|vm| self.vms[*vm].alive) {
            while !world.vms[vm].in_flight.is_empty() {
                world.answer(vm, 200, Ended::Nothing);
                while world.step(vm) {}
            }
        }
        // A VM may have died between the record and its gauge, which is mended after so many turns.
        for now in (300..1300).step_by(20) {
            for vm in (0..world.vms.len()).filter(|vm| self.vms[*vm].alive) {
                for peer in 0..PEERS.len() {
                    world.now = now;
                    let gauge = world.gauges[peer].cast_unsigned();
                    world.start(vm, peer, Task::tick(gauge, vm as u32 + 1));
                    while world.step(vm) {}
                }
            }
        }
        assert_eq!(world.counts, [0; 3], "{self:?}");
        for (peer, (_, record)) in world.records.iter().enumerate() {
            assert_eq!(world.gauges[peer], record.phase.shown(), "{self:?}");
            let stuck = matches!(record.phase, Phase::Probing { .. } | Phase::Ramp(_));
            assert!(!stuck, "{peer}: {record:?} {self:?}");
        }
    }
}
