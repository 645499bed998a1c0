//! What every callback does at its beginning and its end, so that the other VMs see whether this one lives: it shows that it
//! is inside ([`policy::recovery::mark`]), and beats where its worker is too busy to tick ([`policy::roster`]).

use core::cell::Cell;

use crate::hostcalls::{self, Metric};
use crate::recovery;
use policy::recovery::mark::{self, Add, INSIDE, Mark};
use policy::recovery::roster::CALLBACKS;

/// Ticks between two looks for marks on the beat that are not this VM's: five seconds.
const CLEAR_AFTER: u32 = 25;

thread_local! {
    static MARK: Cell<Mark> = const { Cell::new(Mark::OUTSIDE) };
    /// The gauge that is marked if no other moved last: this VM's beat, once it has a slot.
    static BEAT: Cell<Option<Metric>> = const { Cell::new(None) };
    /// Whether this VM was given a slot before its first stream, if there was one.
    static SETTLED: Cell<bool> = const { Cell::new(false) };
    static TICKS: Cell<u32> = const { Cell::new(0) };
    /// Callbacks since this VM last beat.
    static SINCE: Cell<u32> = const { Cell::new(0) };
}

/// The callback begins that creates the context of a stream. It is not ended: that of the request's headers, which Envoy makes
/// next, goes on with it. The VM has its slot before it counts anything, so that no share is missing of what it counts.
pub fn stream_begins() {
    if !SETTLED.replace(true) {
        recovery::settle();
    }
    begins();
}

/// A callback begins.
pub fn begins() {
    let since = SINCE.get().saturating_add(1);
    SINCE.set(since);
    if since >= CALLBACKS {
        ends();
        recovery::work();
    }
    enter(|mark| mark.enter(BEAT.get()));
}

/// A tick begins, which beats and may move any share of this VM: so the mark is on none of them.
pub fn tick_begins() {
    ends();
    let ticks = TICKS.get().wrapping_add(1);
    TICKS.set(ticks);
    if ticks.is_multiple_of(CLEAR_AFTER) {
        clear();
    }
    if let Some(beat) = BEAT.get() {
        enter(|mark| mark.enter_on(beat));
    }
}

/// A callback ends.
pub fn ends() {
    let mut mark = MARK.get();
    if let Some((gauge, n)) = mark.leave()
        && !hostcalls::add(gauge, n)
    {
        mark.not_left(gauge);
    }
    MARK.set(mark);
}

/// Beats.
pub fn beat() {
    SINCE.set(0);
    if let Some(beat) = BEAT.get() {
        hostcalls::add(beat, 1);
    }
}

/// Adds to a share of this VM's. False if Envoy would not.
pub fn add(share: Metric, n: i64) -> bool {
    let mut mark = MARK.get();
    mark.moves(share);
    MARK.set(mark);
    hostcalls::add(share, n)
}

/// Adds to a share of this VM's with the end of the callback. False if Envoy would not: then the callback goes on.
pub fn ends_with(share: Metric, n: i64) -> bool {
    let mut mark = MARK.get();
    let (gauge, n) = mark.leave_with((share, n));
    let added = hostcalls::add(gauge, n);
    if added {
        MARK.set(mark);
    }
    added
}

/// This VM has a slot, whose beat this is. It shows there that it is inside; the gauges of the slot that it had before are
/// another's.
pub fn settled(beat: Option<Metric>) {
    ends();
    BEAT.set(beat);
    let mut mark = MARK.get();
    mark.forget();
    MARK.set(mark);
    clear();
    enter(|mark| mark.enter(beat));
}

/// Takes off the marks that a VM has left on the beat of this one's slot: a dead one, or one that was wrongly declared dead.
fn clear() {
    let Some(beat) = BEAT.get() else { return };
    let left = hostcalls::read(beat).map_or(0, mark::marks);
    if left != 0 {
        hostcalls::add(beat, left.saturating_mul(INSIDE).saturating_neg());
    }
}

fn enter(with: impl FnOnce(&mut Mark) -> Option<Add>) {
    let mut mark = MARK.get();
    if let Some((gauge, n)) = with(&mut mark)
        && !hostcalls::add(gauge, n)
    {
        mark.not_entered();
    }
    MARK.set(mark);
}
