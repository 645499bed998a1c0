//! What a VM does in a tick, and what it sees of the others: which are dead, and what they have left.

use core::mem;

use super::mark;
use super::place::Want;
use super::roster::{IN_TIME, Vm, owner_of};
use super::task::Task;
use super::{News, Recovery, Step, Taken};
use crate::time::Instant;

/// What is seen of one VM. It beats, and shows that it is inside, in its own slot; which of several that is, nobody else knows.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Look {
    /// 0 if it ended in order, so that it has no beat.
    pub(super) owner: Vm,
    slots: Vec<usize>,
    /// The sum of its beats.
    beat: u64,
    inside: bool,
    /// How many VMs had come before it beat last.
    before: Vm,
}

impl Recovery {
    /// Notes when this tick comes, and lists what could not be listed before.
    pub(super) fn timed(&mut self, now: Instant) {
        self.in_time = now.since(mem::replace(&mut self.ticked, now)) <= IN_TIME;
        if mem::take(&mut self.unlisted) {
            self.then(&[Task::List(0)]);
        }
    }

    /// All that is done in a tick with the roster as it is now.
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

    /// Looks for VMs that are dead, and takes their slots over. A tick that did not come in time tells nothing of others.
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
            // It has no beat, and lives as long as the VM that keeps it does.
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

    /// A VM of which a beat cannot be read is not declared dead.
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

    /// This VM has taken the slots of a dead one over.
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

    /// One that ended in order has left nothing. Whatever comes late into its slots is of no other death.
    pub(super) fn tell_dead(&mut self) -> Option<Step> {
        let Look { owner, before, .. } = self.look;
        let count = self.moved.saturating_neg();
        if count == 0 || owner == 0 {
            return None;
        }
        // One that came before this death was known has ended nothing. It is in the roster by now.
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
