//! What a VM sees of the others: which are dead, and what they have left.

use core::mem;

use super::Worker;
use crate::policy::mark;
use crate::policy::notice::{Line, deaths};
use crate::policy::roster::{Roster, Vm, owner_of};
use crate::shell::host::{self, Level};
use crate::shell::notice;
use crate::shell::slot::{self, change, share_of};

/// The key of the condition that a VM is dead and no other has come in its place.
fn key() -> String {
    notice::key(&[], "dead")
}

/// As many VMs came as `joined` says: whether those that died have others in their place.
#[inline(never)]
pub(super) fn joined(joined: Vm) {
    let text = "as many VMs of this proxy live again as before one died";
    notice::change(&key(), (text, &[]), &|notice, now| {
        notice.ends(deaths::all_replaced(notice.of, joined)?, 0, now)
    });
}

/// A dead VM was found, which had so many in the counts; so many had come before it died, and have now.
#[cold]
#[inline(never)]
fn died(count: i64, (before, now): (Vm, Vm)) {
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
    joined(now);
}

impl Worker {
    /// Looks for VMs that are dead, and takes their slots over. A tick that did not come in time tells nothing of others.
    pub(super) fn observe(&mut self, roster: &Roster, in_time: bool) {
        let Some(place) = &self.place else { return };
        let (vm, process) = (place.vm, place.process);
        for (slot, word) in roster.owners().iter().copied().enumerate() {
            let (owner, free) = owner_of(word);
            if owner == vm {
                continue;
            }
            let dead = if free {
                // It has no beat, and lives as long as the VM that keeps it does.
                !roster.has(owner)
            } else {
                let first = roster.slots(owner).next() == Some(slot);
                in_time && first && self.is_dead(process, owner, roster)
            };
            let before = self.joined;
            if dead && let Some(taken) = change(|roster| roster.take(owner, vm)) {
                self.died = before;
                self.inherited
                    .extend(taken.into_iter().map(|slot| (slot, false)));
                self.took_over = true;
                self.read_index = false;
            }
        }
    }

    /// A VM beats, and shows that it is inside, in its own slot; which of several that is, nobody else knows.
    fn is_dead(&mut self, process: u32, owner: Vm, roster: &Roster) -> bool {
        let slots: Vec<usize> = roster.slots(owner).collect();
        let beats: Option<Vec<u64>> = slots
            .iter()
            .map(|slot| self.beat_of(process, *slot))
            .collect();
        let (Some(first), Some(beats)) = (slots.first(), beats) else {
            return false;
        };
        let beat = beats
            .iter()
            .fold(0, |sum: u64, beat| sum.wrapping_add(*beat));
        // One that comes in its place joins after its last beat.
        if self.beaten.len() <= *first {
            self.beaten.resize(first.saturating_add(1), (0, 0));
        }
        let joined = roster.joined();
        if let Some(seen) = self.beaten.get_mut(*first) {
            if seen.0 != beat {
                *seen = (beat, joined);
            }
            self.joined = (seen.1, joined);
        }
        let mut watch = mem::take(&mut self.watch);
        let dead = watch.dead(*first, owner, beat, || {
            beats.iter().any(|beat| mark::marks(*beat) != 0) || self.inside(process, &slots)
        });
        self.watch = watch;
        dead
    }

    /// Drives the shares in the slots of dead VMs to 0, and sets those slots free in which they are.
    pub(super) fn drain(&mut self) {
        let Some(place) = &self.place else { return };
        let (process, vm) = (place.process, place.vm);
        for (slot, free) in self.inherited.iter_mut().filter(|(_, free)| !free) {
            let mut gone: i64 = 0;
            for account in &self.accounts {
                let share = share_of(account, process, *slot);
                gone = gone.saturating_add(share.map_or(0, |share| account.drive(share, 0)));
            }
            if gone == 0 && self.read_index {
                *free = change(|roster| Some((roster.free(*slot, vm)?, ()))).is_some();
            } else if gone != 0 {
                died(gone.saturating_neg(), self.died);
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
        known.and_then(host::read)
    }

    /// Whether one of the shares in these slots has the mark of a VM that is inside a callback.
    fn inside(&mut self, process: u32, slots: &[usize]) -> bool {
        self.open_all();
        self.accounts.iter().any(|account| {
            slots.iter().any(|slot| {
                let share = share_of(account, process, *slot).and_then(host::read);
                share.is_some_and(|share| mark::marks(share) != 0)
            })
        })
    }
}
