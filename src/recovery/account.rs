//! A count of the whole process, and this VM's share of it. What keeps the two together is told in
//! [`policy::roster`].

use core::cell::{Cell, RefCell};

use crate::hostcalls::{self, Metric};
use crate::recovery;
use crate::recovery::callback;
use policy::names;
use policy::recovery::mark;

/// A count of the whole process, and this VM's part of it.
pub struct Account {
    /// Of the total.
    pub(super) name: String,
    /// Of a share, without the prefix that all metrics have.
    share_name: String,
    pub(super) total: Metric,
    pub(super) own: Cell<i64>,
    /// What the total has of it and no share, while there is none.
    unshared: Cell<i64>,
    /// In the slot that this VM has.
    pub(super) share: Cell<Option<Metric>>,
    /// In slots of others. Envoy keeps what was defined for as long as the VM lives, each time anew.
    in_slots: RefCell<Vec<(usize, Metric)>>,
}

impl Account {
    /// One of a count by this name. Nothing where VMs have no shares of such a count.
    pub(super) fn new(name: String, total: Metric) -> Option<Account> {
        Some(Account {
            share_name: names::share(&name)?,
            name,
            total,
            own: Cell::default(),
            unshared: Cell::default(),
            share: Cell::default(),
            in_slots: RefCell::default(),
        })
    }

    /// The share that is in this slot, defined by `define` the first time.
    pub(super) fn share_in(
        &self,
        slot: usize,
        define: impl FnOnce(&str) -> Option<Metric>,
    ) -> Option<Metric> {
        let mut shares = self.in_slots.try_borrow_mut().ok()?;
        if let Some((_, share)) = shares.iter().find(|(of, _)| *of == slot) {
            return Some(*share);
        }
        let share = define(&self.share_name)?;
        shares.push((slot, share));
        Some(share)
    }

    /// The total.
    pub fn total(&self) -> Metric {
        self.total
    }

    /// What this VM has in the total, as far as it was told by [`Account::hold`].
    pub fn own(&self) -> i64 {
        self.own.get()
    }

    /// Adds to the total and to our share. False where Envoy would not: nothing was added.
    pub fn add(&self, n: i64) -> bool {
        let added = hostcalls::add(self.total, n);
        if added {
            self.hold(n);
        }
        added
    }

    /// Takes off what was added. It is not held any more even where Envoy would not: then our share shows it, and is mended.
    pub fn release(&self, n: i64) {
        self.release_by(n, callback::add);
    }

    /// As [`Account::release`], at the end of the callback.
    pub fn release_last(&self, n: i64) {
        self.release_by(n, callback::ends_with);
    }

    fn release_by(&self, n: i64, add: impl FnOnce(Metric, i64) -> bool) {
        let less = n.saturating_neg();
        self.own.set(self.own.get().saturating_add(less));
        if hostcalls::add(self.total, less) {
            self.share(less, add);
        }
    }

    /// Adds to our share what was added to the total.
    fn hold(&self, n: i64) {
        self.hold_by(n, callback::add);
    }

    /// As that, when the callback has nothing more to do that could fail.
    pub fn hold_last(&self, n: i64) {
        self.hold_by(n, callback::ends_with);
    }

    fn hold_by(&self, n: i64, add: impl FnOnce(Metric, i64) -> bool) {
        if self.share.get().is_none() {
            recovery::settle();
        }
        self.own.set(self.own.get().saturating_add(n));
        self.share(n, add);
    }

    fn share(&self, n: i64, add: impl FnOnce(Metric, i64) -> bool) {
        let share = self.share.get();
        if !share.is_some_and(|share| add(share, n)) {
            self.unshared.set(self.unshared.get().saturating_add(n));
        }
    }

    /// Goes on with this share, in which a VM before us may have left something. What the total has already is added to it
    /// alone; where that could not be, it is tried again with the next.
    pub(super) fn go_on(&self, share: Option<Metric>) {
        self.share.set(share);
        let Some(share) = share else { return };
        let unshared = self.unshared.get();
        if unshared != 0 && hostcalls::add(share, unshared) {
            self.unshared.set(0);
        }
        self.drive(share, self.own.get().saturating_sub(self.unshared.get()));
    }

    /// Moves a share, and the total with it, from what it is to `held`, and takes off the marks that it has: the VM that made
    /// them is dead, or they are not on this share. Returns by how much the total moved.
    pub(super) fn drive(&self, share: Metric, held: i64) -> i64 {
        let Some(is) = hostcalls::read(share) else {
            return 0;
        };
        let by = held.wrapping_sub(is.cast_signed());
        let counted = held.saturating_sub(mark::low(is));
        if by == 0 || !hostcalls::add(share, by) {
            return 0;
        }
        if counted != 0 {
            hostcalls::add(self.total, counted);
        }
        counted
    }
}
