//! The counts of home and of a peer, their shares, the marks, the index and the repair, as they ship: [`crate::recovery`], with [`crate::Admit`]. What
//! carries their steps out is in [`world`].

mod gauges;
mod op;
mod trace;
mod world;

use op::Op;
use trace::Trace;
use world::{Counts, LIMIT, SILENT, STALE, world};

use super::{World, explore};
use crate::recovery::mark;
use crate::recovery::roster::owner_of;

impl World for Counts {
    fn vms(&self) -> usize {
        self.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        Counts::step(self, vm)
    }

    fn always(&self) {
        // Where nobody alive was taken for dead, a count never says less than what is there.
        for (total, held) in self.totals() {
            if !self.wronged {
                assert!(total >= held && held <= LIMIT.into(), "{self:?}");
            }
        }
        assert!(!(self.late && self.wronged), "{self:?}");
    }

    fn finally(&self) {
        // The living tick on, in turns, until nothing can change any more.
        let mut world = self.clone();
        (world.late, world.trace) = (false, Trace::default());
        let mut rounds = 0;
        while rounds < 2 * (STALE + SILENT) + 2 || world.what_is_wrong().is_some() {
            rounds += 1;
            if rounds > MOST_ROUNDS {
                panic!(
                    "{}: {:?}\n{world:?}",
                    world.what_is_wrong().unwrap_or_default(),
                    self.trace
                );
            }
            for vm in 0..world.len() {
                if world.is_at_work(vm) {
                    world.begin(vm, Op::Tick);
                    while world.step(vm) {}
                }
            }
        }
    }
}

/// Turns of the living after which all is right: they clear their beats in every 25th tick.
const MOST_ROUNDS: u32 = 60;

impl Counts {
    /// What is not as it must be once nobody has anything to do.
    fn what_is_wrong(&self) -> Option<&'static str> {
        self.living().next()?;
        let slots = self.slots();
        for (n, (total, held)) in self.totals().into_iter().enumerate() {
            let sum: i64 = slots.iter().map(|(_, shares)| mark::low(shares[n])).sum();
            if total != held {
                return Some("a total is not what the living have");
            }
            if sum != total {
                return Some("a total is not the sum of its shares");
            }
        }
        let roster = self.roster();
        for one in self.living() {
            let Some(slot) = one.recovery.slot() else {
                return Some("a VM has no slot");
            };
            let (beat, shares) = slots[slot];
            if shares.map(u64::cast_signed) != one.requests() {
                return Some("a share is not what its VM has");
            }
            if mark::marks(beat) != 0 {
                return Some("a mark is left on a beat");
            }
        }
        let mut words = roster.owners().iter().map(|word| owner_of(*word).0);
        if !words.all(|owner| self.living().any(|one| one.recovery.vm() == owner)) {
            return Some("a slot is a dead VM's");
        }
        None
    }
}

use Op::*;

/// Home, which all VMs without a [`Join`] have used.
const A: usize = 0;
/// A peer, which is used by the VMs that have requests for it.
const B: usize = 1;

/// Explores scripts of VMs.
#[track_caller]
fn check(scripts: &[&[Op]]) {
    let (states, ends) = explore(world(scripts));
    assert!(ends > 0 && states > 100, "{states} states, {ends} ends");
}

#[test]
fn requests_and_deaths_of_three_vms_leave_the_count_right() {
    check(&[&[Request(A), Die], &[Request(A), Release(A)], &[Tick, Tick]]);
    check(&[&[Request(A), Die], &[Tick, Release(A)], &[Tick, Tick]]);
    check(&[&[Request(A), Die], &[Request(A), Die], &[Tick, Tick]]);
}

/// A worker whose event loop has not come back to its timers for a long time: its VM is never declared dead outside of a
/// callback, however many ticks the others have ([`Counts::never_of_one_outside`]).
#[test]
fn a_vm_that_works_without_ticks_is_alive() {
    check(&[&[Request(A), Release(A), Request(A)], &[Tick, Tick, Tick]]);
    check(&[&[Request(A), Release(A)], &[Tick, Tick], &[Request(A)]]);
}

#[test]
fn a_vm_that_was_declared_dead_counts_again_with_its_work_before_it_ticks() {
    check(&[
        &[Request(A), Work, Request(A), Release(A)],
        &[Tick, Tick, Tick],
    ]);
    check(&[&[Request(A), Work, Die], &[Tick, Tick], &[Request(A)]]);
}

#[test]
fn a_live_vm_that_is_taken_for_dead_counts_again_what_it_holds() {
    check(&[&[Request(A), Release(A), Tick], &[Tick, Tick, Tick]]);
    check(&[&[Request(A), Tick], &[Tick, Tick], &[Request(A)]]);
}

/// It notices nothing before it dies: what it did meanwhile is in a slot that is another's.
#[test]
fn a_vm_that_was_taken_for_dead_may_die_before_it_notices() {
    check(&[
        &[Request(A), Release(A), Request(A), Die],
        &[Tick, Tick, Tick],
    ]);
}

#[test]
fn a_vm_that_comes_after_a_dead_one_counts_for_itself() {
    check(&[
        &[Request(A), Die],
        &[Tick, Tick, Tick],
        &[Join, Request(A), Release(A)],
    ]);
}

#[test]
fn a_vm_that_took_a_dead_ones_slot_over_may_die_too() {
    check(&[&[Request(A), Die], &[Tick, Tick, Die], &[Request(A), Tick]]);
}

/// The others find its name in the index.
#[test]
fn a_count_that_only_a_dead_vm_had_is_repaired() {
    check(&[&[Request(B), Die], &[Request(A), Tick, Tick]]);
    check(&[&[Request(B), Die], &[Request(B), Tick, Tick]]);
    check(&[&[Request(B), Die], &[Tick, Die], &[Tick]]);
}

/// It may open another count and move it in a slot that is another's by then, and free.
#[test]
fn what_comes_late_into_a_slot_that_was_taken_over_is_taken_off() {
    check(&[
        &[Request(A), Request(B), Release(A), Die],
        &[Tick, Tick, Tick],
    ]);
    check(&[&[Request(B), Release(B), Tick], &[Tick, Tick, Tick, Tick]]);
}

#[test]
fn a_destination_that_is_configured_no_more_may_come_back() {
    check(&[
        &[Request(A), Release(A), Remove(A), Tick, Request(A), Die],
        &[Tick, Tick, Tick],
    ]);
}

/// Requests that find home full and go to the peer, whose limit holds as home's does.
#[test]
fn requests_that_are_offered_to_one_after_another_leave_both_counts_right() {
    check(&[&[Offer, Offer, Die], &[Offer, Tick, Tick]]);
    check(&[
        &[Offer, Offer, Offer, Release(A)],
        &[Offer, Offer, Release(B)],
    ]);
    check(&[
        &[Offer, Offer, Offer, Die],
        &[Tick, Offer, Release(B), Tick],
    ]);
}

#[test]
fn a_tick_that_comes_late_declares_nobody_dead() {
    let mut world = world(&[&[Request(A), Release(A)], &[LateTick; 3]]);
    world.late = true;
    let (states, _) = explore(world);
    assert!(states > 100);
}
