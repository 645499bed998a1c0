//! One count of one service, its shares, the marks and the repair: `src/shell/service.rs` (`admit`), `src/shell/callback.rs`
//! and `src/shell/worker.rs`. What a VM does is in [`model`].

mod model;

use model::{Counts, LIMIT, Op, SILENT, SLOTS, STALE, world};

use super::{World, explore};
use crate::recovery::mark;
use crate::recovery::roster::owner_of;

impl World for Counts {
    fn vms(&self) -> usize {
        self.vms.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        if !self.vms[vm].alive {
            return false;
        }
        while let Some(next) = self.vms[vm].todo.pop_front() {
            if self.call(vm, next) {
                return true;
            }
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
        for _ in 0..2 * (STALE + SILENT) + 6 {
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
        let (shares, beats) = world.gauges.split_at(SLOTS);
        let sum: i64 = shares.iter().copied().map(mark::low).sum();
        assert_eq!(sum, world.total, "{self:?}\n{world:?}");
        for one in world.vms.iter().filter(|one| one.alive) {
            let (_, slot) = one.place.expect("it joined");
            // Of marks too there is nothing left.
            assert_eq!(shares[slot].cast_signed(), one.own, "{self:?}\n{world:?}");
            assert_eq!(mark::marks(beats[slot]), 0, "{self:?}\n{world:?}");
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

/// A worker whose event loop has not come back to its timers for a long time: its VM is never declared dead outside of a
/// callback, however many ticks the others have ([`Counts::never_of_one_outside`]).
#[test]
fn a_vm_that_works_without_ticks_is_alive() {
    check(&[&[Request, Release, Request], &[Tick, Tick, Tick]]);
    check(&[&[Request, Release], &[Tick, Tick], &[Request]]);
}

#[test]
fn a_vm_that_was_declared_dead_counts_again_with_its_work_before_it_ticks() {
    check(&[&[Request, Work, Request, Release], &[Tick, Tick, Tick]]);
    check(&[&[Request, Work, Die], &[Tick, Tick], &[Request]]);
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
fn a_vm_that_took_a_dead_ones_slot_over_may_die_too() {
    check(&[&[Request, Die], &[Tick, Tick, Die], &[Request, Tick]]);
}
