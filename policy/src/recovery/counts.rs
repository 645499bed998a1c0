//! The counts of this VM, their shares in its slot and in those that it took over, and the index of all counts.

use std::rc::Rc;

use super::mark::{self, Gauge, INSIDE};
use super::place::Want;
use super::shared_count::SharedCount;
use super::task::Task;
use super::{Count, Fact, Recovery, Step};
use crate::names;

/// Shares that are looked at in a tick, of those to which nothing is known to have happened.
const AT_LEISURE: usize = 2;

impl Recovery {
    /// Opens a count. False if VMs have no shares of such a count.
    pub(super) fn open(&mut self, name: String, total: Gauge) -> bool {
        if names::share(&name).is_none() {
            return false;
        }
        let count = self.counts.len();
        // It is listed before anything is added, so that whoever takes this VM's slot over knows of it.
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

    pub(super) fn index_read(&mut self, fact: &Fact) {
        self.read_index = fact.value.is_some();
        self.index.see(&fact.bytes);
        // Whoever has taken a slot over drops no count, and the index only grows.
        let known = self.index.names().len();
        if self.read_index && known != self.opened {
            self.opened = known;
            self.then(&[Task::Open(0)]);
        }
    }

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

    /// Goes on with the share at hand, in which a VM before this one may have left something. What the total has already is
    /// added to it alone; if that cannot be, it is tried again with the next. If Envoy does not keep the share there is none:
    /// then the total is kept all the same, and survives no crash.
    pub(super) fn go_on(&mut self, count: usize) -> Option<Step> {
        let (share, unshared) = self.counts.get(count)?.count.go_on(self.gauge)?;
        self.then(&[Task::Drive(count, true)]);
        if unshared == 0 {
            return None;
        }
        self.then(&[Task::Unshared(count)]);
        Some(Step::Add(share, unshared))
    }

    /// Moves the share at hand, and the total with it, from what it is to what it is to be, and takes off the marks that it
    /// has: the VM that made them is dead, or they are not on this share.
    pub(super) fn drive(&mut self, count: usize, own: bool, is: u64) -> Option<Step> {
        let held = match own {
            true => self.counts.get(count)?.count.shared(),
            false => 0,
        };
        let counted = held.saturating_sub(mark::low(is));
        // What is between the two is another VM's test whether Envoy keeps the gauge, which takes it off itself.
        let by = counted.saturating_sub(mark::marks(is).saturating_mul(INSIDE));
        if by == 0 {
            return None;
        }
        self.moves = counted;
        self.then(&[Task::Moved(count)]);
        Some(Step::Add(self.gauge?, by))
    }

    /// Looks at shares in this VM's slot, which are to be what it holds, and in those that it took over, which are to be 0: a VM
    /// that was taken for dead may have changed them before it noticed.
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

    /// Closes a count of a service that is configured no more. A VM that has taken a slot over keeps it for what may come late
    /// into the slots that it has.
    pub(super) fn close(&mut self, count: usize) {
        let idle = |count: &Count| Rc::strong_count(&count.count) == 1 && count.count.own() == 0;
        if !self.took_over && self.counts.get(count).is_some_and(idle) {
            self.counts.swap_remove(count);
            // It may be asked for again.
            self.opened = 0;
        }
    }
}
