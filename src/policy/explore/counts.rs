//! One count of one service, its shares, and the repair: `src/shell/service.rs` (`admit`) and `src/shell/worker.rs`.

use std::collections::VecDeque;

use super::{World, explore};
use crate::policy::roster::{Roster, Vm, Watch, owner_of};
use crate::policy::{Admission, Admit, Step};

const LIMIT: u32 = 2;
/// Ticks after which a VM is taken for dead here: the fewest, so that live ones are too.
const STALE: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// Takes a slot of the roster, as a VM that was just made does.
    Join,
    /// Asks for a slot of the limit, and keeps it if it gets one.
    Request,
    /// Ends one of its requests, if it has any.
    Release,
    Tick,
    /// Traps: it is never called again.
    Die,
}

/// The next hostcall of an operation that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Next {
    Admit(Admit, i64),
    /// The share is to follow the total.
    Share(i64),
    ReleaseShare,
    Read(What),
    /// Write the roster, if it is still of this version.
    Write(What, u32, Roster),
    Beat,
    LookAt(usize, u32),
    ReadShare(usize),
    MoveShare(usize, i64),
    MoveTotal(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Join(Option<usize>),
    Keep,
    Take(usize, u32),
    Free(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct One {
    script: VecDeque<Op>,
    todo: VecDeque<Next>,
    alive: bool,
    place: Option<(Vm, usize)>,
    own: i64,
    inherited: Vec<(usize, bool)>,
    watch: Watch,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counts {
    vms: Vec<One>,
    total: i64,
    shares: Vec<i64>,
    beats: Vec<u64>,
    roster: (u32, Roster),
    /// A live VM was taken for dead at some time.
    wronged: bool,
}

fn world(scripts: &[&[Op]]) -> Counts {
    let vms = scripts.iter().map(|script| One {
        script: script.iter().copied().collect(),
        todo: VecDeque::new(),
        alive: true,
        place: None,
        own: 0,
        inherited: Vec::new(),
        watch: Watch::new(STALE),
    });
    Counts {
        vms: vms.collect(),
        total: 0,
        shares: vec![0; 8],
        beats: vec![0; 8],
        roster: (0, Roster::new(0)),
        wronged: false,
    }
}

impl Counts {
    /// The hostcalls that an operation begins with.
    fn begin(&mut self, vm: usize, op: Op) {
        let one = &mut self.vms[vm];
        match op {
            Op::Join => one.todo.push_back(Next::Read(What::Join(None))),
            Op::Request => one.todo.push_back(Next::Admit(Admit::new(LIMIT, false), 0)),
            Op::Release if one.own > 0 => {
                one.own -= 1;
                self.total -= 1;
                one.todo.push_back(Next::ReleaseShare);
            }
            Op::Release => {}
            Op::Tick => one.todo.push_back(Next::Beat),
            Op::Die => {
                one.alive = false;
                one.script.clear();
            }
        }
    }

    fn call(&mut self, vm: usize, next: Next) {
        let one = &mut self.vms[vm];
        let slot = one.place.map(|(_, slot)| slot);
        match next {
            Next::Admit(mut admit, seen) => match admit.step(seen) {
                Step::Read => one.todo.push_front(Next::Admit(admit, self.total)),
                Step::Add(n) => {
                    self.total += n;
                    one.todo.push_front(Next::Admit(admit, 0));
                }
                Step::Done(Admission::Admitted) => {
                    one.own += 1;
                    one.todo.push_front(Next::Share(1));
                }
                Step::Done(_) => {}
            },
            Next::Share(n) => slot.into_iter().for_each(|slot| self.shares[slot] += n),
            Next::ReleaseShare => slot.into_iter().for_each(|slot| self.shares[slot] -= 1),
            Next::Beat => {
                slot.into_iter().for_each(|slot| self.beats[slot] += 1);
                one.todo.push_back(Next::Read(What::Keep));
            }
            Next::Read(what) => self.read(vm, what),
            Next::Write(what, version, roster) => {
                if self.roster.0 == version {
                    self.roster = (version + 1, roster);
                    self.written(vm, what);
                } else {
                    one.todo.push_front(Next::Read(what));
                }
            }
            Next::LookAt(slot, owner) => {
                if one.watch.dead(slot, owner, self.beats[slot]) {
                    one.todo.push_front(Next::Read(What::Take(slot, owner)));
                }
            }
            Next::ReadShare(slot) => {
                let held = if one.place.is_some_and(|(_, own)| own == slot) {
                    one.own
                } else {
                    0
                };
                let by = held - self.shares[slot];
                if by != 0 {
                    one.todo.push_front(Next::MoveTotal(by));
                    one.todo.push_front(Next::MoveShare(slot, by));
                } else if one.inherited.contains(&(slot, false)) {
                    one.todo.push_front(Next::Read(What::Free(slot)));
                }
            }
            Next::MoveShare(slot, by) => self.shares[slot] += by,
            Next::MoveTotal(by) => self.total += by,
        }
    }

    fn read(&mut self, vm: usize, what: What) {
        let (version, roster) = self.roster.clone();
        let one = &mut self.vms[vm];
        let me = one.place.map_or(0, |(vm, _)| vm);
        let written = match what {
            What::Join(wanted) => roster.join(wanted).map(|(roster, ..)| roster),
            What::Take(slot, word) => roster.take(slot, word, me),
            What::Free(slot) => roster.free(slot, me),
            What::Keep => {
                let Some((_, slot)) = one.place else { return };
                if roster.owners().get(slot) != Some(&me) {
                    one.inherited.clear();
                    one.todo.push_back(Next::Read(What::Join(Some(slot))));
                    return;
                }
                one.inherited
                    .retain(|(slot, _)| owner_of(roster.owners()[*slot]).0 == me);
                for (slot, _) in &one.inherited {
                    one.todo.push_back(Next::ReadShare(*slot));
                }
                for (other, word) in roster.owners().iter().copied().enumerate() {
                    let (owner, free) = owner_of(word);
                    if owner == me {
                    } else if !free {
                        one.todo.push_back(Next::LookAt(other, word));
                    } else if !roster.has(owner) {
                        one.todo.push_back(Next::Read(What::Take(other, word)));
                    }
                }
                one.todo.push_back(Next::ReadShare(slot));
                return;
            }
        };
        // Otherwise another was faster.
        if let Some(roster) = written {
            one.todo.push_front(Next::Write(what, version, roster));
        }
    }

    fn written(&mut self, vm: usize, what: What) {
        match what {
            What::Join(_) => {
                let owners = self.roster.1.owners();
                let taken = owners.iter().copied().filter(|word| !owner_of(*word).1);
                let last = taken.max().unwrap_or(0);
                let slot = owners.iter().position(|word| *word == last).unwrap_or(0);
                let one = &mut self.vms[vm];
                one.place = Some((last, slot));
                // Whatever was to be done with the place before is done with this one.
                one.todo.retain(|next| !matches!(next, Next::ReadShare(_)));
                one.todo.push_front(Next::ReadShare(slot));
            }
            What::Take(slot, owner) => {
                let live = |one: &One| one.alive && one.place == Some((owner, slot));
                self.wronged |= self.vms.iter().any(live);
                self.vms[vm].inherited.push((slot, false));
                self.vms[vm].todo.push_front(Next::ReadShare(slot));
            }
            What::Free(slot) => {
                let inherited = self.vms[vm].inherited.iter_mut();
                inherited
                    .filter(|(other, _)| *other == slot)
                    .for_each(|(_, free)| *free = true);
            }
            What::Keep => {}
        }
    }

    fn held_by_the_living(&self) -> i64 {
        let living = self.vms.iter().filter(|one| one.alive);
        living.map(|one| one.own).sum()
    }
}

impl World for Counts {
    fn vms(&self) -> usize {
        self.vms.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        if !self.vms[vm].alive {
            return false;
        }
        if let Some(next) = self.vms[vm].todo.pop_front() {
            self.call(vm, next);
            return true;
        }
        let Some(op) = self.vms[vm].script.pop_front() else {
            return false;
        };
        self.begin(vm, op);
        true
    }

    fn always(&self) {
        // Where nobody alive was taken for dead, the count never says less than what is there.
        if !self.wronged {
            assert!(self.total >= self.held_by_the_living(), "{self:?}");
            assert!(self.held_by_the_living() <= LIMIT.into(), "{self:?}");
        }
    }

    fn finally(&self) {
        // The living tick on, in turns, until nothing can change any more.
        let mut world = self.clone();
        for _ in 0..2 * STALE + 6 {
            for vm in 0..world.vms.len() {
                if world.vms[vm].alive && world.vms[vm].place.is_some() {
                    world.vms[vm].script.push_back(Op::Tick);
                    while world.step(vm) {}
                }
            }
        }
        if world.vms.iter().all(|one| !one.alive) {
            return;
        }
        assert_eq!(
            world.total,
            world.held_by_the_living(),
            "{self:?}\n{world:?}"
        );
        assert_eq!(
            world.shares.iter().sum::<i64>(),
            world.total,
            "{self:?}\n{world:?}"
        );
        for one in world.vms.iter().filter(|one| one.alive) {
            let (_, slot) = one.place.expect("it joined");
            assert_eq!(world.shares[slot], one.own, "{self:?}\n{world:?}");
        }
        // No slot is a dead VM's.
        for word in world.roster.1.owners() {
            let (owner, _) = owner_of(*word);
            let living = world.vms.iter().filter(|one| one.alive);
            let mut places = living.filter_map(|one| one.place);
            assert!(places.any(|(vm, _)| vm == owner), "{self:?}\n{world:?}");
        }
    }
}

use Op::*;

/// Explores scripts of VMs. Those that do not begin with a [`Join`] have a slot already.
#[track_caller]
fn check(scripts: &[&[Op]]) {
    let mut world = world(scripts);
    for (vm, script) in scripts.iter().enumerate() {
        if script.first() != Some(&Join) {
            world.begin(vm, Join);
            while let Some(next) = world.vms[vm].todo.pop_front() {
                world.call(vm, next);
            }
        }
    }
    let (states, ends) = explore(world);
    assert!(ends > 0 && states > 100, "{states} states, {ends} ends");
}

#[test]
fn requests_and_deaths_of_three_vms_leave_the_count_right() {
    check(&[&[Request, Die], &[Request, Tick, Release], &[Tick, Tick]]);
    check(&[&[Request, Die], &[Request, Die], &[Tick, Tick]]);
}

#[test]
fn a_live_vm_that_is_taken_for_dead_counts_again_what_it_holds() {
    check(&[&[Request, Release, Tick], &[Tick, Tick, Tick]]);
    check(&[&[Request, Tick], &[Tick, Tick], &[Request, Tick]]);
}

/// It notices nothing before it dies: what it did meanwhile is in a slot that is another's.
#[test]
fn a_vm_that_was_taken_for_dead_may_die_before_it_notices() {
    check(&[&[Request, Release, Request, Die], &[Tick, Tick, Tick]]);
}

#[test]
fn a_vm_that_comes_after_a_dead_one_counts_for_itself() {
    check(&[
        &[Request, Die],
        &[Tick, Tick, Tick],
        &[Join, Request, Release],
    ]);
}

#[test]
fn an_undertaker_may_die_too() {
    check(&[&[Request, Die], &[Tick, Tick, Die], &[Request, Tick]]);
}
