//! The percentage of errors in home's answers. At a proxy that many clients share, it prevents a few clients from diverting
//! the requests of the others.
//!
//! Each worker regularly makes a note of how many errors and good answers of home all workers have read. It compares the
//! numbers of the moment with the latest note that is at least one interval old. A note is due every quarter of an
//! interval. It is made when the service next has its turn in the worker's ticks, which takes at most a second ([`TURN`]).
//! So the compared period is at least one interval, and at most 1.25 intervals and a second. That is at most 1.5 intervals
//! if an interval is four seconds or longer.
//!
//! **Invariant: if errors are less than `percent` of the answers in every such period, the percentage is never reached**,
//! in any order of the answers and for any number of errors at once. So it is not reached before the first note is an
//! interval old.
//!
//! **Invariant: if all answers are errors, the percentage is reached** after at most `percent` of the number of answers in
//! the longest period, and at the latest after such a period without a good answer.

use super::time::{Instant, Millis};

/// The longest time between two turns of a service in the ticks of a worker: one second.
pub const TURN: Millis = Millis::seconds(1);
/// The number of notes in an interval.
const STEPS: u64 = 4;
/// The number of notes that are kept, which reach back more than an interval.
const NOTES: usize = 6;

/// The numbers of errors and good answers up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The moment.
    pub at: Instant,
    /// The errors so far, of all workers.
    pub errors: u64,
    /// The good answers so far, of all workers, in the lower 32 bits, which wrap around. The upper 32 bits are ignored:
    /// with them the VMs test whether Envoy keeps the gauge.
    pub good: u64,
}

/// The notes of one worker about one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorRate {
    notes: [Option<Note>; NOTES],
    next: usize,
}

impl ErrorRate {
    /// Whether a note is due. `interval` is the time that is compared, as in [`ErrorRate::reached`].
    pub fn is_due(&self, interval: Millis, now: Instant) -> bool {
        let last = self.notes.iter().flatten().map(|note| note.at).max();
        // If the clock was wrong once, the notes continue.
        last.is_none_or(|last| now.0.abs_diff(last.0) >= interval.0 / STEPS)
    }

    /// Adds a note, which replaces the oldest one.
    pub fn note(&mut self, note: Note) {
        if let Some(place) = self.notes.get_mut(self.next) {
            *place = Some(note);
        }
        self.next = self.next.saturating_add(1) % NOTES;
    }

    /// Whether errors are at least `percent` (0 to 100) of the answers between `now` and the latest note that is at least
    /// `interval` old. If `percent` is 0, it is true. Otherwise it is false if there is no such note.
    pub fn reached(&self, percent: u32, interval: Millis, now: Note) -> bool {
        if percent == 0 {
            return true;
        }
        let old = |note: &&Note| now.at.since(note.at) >= interval;
        let since = self.notes.iter().flatten().filter(old);
        let Some(since) = since.max_by_key(|note| note.at) else {
            return false;
        };
        let errors = now.errors.saturating_sub(since.errors);
        let good = (now.good as u32).wrapping_sub(since.good as u32);
        let all = u64::from(good).saturating_add(errors);
        errors.saturating_mul(100) >= all.saturating_mul(percent.into())
    }
}

#[cfg(test)]
#[path = "error_rate_test.rs"]
mod tests;
