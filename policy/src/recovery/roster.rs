//! The roster: which VM owns which slot, so that a count is right again after the VM of a worker has died.
//!
//! Each VM owns a slot. For each count (`total`) that the VM adds to, the slot has a share, and whatever the VM adds to the
//! total it also adds to its share. A VM that traps is never called again, so what it has counted would stay in the total for
//! ever. Therefore the VMs watch each other. A VM that finds another one dead takes over its slot and reduces its shares to 0,
//! and the totals by the same amounts.
//!
//! **Invariant: a total is the sum of its shares.** Both are changed only by increments, never set, so the order of the VMs
//! does not matter.
//! **Invariant: a slot has one owner**, by compare-and-swap on the roster, and only the owner corrects the shares of a slot: in
//! its own slot to what it has counted, and in a slot that it took over to 0. So a VM that was wrongly declared dead, because
//! its worker stood still, finds that it has lost its slot, takes another one and adds there what it has counted. Then the
//! total is right again.
//! **Invariant: a slot that was used always has an owner.** The VM that took it over keeps its shares at 0 until a new VM takes
//! the slot, since a VM that was wrongly declared dead may add to it until it notices. Once the slot is free, the owner only
//! reads its shares, and takes the slot back before it corrects one, since a new VM may have taken it meanwhile.
//! **Invariant: no VM is declared dead by a clock.** A VM is stale after a number of ticks of its observer, and only ticks that
//! came in time count. If the whole process stood still, the observer stood still too, and an observer that was late draws no
//! conclusion.
//! **Invariant: a VM that works is not declared dead.** It beats in its ticks, and if the worker is too busy for ticks, in its
//! callbacks. If there are no callbacks either, it is still alive as long as it is outside of a callback ([`super::mark`]). A
//! worker that connects to ten thousand upstreams in one pass of its event loop calls no filter for seconds.
//!
//! A VM cannot trap between two hostcalls of one change. It dies inside a callback, before or after all of its hostcalls. (A
//! trap between the two increments of one change would leave total and share apart by that change.)

use crate::time::Millis;

/// The number of an observer's ticks without a beat of another VM after which that VM is dead, if it is inside a callback. At
/// five ticks a second these are 2.4 seconds. With a tick to notice and one to correct the shares, a count is right after three
/// seconds.
pub const STALE: u32 = 12;
/// The number of the last of these ticks in which the VM must be seen inside. With one tick only, a VM that works could be seen
/// inside by chance.
pub const LOOKS: u32 = 3;
/// The number of further ticks after which a VM is dead that is outside: a minute. No callback can have killed such a VM. This
/// is for a mark that was lost: a VM that was wrongly declared dead may subtract a mark that is not its own, before it notices.
pub const SILENT: u32 = 300;
/// The number of callbacks between two ticks of a VM after which it beats and checks whether it was declared dead.
pub const CALLBACKS: u32 = 128;
/// The longest time between two ticks of an observer for which the second one came in time: twice the period.
pub const IN_TIME: Millis = Millis(400);
/// The most slots. A proxy has one for each worker, one for its main thread, and some of VMs that end.
const MOST: usize = 4096;

/// The bit of a slot that is free: its owner keeps it at 0 until a new VM takes it.
const FREE: u32 = 1 << 31;

/// The VM that owns a slot, and whether the slot is free for a new VM.
pub fn owner_of(word: u32) -> (Vm, bool) {
    (word & !FREE, word & FREE != 0)
}

/// The number of a VM, which no other VM of the process ever has. 0 is no VM.
pub type Vm = u32;

/// The slots of all VMs of a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Roster {
    /// The number of the process. After a hot restart it tells this process's gauges from those of the process before, which
    /// Envoy adds to ours.
    pub process: u32,
    last: Vm,
    owners: Vec<u32>,
}

impl Roster {
    /// An empty roster of the process with this number.
    pub fn new(process: u32) -> Roster {
        Roster {
            process,
            last: 0,
            owners: Vec::new(),
        }
    }

    /// The owners by slot, in the form that [`owner_of`] reads.
    pub fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// Whether `vm` owns a slot that is not free: its own, or one that it took over.
    pub fn has(&self, vm: Vm) -> bool {
        self.owners.contains(&vm)
    }

    /// Whether `vm` had a slot and has lost it. A VM that joined after this roster was written has not.
    pub fn lost(&self, vm: Vm) -> bool {
        (1..=self.last).contains(&vm) && !self.has(vm)
    }

    /// The number of VMs that have ever joined.
    pub fn joined(&self) -> Vm {
        self.last
    }

    /// The roster with a new VM, its number and its slot. The slot is `wanted` if that is free. `None` if there are no more
    /// slots.
    pub fn join(&self, wanted: Option<usize>) -> Option<(Roster, Vm, usize)> {
        let vm = self.last.checked_add(1).filter(|vm| *vm < FREE)?;
        let free = |owner: &u32| owner_of(*owner).1;
        let slot = wanted
            .filter(|slot| self.owners.get(*slot).is_some_and(free))
            .or_else(|| self.owners.iter().position(free))
            .unwrap_or(self.owners.len());
        if slot >= MOST {
            return None;
        }
        let mut next = self.clone();
        next.last = vm;
        match next.owners.get_mut(slot) {
            Some(owner) => *owner = vm,
            None => next.owners.push(vm),
        }
        Some((next, vm, slot))
    }

    /// The slots of `vm` that are not free: its own, and those of dead VMs that it keeps at 0.
    pub fn slots(&self, vm: Vm) -> impl Iterator<Item = usize> {
        let words = self.owners.iter().enumerate();
        words.filter_map(move |(slot, word)| (*word == vm).then_some(slot))
    }

    /// The roster after the VM `to` has taken over all slots of the dead VM `from`, and these slots. It takes all of them at
    /// once, because only a VM's own slot shows that it is dead. `None` if `from` has no slot.
    pub fn take(&self, from: Vm, to: Vm) -> Option<(Roster, Vec<usize>)> {
        let mut next = self.clone();
        let words = next.owners.iter_mut().enumerate();
        let of_dead = words.filter(|(_, word)| owner_of(**word).0 == from);
        let taken: Vec<usize> = of_dead
            .map(|(slot, word)| {
                *word = to;
                slot
            })
            .collect();
        (!taken.is_empty()).then_some((next, taken))
    }

    /// The roster with the `slot` of `vm` free for a new VM. `None` if the slot is not owned by `vm`.
    pub fn free(&self, slot: usize, vm: Vm) -> Option<Roster> {
        let mut next = self.clone();
        let owner = next.owners.get_mut(slot).filter(|owner| **owner == vm)?;
        *owner = vm | FREE;
        Some(next)
    }

    /// The roster with the free `slot` of `vm` not free any more, because something was added in it. `None` if another VM has
    /// it now.
    pub fn keep(&self, slot: usize, vm: Vm) -> Option<Roster> {
        let mut next = self.clone();
        let owner = next.owners.get_mut(slot);
        *owner.filter(|owner| **owner == vm | FREE)? = vm;
        Some(next)
    }

    /// The roster as bytes for shared data.
    #[inline(never)]
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = [self.process, self.last];
        let words = words.iter().chain(&self.owners);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Reads a roster from bytes. `None` if they have another length.
    #[inline(never)]
    pub fn from_bytes(bytes: &[u8]) -> Option<Roster> {
        let (words, []) = bytes.as_chunks() else {
            return None;
        };
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        Some(Roster {
            process: words.next()?,
            last: words.next()?,
            owners: words.take(MOST).collect(),
        })
    }
}

/// What a VM has seen of the other VMs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Liveness {
    stale: u32,
    looks: u32,
    silent: u32,
    seen: Vec<Seen>,
}

impl Default for Liveness {
    fn default() -> Self {
        Liveness::new(STALE, LOOKS, SILENT)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    owner: Vm,
    beat: u64,
    ticks: u32,
    inside: u32,
}

impl Liveness {
    /// Liveness with these limits: a VM is dead after `stale` ticks without a beat if it was inside a callback in the last
    /// `looks` of them, or after `silent` more wherever it was.
    pub fn new(stale: u32, looks: u32, silent: u32) -> Liveness {
        Liveness {
            stale,
            looks,
            silent,
            seen: Vec::new(),
        }
    }

    /// Notes the `beat` of a slot, once in each tick of the observer that came in time. Returns whether the owner may be dead,
    /// because its beat has not changed for many ticks. Then [`Liveness::is_dead`] decides.
    pub fn is_silent(&mut self, slot: usize, owner: Vm, beat: u64) -> bool {
        if self.seen.len() <= slot {
            self.seen.resize(slot.saturating_add(1), Seen::default());
        }
        let Some(seen) = self.seen.get_mut(slot) else {
            return false;
        };
        if seen.owner != owner || seen.beat != beat {
            *seen = Seen {
                owner,
                beat,
                ..Seen::default()
            };
        }
        seen.ticks = seen.ticks.saturating_add(1);
        seen.ticks.saturating_add(self.looks) > self.stale.saturating_add(1)
    }

    /// Whether the owner of `slot`, which does not beat, is dead. `inside` says whether it is inside a callback now.
    pub fn is_dead(&mut self, slot: usize, inside: bool) -> bool {
        let Some(seen) = self.seen.get_mut(slot) else {
            return false;
        };
        seen.inside = if inside {
            seen.inside.saturating_add(1)
        } else {
            0
        };
        let stale = seen.ticks > self.stale && seen.inside >= self.looks;
        stale || seen.ticks > self.stale.saturating_add(self.silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(n: usize) -> Roster {
        (0..n).fold(Roster::new(7), |roster, _| {
            roster.join(None).expect("there is room").0
        })
    }

    #[test]
    fn each_vm_has_a_number_and_a_slot_of_its_own() {
        let roster = of(3);
        assert_eq!(roster.owners(), [1, 2, 3]);
        let (roster, taken) = roster.take(2, 3).expect("it has a slot");
        assert_eq!(taken, [1]);
        let roster = roster.free(1, 3).expect("3 owns it");
        assert_eq!(
            owner_of(roster.owners()[1]),
            (3, true),
            "it stays 3's until then"
        );
        let (roster, vm, slot) = roster.join(None).expect("there is room");
        assert_eq!(
            (vm, slot),
            (4, 1),
            "the slot is used again, the number is not"
        );
        assert_eq!(roster.owners(), [1, 4, 3]);
    }

    #[test]
    fn a_vm_gets_its_old_slot_back_where_that_is_free() {
        let roster = of(3).free(0, 1).and_then(|r| r.free(2, 3));
        let roster = roster.expect("they own them");
        assert_eq!(roster.join(Some(2)).expect("room").2, 2);
        assert_eq!(roster.join(Some(1)).expect("room").2, 0, "it is another's");
        assert_eq!(roster.join(Some(99)).expect("room").2, 0);
    }

    #[test]
    fn a_slot_has_one_owner() {
        let roster = of(2);
        assert_eq!(roster.take(5, 2), None);
        let (taken, _) = roster.take(1, 2).expect("1 has a slot");
        assert_eq!(taken.take(1, 3), None, "the second comes too late");
        assert_eq!(taken.free(0, 1), None, "it is another's");
        let free = taken.free(0, 2).expect("2 owns it");
        assert_eq!(free.keep(0, 2), Some(taken.clone()));
        let (joined, ..) = free.join(None).expect("there is room");
        assert_eq!(joined.keep(0, 2), None, "it is another's");
        assert!(!taken.has(1) && taken.has(2));
        let lost: Vec<Vm> = (0..9).filter(|vm| taken.lost(*vm)).collect();
        assert_eq!(lost, [1], "those that are yet to come are not lost");
    }

    #[test]
    fn what_a_dead_vm_had_inherited_is_taken_over_with_its_own_slot() {
        let (roster, _) = of(4).take(1, 2).expect("it has a slot");
        let (roster, _) = roster.take(3, 2).expect("it has a slot");
        let roster = roster.free(2, 2).expect("2 owns it");
        assert_eq!(roster.slots(2).collect::<Vec<_>>(), [0, 1]);
        let (roster, taken) = roster.take(2, 4).expect("it has slots");
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(roster.owners(), [4, 4, 4, 4]);
    }

    #[test]
    fn a_roster_survives_its_bytes_and_other_bytes_are_none() {
        let roster = of(3);
        assert_eq!(Roster::from_bytes(&roster.to_bytes()), Some(roster));
        for bytes in [&b""[..], b"0", &[0; 4], &[0; 9]] {
            assert_eq!(Roster::from_bytes(bytes), None);
        }
    }

    const INSIDE: bool = true;
    const OUTSIDE: bool = false;

    impl Liveness {
        fn dead(&mut self, slot: usize, owner: Vm, beat: u64, inside: bool) -> bool {
            self.is_silent(slot, owner, beat) && self.is_dead(slot, inside)
        }
    }

    #[test]
    fn only_an_observers_own_ticks_make_a_vm_stale() {
        let mut watch = Liveness::default();
        for _ in 0..STALE {
            assert!(!watch.dead(3, 9, 100, INSIDE));
        }
        assert!(watch.dead(3, 9, 100, INSIDE));
        assert!(!watch.dead(3, 9, 101, INSIDE), "it beats");
        for _ in 1..STALE {
            assert!(!watch.dead(3, 9, 101, INSIDE));
        }
        assert!(!watch.dead(3, 10, 101, INSIDE), "another VM's slot");
    }

    #[test]
    fn a_silent_vm_outside_of_a_callback_is_alive_for_a_minute() {
        let mut watch = Liveness::default();
        for _ in 0..STALE + SILENT {
            assert!(!watch.dead(0, 1, 5, OUTSIDE));
        }
        assert!(watch.dead(0, 1, 5, OUTSIDE));
    }

    #[test]
    fn a_vm_that_is_seen_outside_once_in_the_last_looks_is_alive() {
        let mut watch = Liveness::default();
        for _ in 0..STALE + 50 {
            for _ in 1..LOOKS {
                assert!(!watch.dead(0, 1, 5, INSIDE));
            }
            assert!(!watch.dead(0, 1, 5, OUTSIDE));
        }
    }

    #[test]
    fn a_vm_is_not_looked_into_as_long_as_it_beats() {
        let mut watch = Liveness::default();
        for beat in 0..1000 {
            assert!(!watch.is_silent(0, 1, beat));
        }
    }
}
