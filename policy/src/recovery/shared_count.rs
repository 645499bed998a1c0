//! A count of the whole process as one VM has it: what the VM has in the total and in its own share. [`super::roster`] says
//! what keeps both equal.

use core::cell::Cell;

use super::callback::Callback;
use super::mark::{Add, Gauge, Mark};

/// A count of the whole process, and this VM's part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedCount {
    total: Gauge,
    own: Cell<i64>,
    /// What this VM has added to the total and not to the share.
    unshared: Cell<i64>,
    /// The share in this VM's slot.
    share: Cell<Option<Gauge>>,
}

impl SharedCount {
    pub(super) fn new(total: Gauge) -> SharedCount {
        SharedCount {
            total,
            ..SharedCount::default()
        }
    }

    /// The gauge of the whole process.
    pub fn total(&self) -> Gauge {
        self.total
    }

    /// What this VM has in the total.
    pub fn own(&self) -> i64 {
        self.own.get()
    }

    /// Whether this value of the total is less than what this VM has in it. Then another VM may have declared this one dead,
    /// and this one must check that ([`super::Op::CheckPlace`]).
    pub fn is_missed(&self, total: i64) -> bool {
        total < self.own()
    }

    pub(super) fn share(&self) -> Option<Gauge> {
        self.share.get()
    }

    /// Goes on with this share, or without one. Returns what has to be added to it because only the total has it.
    pub(super) fn go_on(&self, share: Option<Gauge>) -> Option<Add> {
        self.share.set(share);
        share.map(|share| (share, self.unshared.get()))
    }

    /// Notes that the share has everything that the total has.
    pub(super) fn is_shared(&self) {
        self.unshared.set(0);
    }

    /// The value that the share must have.
    pub(super) fn shared(&self) -> i64 {
        self.own().saturating_sub(self.unshared.get())
    }
}

#[cfg(test)]
impl core::hash::Hash for SharedCount {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        let own = (self.own.get(), self.unshared.get());
        (self.total, own, self.share.get()).hash(state);
    }
}

/// A change of a count: of its total, and right after that of this VM's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    n: i64,
    /// Whether the change of the share ends the callback, because nothing that could fail comes after it.
    last: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Add to the total.
    Total,
    /// The total was asked to change.
    Added,
    /// The total has the change. Take a slot if the VM has no share.
    Hold,
    /// The VM has a slot, if there is one for it.
    Settled,
    /// The share was asked to change. This is the mark after that.
    Shared(Mark),
}

/// The next step of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Add this to this gauge, and say whether that was done.
    Add(Add),
    /// Carry out [`super::Op::Settle`].
    Settle,
    /// The change is finished. The value says whether the total was changed.
    Done(bool),
}

impl Change {
    /// Adds 1 to the count.
    pub fn add() -> Change {
        Change {
            n: 1,
            last: false,
            state: State::Total,
        }
    }

    /// Adds to the share what [`crate::Admit`] has added to the total. `last` says whether the callback ends with it.
    pub fn hold(last: bool) -> Change {
        Change {
            n: 1,
            last,
            state: State::Hold,
        }
    }

    /// Subtracts `n` from the count. If Envoy refuses that, the VM no longer has it in flight all the same, and a later tick
    /// corrects the share.
    pub fn release(n: u32, last: bool) -> Change {
        Change {
            n: i64::from(n).saturating_neg(),
            last,
            state: State::Total,
        }
    }

    /// The next step. `added` says whether the last addition was made.
    // The filter has one place that asks for it.
    #[inline(always)]
    pub fn step(&mut self, count: &SharedCount, callback: &Callback, added: bool) -> Next {
        let n = self.n;
        match self.state {
            State::Total => {
                self.state = State::Added;
                if n < 0 {
                    count.own.set(count.own().saturating_add(n));
                }
                return Next::Add((count.total, n));
            }
            State::Added if !added => return Next::Done(false),
            State::Added | State::Hold if n > 0 && count.share().is_none() => {
                self.state = State::Settled;
                return Next::Settle;
            }
            State::Shared(mark) => {
                if added {
                    callback.moved(mark);
                } else {
                    count.is_not_shared(n);
                }
                return Next::Done(true);
            }
            State::Added | State::Hold | State::Settled => {}
        }
        if n > 0 {
            count.own.set(count.own().saturating_add(n));
        }
        let Some(share) = count.share() else {
            count.is_not_shared(n);
            return Next::Done(true);
        };
        let (add, mark) = callback.moves((share, n), self.last);
        self.state = State::Shared(mark);
        Next::Add(add)
    }
}

impl SharedCount {
    /// Notes that only the total has the change. It is added to the share when the VM goes on with one.
    fn is_not_shared(&self, n: i64) {
        self.unshared.set(self.unshared.get().saturating_add(n));
    }
}
