//! What every callback does at its beginning and its end, so that the other VMs see whether this one lives: it shows that it
//! is inside ([`super::mark`]), and beats if its worker is too busy to tick ([`super::roster`]).
//!
//! These are the only steps of the recovery on the way of a request, so they are no tasks of [`super::Recovery`]: each is one
//! addition to a gauge, and what came of it is told by a second call.

use core::cell::Cell;

use super::mark::{Add, Gauge, Mark};
use super::roster::CALLBACKS;

/// What this VM shows of the callback that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callback {
    mark: Cell<Mark>,
    /// The gauge that is marked if no other moved last: this VM's beat, once it has a slot.
    beat: Cell<Option<Gauge>>,
    /// A stream has begun.
    has_streams: Cell<bool>,
    /// Callbacks since this VM last beat.
    since: Cell<u32>,
}

impl Callback {
    /// Of a VM that is outside of all callbacks, and has no slot yet.
    pub const fn new() -> Callback {
        Callback {
            mark: Cell::new(Mark::OUTSIDE),
            beat: Cell::new(None),
            has_streams: Cell::new(false),
            since: Cell::new(0),
        }
    }

    /// A stream begins: whether it is the first one. The VM takes its slot before it counts anything, so that a share has all
    /// that it counts.
    pub fn is_first_stream(&self) -> bool {
        !self.has_streams.replace(true)
    }

    /// A callback begins: whether the VM is to beat now ([`super::Op::Work`]), or only to show that it is inside
    /// ([`Callback::enter`]).
    pub fn begins(&self) -> bool {
        let since = self.since.get().saturating_add(1);
        self.since.set(since);
        since >= CALLBACKS
    }

    /// The addition by which the VM shows that it is inside; [`Callback::entered`] is to be told whether it was made.
    pub fn enter(&self) -> Option<Add> {
        self.change(|mark| mark.enter(self.beat.get()))
    }

    /// As [`Callback::enter`], with the mark on the beat: the callback may move any share of this VM.
    pub(super) fn enter_on_beat(&self) -> Option<Add> {
        let beat = self.beat.get()?;
        self.change(|mark| mark.enter_on(beat))
    }

    /// Whether the addition of [`Callback::enter`] was made.
    pub fn entered(&self, added: bool) {
        if !added {
            self.change(Mark::not_entered);
        }
    }

    /// The callback ends: the addition that shows it; [`Callback::left`] is to be told whether it was made.
    pub fn leave(&self) -> Option<Add> {
        self.change(Mark::leave)
    }

    /// Whether the addition of [`Callback::leave`] to this gauge was made.
    pub fn left(&self, gauge: Gauge, added: bool) {
        if !added {
            self.change(|mark| mark.not_left(gauge));
        }
    }

    /// The move of a share, and the mark as it is once it was made. The last move of a callback takes the mark off too.
    pub(super) fn moves(&self, (share, n): Add, last: bool) -> (Add, Mark) {
        let mut mark = self.mark.get();
        if last {
            (mark.leave_with((share, n)), mark)
        } else {
            mark.moves(share);
            ((share, n), mark)
        }
    }

    /// A move was made, after which the mark is this.
    pub(super) fn moved(&self, mark: Mark) {
        self.mark.set(mark);
    }

    /// The gauge in which this VM beats, if it has a slot and Envoy keeps the gauge.
    pub(super) fn beat(&self) -> Option<Gauge> {
        self.beat.get()
    }

    /// It beats now.
    pub(super) fn beats(&self) {
        self.since.set(0);
    }

    /// This VM has a new slot, whose beat this is. The gauges of the slot that it had before are another's.
    pub(super) fn settled(&self, beat: Option<Gauge>) {
        self.beat.set(beat);
        self.change(Mark::forget);
    }

    fn change<T>(&self, to: impl FnOnce(&mut Mark) -> T) -> T {
        let mut mark = self.mark.get();
        let result = to(&mut mark);
        self.mark.set(mark);
        result
    }
}

#[cfg(test)]
impl core::hash::Hash for Callback {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        let flags = (self.has_streams.get(), self.since.get());
        (self.mark.get(), self.beat.get(), flags).hash(state);
    }
}
