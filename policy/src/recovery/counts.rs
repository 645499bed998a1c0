//! The counts of this VM: their shares in its own slot and in the slots that it took over, and the index of all counts.

use std::rc::Rc;

use super::mark::{self, Gauge, INSIDE};
use super::place::Want;
use super::shared_count::SharedCount;
use super::task::Task;
use super::{Count, Fact, Recovery, Step};
use crate::names;

/// The number of shares that each tick checks although nothing is known to have changed them.
const AT_LEISURE: usize = 2;

impl Recovery {
    /// Opens a count. Returns false if a count of this name has no shares.
    pub(super) fn open(&mut self, name: String, total: Gauge) -> bool {
        if names::share(&name).is_none() {
            return false;
        }
        let count = self.counts.len();
        // The count is put into the index before anything is added, so that a VM that takes over this slot knows the count.
        let list = (!self.index.has(&name)).then_some(Task::Change(Want::List(count)));
        self.counts.push(Count {
            name,
            count: Rc::new(SharedCount::new(total)),
            shares: Vec::new(),
        });
        self.then(&[Task::Give(count)]);
        self.tasks.extend(list);
        true
    }

    pub(super) fn list(&mut self, count: usize) {
        if let Some(Count { name, .. }) = self.counts.get(count) {
            let list = (!self.index.has(name)).then_some(Task::Change(Want::List(count)));
            self.then(&[Task::List(count.saturating_add(1))]);
            self.tasks.extend(list);
        }
    }

    #[inline(never)]
    pub(super) fn index_read(&mut self, fact: &Fact) {
        self.read_index = fact.value.is_some();
        self.index.see(&fact.bytes);
        // A VM that has taken over a slot closes no count, and the index only grows.
        let known = self.index.names().len();
        if self.read_index && known != self.opened {
            self.opened = known;
            self.then(&[Task::Open(0)]);
        }
    }

    #[inline(never)]
    pub(super) fn open_next(&mut self, n: usize) -> Option<Step> {
        let name = self.index.names().nth(n)?;
        let ours = self.counts.iter().any(|count| count.name == name);
        let define = (!ours).then(|| Step::Define(name.to_owned()));
        self.then(&[Task::Open(n.saturating_add(1))]);
        if !ours {
            self.then(&[Task::TotalDefined(n)]);
        }
        define
    }

    pub(super) fn total_defined(&mut self, n: usize, id: Option<u64>) {
        let name = self.index.names().nth(n).map(str::to_owned);
        if let (Some(name), Some(id)) = (name, id) {
            self.open(name, id as Gauge);
        }
    }

    /// Goes on with the current share, in which an earlier VM may have left something. What only the total contains so far is
    /// added to the share. If that fails, the next tick tries it again. If Envoy does not keep the share, the total is still
    /// counted, but is not repaired after a crash.
    pub(super) fn go_on(&mut self, count: usize) -> Option<Step> {
        let (share, unshared) = self.counts.get(count)?.count.go_on(self.gauge)?;
        self.then(&[Task::Drive(count, true)]);
        if unshared == 0 {
            return None;
        }
        self.then(&[Task::Unshared(count)]);
        Some(Step::Add(share, unshared))
    }

    /// Changes the current share to the value that it must have, and the total by the same amount. It also takes off the marks
    /// on the share: the VM that made them is dead, or the share is not the marked gauge.
    #[inline(never)]
    pub(super) fn drive(&mut self, count: usize, own: bool, is: u64) -> Option<Step> {
        let held = match own {
            true => self.counts.get(count)?.count.shared(),
            false => 0,
        };
        let counted = held.saturating_sub(mark::low(is));
        // The bits between both are the test of another VM whether Envoy keeps the gauge. That VM takes them off itself.
        let by = counted.saturating_sub(mark::marks(is).saturating_mul(INSIDE));
        if by == 0 {
            return None;
        }
        self.moves = counted;
        self.then(&[Task::Moved(count)]);
        Some(Step::Add(self.gauge?, by))
    }

    /// Checks some shares. Those in this VM's own slot must be what the VM counts, and those in the slots that it took over
    /// must be 0. A VM that was wrongly declared dead may have changed them before it noticed.
    #[inline(never)]
    pub(super) fn mend(&mut self, n: usize) {
        let slots = self.taken.len().saturating_add(1);
        if n >= AT_LEISURE.min(slots.saturating_mul(self.counts.len())) {
            return;
        }
        self.then(&[Task::Mend(n.saturating_add(1))]);
        let (count, slot) = &mut self.turn;
        *slot = slot.saturating_add(1);
        if *slot >= slots {
            *slot = 0;
            *count = count.saturating_add(1);
        }
        if *count >= self.counts.len() {
            *count = 0;
        }
        let (count, slot) = self.turn;
        if let Some(taken) = self.taken.get(slot) {
            let gauge = Task::ShareOf(count, taken.slot);
            if taken.free {
                self.then(&[gauge, Task::See, Task::SeenFree(slot)]);
            } else {
                self.then(&[gauge, Task::Drive(count, false)]);
            }
        } else {
            self.gauge = self.counts.get(count).and_then(|count| count.count.share());
            self.then(&[Task::GoOn(count), Task::Close(count)]);
        }
    }

    /// Closes the count of a service that is no longer configured. A VM that has taken over a slot keeps the count open,
    /// because something may still be added in that slot.
    pub(super) fn close(&mut self, count: usize) {
        let idle = |count: &Count| Rc::strong_count(&count.count) == 1 && count.count.own() == 0;
        if !self.took_over && self.counts.get(count).is_some_and(idle) {
            self.counts.swap_remove(count);
            // The index may ask for this count again.
            self.opened = 0;
        }
    }
}
