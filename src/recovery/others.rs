//! What a VM sees of the others: which are dead, and what they have left.

use core::mem;
use std::rc::Rc;

use super::Worker;
use crate::hostcalls::{self, Level};
use crate::notice;
use crate::recovery::account::Account;
use crate::recovery::slot::{self, ROSTER, change, share_of};
use policy::notice::{Line, deaths};
use policy::recovery::mark;
use policy::recovery::roster::{Roster, Vm, owner_of};
use policy::time::Millis;

/// The key of the condition that a VM is dead and no other has come in its place.
fn key() -> String {
    notice::key(&[], "dead")
}

/// As many VMs came as `joined` says: whether those that died have others in their place.
#[inline(never)]
pub(super) fn joined(joined: Vm) {
    let text = "as many VMs of this proxy live again as before one died";
    notice::change(&key(), (text, &[]), &|notice, now| {
        notice.ends(deaths::all_replaced(notice.of, joined)?, Millis(0), now)
    });
}

/// A dead VM was found, which had so many in the counts; so many VMs had come before it died.
#[cold]
#[inline(never)]
fn died(count: i64, before: Vm) {
    let text = "a VM of this proxy is dead; what it counted is taken off the counts: %0 in all. Report the line before it that names the function that failed; with FAIL_OPEN, restart the pod";
    let text: notice::Text = (text, &[&count.to_string()]);
    let told = notice::change(&key(), text, &|notice, at| {
        let of = deaths::another(notice.of, notice.stands, before);
        // Each is counted, however soon after another.
        let known = || Some((notice.with(of), Line::Nothing));
        notice.begins(of, at).or_else(known)
    });
    if !told.written {
        notice::write(Level::Debug, text);
    }
    // One that came before this death was known has ended nothing. It is in the roster by now.
    if let Some(roster) =
        hostcalls::recall_bytes(ROSTER).and_then(|bytes| Roster::from_bytes(&bytes))
    {
        joined(roster.joined());
    }
}

/// Drives the shares in a slot to 0, and says by how much the counts moved.
fn empty(accounts: &[Rc<Account>], process: u32, slot: usize) -> i64 {
    let moves = accounts.iter().map(|account| {
        let share = share_of(account, process, slot);
        share.map_or(0, |share| account.drive(share, 0))
    });
    moves.fold(0, i64::saturating_add)
}

impl Worker {
    /// Looks for VMs that are dead, and takes their slots over. A tick that did not come in time tells nothing of others.
    pub(super) fn observe(&mut self, roster: &Roster, in_time: bool) {
        let Some(place) = &self.place else { return };
        let (vm, process) = (place.vm, place.process);
        if in_time {
            self.beaten.tick(roster.joined());
        }
        for (slot, word) in roster.owners().iter().copied().enumerate() {
            let (owner, free) = owner_of(word);
            if owner == vm {
                continue;
            }
            let mut before = None;
            let dead = if free {
                // It has no beat, and lives as long as the VM that keeps it does.
                !roster.has(owner)
            } else if in_time && roster.slots(owner).next() == Some(slot) {
                before = self.death(process, owner, roster);
                before.is_some()
            } else {
                false
            };
            if dead && let Some(taken) = change(|roster| roster.take(owner, vm)) {
                self.took_over = true;
                self.read_index = self.open_all();
                let slots = taken.iter();
                let gone = slots.map(|slot| empty(&self.accounts, process, *slot));
                let gone = gone.fold(0, i64::saturating_add);
                self.inherited
                    .extend(taken.into_iter().map(|slot| (slot, false)));
                // One that ended in order has left nothing. Whatever comes late into its slots is of no other death.
                if let Some(before) = before
                    && gone != 0
                {
                    died(gone.saturating_neg(), before);
                }
            }
        }
    }

    /// Whether a VM is dead: how many had come before it died. A VM beats, and shows that it is inside, in its own slot; which
    /// of several that is, nobody else knows.
    fn death(&mut self, process: u32, owner: Vm, roster: &Roster) -> Option<Vm> {
        let slots: Vec<usize> = roster.slots(owner).collect();
        let beats: Option<Vec<u64>> = slots
            .iter()
            .map(|slot| self.beat_of(process, *slot))
            .collect();
        let (first, beats) = (slots.first()?, beats?);
        let beat = beats
            .iter()
            .fold(0, |sum: u64, beat| sum.wrapping_add(*beat));
        let before = self.beaten.before(*first, owner, beat);
        let mut watch = mem::take(&mut self.watch);
        let dead = watch.dead(*first, owner, beat, || {
            beats.iter().any(|beat| mark::marks(*beat) != 0) || self.inside(process, &slots)
        });
        self.watch = watch;
        dead.then_some(before)
    }

    /// Drives what came late into the slots of dead VMs to 0, and sets those free in which all is at 0.
    pub(super) fn drain(&mut self) {
        let Some(place) = &self.place else { return };
        let (process, vm) = (place.process, place.vm);
        for (slot, free) in self.inherited.iter_mut().filter(|(_, free)| !free) {
            if empty(&self.accounts, process, *slot) == 0 && self.read_index {
                *free = change(|roster| Some((roster.free(*slot, vm)?, ()))).is_some();
            }
        }
    }

    /// The beat of a slot, which is defined once.
    fn beat_of(&mut self, process: u32, slot: usize) -> Option<u64> {
        if self.beats.len() <= slot {
            self.beats.resize(slot.saturating_add(1), None);
        }
        let known = self.beats.get_mut(slot)?;
        if known.is_none() {
            *known = slot::beat(process, slot);
        }
        known.and_then(hostcalls::read)
    }

    /// Whether one of the shares in these slots has the mark of a VM that is inside a callback.
    fn inside(&mut self, process: u32, slots: &[usize]) -> bool {
        self.open_all();
        self.accounts.iter().any(|account| {
            slots.iter().any(|slot| {
                let share = share_of(account, process, *slot).and_then(hostcalls::read);
                share.is_some_and(|share| mark::marks(share) != 0)
            })
        })
    }
}
