//! What every callback does at its beginning and at its end, so that the other VMs can tell whether this VM is alive. It marks
//! that this VM is inside a callback ([`super::mark`]), and it beats if the worker is too busy to tick ([`super::roster`]).
//!
//! These are the only steps of the recovery that every request takes, so they are not tasks of [`super::Recovery`]. Each of
//! them is one addition to a gauge, followed by a second call with its result.

use core::cell::Cell;

use super::mark::{Add, Gauge, Mark};
use super::roster::CALLBACKS;

/// The state of the callback in which this VM is, as the other VMs see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callback {
    mark: Cell<Mark>,
    /// The gauge of this VM's beat, once the VM has a slot. It gets the mark if no other gauge was changed before.
    beat: Cell<Option<Gauge>>,
    /// Whether a stream has begun in this VM.
    has_streams: Cell<bool>,
    /// The number of callbacks since this VM beat last.
    since: Cell<u32>,
}

impl Callback {
    /// The state of a VM that is outside of all callbacks and has no slot yet.
    pub const fn new() -> Callback {
        Callback {
            mark: Cell::new(Mark::OUTSIDE),
            beat: Cell::new(None),
            has_streams: Cell::new(false),
            since: Cell::new(0),
        }
    }

    /// A stream begins. Returns whether it is the first one of this VM. The VM takes its slot before it counts anything, so
    /// that its share contains everything that it counts.
    pub fn is_first_stream(&self) -> bool {
        !self.has_streams.replace(true)
    }

    /// A callback begins. Returns whether the VM has to beat now ([`super::Op::Work`]). Otherwise it only marks that it is
    /// inside ([`Callback::enter`]).
    pub fn begins(&self) -> bool {
        let since = self.since.get().saturating_add(1);
        self.since.set(since);
        since >= CALLBACKS
    }

    /// The addition that marks the VM as inside. Call [`Callback::entered`] with its result.
    pub fn enter(&self) -> Option<Add> {
        self.change(|mark| mark.enter(self.beat.get()))
    }

    /// Like [`Callback::enter`], but the mark is on the beat, because the callback may change any share of this VM.
    pub(super) fn enter_on_beat(&self) -> Option<Add> {
        let beat = self.beat.get()?;
        self.change(|mark| mark.enter_on(beat))
    }

    /// Notes whether the addition of [`Callback::enter`] was made.
    pub fn entered(&self, added: bool) {
        if !added {
            self.change(Mark::not_entered);
        }
    }

    /// The callback ends. Returns the addition that takes the mark off. Call [`Callback::left`] with its result.
    pub fn leave(&self) -> Option<Add> {
        self.change(Mark::leave)
    }

    /// Notes whether the addition of [`Callback::leave`] to this gauge was made.
    pub fn left(&self, gauge: Gauge, added: bool) {
        if !added {
            self.change(|mark| mark.not_left(gauge));
        }
    }

    /// The addition that changes a share, and the mark after it. The last change of a callback also takes the mark off.
    pub(super) fn moves(&self, (share, n): Add, last: bool) -> (Add, Mark) {
        let mut mark = self.mark.get();
        if last {
            (mark.leave_with((share, n)), mark)
        } else {
            mark.moves(share);
            ((share, n), mark)
        }
    }

    /// Notes that a share was changed, and that the mark is this one now.
    pub(super) fn moved(&self, mark: Mark) {
        self.mark.set(mark);
    }

    /// The gauge of this VM's beat. `None` if the VM has no slot or Envoy does not keep the gauge.
    pub(super) fn beat(&self) -> Option<Gauge> {
        self.beat.get()
    }

    /// Notes that this VM beats now.
    pub(super) fn beats(&self) {
        self.since.set(0);
    }

    /// This VM has a new slot with this beat. The gauges of its former slot belong to another VM.
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
