//! What a VM does in a tick, and what it sees of the other VMs: which of them are dead, and what they have left.

use core::mem;

use super::mark;
use super::place::Want;
use super::roster::{IN_TIME, Vm, owner_of};
use super::task::Task;
use super::{News, Recovery, Step, Taken};
use crate::time::Instant;

/// What was seen of one other VM. It beats in one of its slots and marks itself as inside there. The others do not know which
/// slot that is, so they look at all of them.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Look {
    /// The VM. It is 0 if the VM ended in order and has no beat any more.
    pub(super) owner: Vm,
    slots: Vec<usize>,
    /// The sum of the beats in its slots.
    beat: u64,
    inside: bool,
    /// The number of VMs that had joined before it beat last.
    before: Vm,
}

impl Recovery {
    /// Notes when this tick came, and puts into the index what could not be put there before.
    pub(super) fn timed(&mut self, now: Instant) {
        self.in_time = now.since(mem::replace(&mut self.ticked, now)) <= IN_TIME;
        if mem::take(&mut self.unlisted) {
            self.then(&[Task::List(0)]);
        }
    }

    /// What a tick does with the roster as it is now.
    pub(super) fn round(&mut self) {
        if self.roster.is_some() {
            self.then(&[
                Task::KeepPlace,
                Task::Observe(0),
                Task::KnowIndex,
                Task::Drain(0),
                Task::Mend(0),
            ]);
        }
    }

    /// Looks for dead VMs and takes their slots over. A tick that did not come in time says nothing about others.
    #[inline(never)]
    pub(super) fn observe(&mut self, slot: usize) {
        let (Some(roster), Some(place)) = (&self.roster, self.place) else {
            return;
        };
        let Some(word) = roster.owners().get(slot) else {
            return;
        };
        if slot == 0 && self.in_time {
            self.beaten.tick(roster.joined());
        }
        let (owner, free) = owner_of(*word);
        let mut task = None;
        if owner == place.vm {
        } else if free {
            // A free slot has no beat. It belongs to the VM that keeps it as long as that VM lives.
            self.look = Look::default();
            task = (!roster.has(owner)).then_some(Task::Change(Want::Take(owner)));
        } else if self.in_time && roster.slots(owner).next() == Some(slot) {
            self.look = Look {
                owner,
                slots: roster.slots(owner).collect(),
                ..Look::default()
            };
            task = Some(Task::Look(0));
        }
        self.then(&[Task::Observe(slot.saturating_add(1))]);
        self.tasks.extend(task);
    }

    #[inline(never)]
    pub(super) fn look(&mut self, n: usize) {
        if let Some(slot) = self.look.slots.get(n) {
            let gauge = Task::BeatOf(*slot);
            let next = Task::Look(n.saturating_add(1));
            self.then(&[gauge, Task::See, Task::SeenBeat, next]);
            return;
        }
        let Look { owner, beat, .. } = self.look;
        let Some(first) = self.look.slots.first() else {
            return;
        };
        self.look.before = self.beaten.before(*first, owner, beat);
        if self.watch.is_silent(*first, owner, beat) {
            self.then(&[Task::Judge]);
            if !self.look.inside {
                self.then(&[Task::ReadIndex, Task::LookInside(0, 0)]);
            }
        }
    }

    /// A VM with a beat that cannot be read is not declared dead.
    pub(super) fn seen_beat(&mut self, beat: Option<u64>) {
        match beat {
            Some(beat) => {
                self.look.beat = self.look.beat.wrapping_add(beat);
                self.look.inside |= mark::marks(beat) != 0;
            }
            None => self.look.slots.clear(),
        }
    }

    pub(super) fn look_inside(&mut self, count: usize, n: usize) {
        if self.look.inside || count >= self.counts.len() {
            return;
        }
        let Some(slot) = self.look.slots.get(n) else {
            return self.then(&[Task::LookInside(count.saturating_add(1), 0)]);
        };
        let gauge = Task::ShareOf(count, *slot);
        let next = Task::LookInside(count, n.saturating_add(1));
        self.then(&[gauge, Task::See, Task::SeenShare, next]);
    }

    pub(super) fn seen_share(&mut self, share: Option<u64>) {
        self.look.inside = share.is_some_and(|share| mark::marks(share) != 0);
    }

    pub(super) fn judge(&mut self) {
        let Some(first) = self.look.slots.first() else {
            return;
        };
        if self.watch.is_dead(*first, self.look.inside) {
            self.then(&[Task::Change(Want::Take(self.look.owner))]);
        }
    }

    /// This VM has taken over the slots of a dead one.
    #[inline(never)]
    pub(super) fn take(&mut self) {
        self.took_over = true;
        self.moved = 0;
        self.then(&[Task::TellDead]);
        for slot in mem::take(&mut self.took) {
            self.taken.push(Taken { slot, free: false });
            self.then(&[Task::Empty(slot, 0)]);
        }
        self.then(&[Task::ReadIndex]);
    }

    /// A VM that ended in order has left nothing. What is added to its slots later has to do with no other death.
    #[inline(never)]
    pub(super) fn tell_dead(&mut self) -> Option<Step> {
        let Look { owner, before, .. } = self.look;
        let count = self.moved.saturating_neg();
        if count == 0 || owner == 0 {
            return None;
        }
        // A VM that joined before this death was known has not ended the condition. The roster has it by now.
        self.then(&[Task::TellAllJoined]);
        Some(Step::Tell(News::Died { count, before }))
    }

    pub(super) fn drain(&mut self, n: usize) {
        let Some(taken) = self.taken.get(n) else {
            return;
        };
        let next = Task::Drain(n.saturating_add(1));
        if taken.free {
            self.then(&[next]);
        } else {
            self.moved = 0;
            self.then(&[Task::Empty(taken.slot, 0), Task::Drained(n), next]);
        }
    }

    /// A slot is free once all counts that any VM has opened were seen at 0 in it.
    pub(super) fn drained(&mut self, n: usize) {
        if self.moved == 0 && self.read_index {
            self.then(&[Task::Change(Want::Free(n))]);
        }
    }
}
