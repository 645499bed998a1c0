//! A count of the whole process that VMs share, as one of them has it: what it has in the total, and in its own share. What
//! keeps the two together is told in [`super::roster`].

use core::cell::Cell;

use super::callback::Callback;
use super::mark::{Add, Gauge, Mark};

/// A count of the whole process, and this VM's part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedCount {
    total: Gauge,
    own: Cell<i64>,
    /// What the total has of it and the share has not.
    unshared: Cell<i64>,
    /// The share, in the slot that this VM has.
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

    /// Whether a total of this value may lack what this VM has in it, since another took it off: then the VM may have been
    /// declared dead, and is to look for that ([`super::Op::CheckPlace`]).
    pub fn is_missed(&self, total: i64) -> bool {
        total < self.own()
    }

    pub(super) fn share(&self) -> Option<Gauge> {
        self.share.get()
    }

    /// Goes on with this share, or without one. Returns what is to be added to it since the total has it already.
    pub(super) fn go_on(&self, share: Option<Gauge>) -> Option<Add> {
        self.share.set(share);
        share.map(|share| (share, self.unshared.get()))
    }

    /// The share has all that the total has.
    pub(super) fn is_shared(&self) {
        self.unshared.set(0);
    }

    /// What the share is to be.
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

/// A change of a count: of its total, and right after it of this VM's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    n: i64,
    /// The callback has nothing more to do that could fail, so it ends with the move of the share.
    last: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Add to the total.
    Total,
    /// It was added to the total.
    Added,
    /// The total has it: take a slot if the VM has no share.
    Hold,
    /// The VM has a slot, if it can have one.
    Settled,
    /// It was added to the share, and the mark is this then.
    Shared(Mark),
}

/// What to do next for a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Add this to this gauge, and say whether that could be.
    Add(Add),
    /// Carry out [`super::Op::Settle`].
    Settle,
    /// Finished: whether the total was changed.
    Done(bool),
}

impl Change {
    /// Adds one to the count.
    pub fn add() -> Change {
        Change {
            n: 1,
            last: false,
            state: State::Total,
        }
    }

    /// Adds to the share what [`crate::Admit`] has added to the total; the callback ends with it.
    pub fn hold() -> Change {
        Change {
            n: 1,
            last: true,
            state: State::Hold,
        }
    }

    /// Takes `n` off the count. It is not held any more even if Envoy refuses: then the share shows it, and is mended.
    pub fn release(n: u32, last: bool) -> Change {
        Change {
            n: i64::from(n).saturating_neg(),
            last,
            state: State::Total,
        }
    }

    /// The next step. `added` says whether the last addition was made.
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
    /// The total has it, and the share has not: it is added to the share when the VM goes on with one.
    fn is_not_shared(&self, n: i64) {
        self.unshared.set(self.unshared.get().saturating_add(n));
    }
}
