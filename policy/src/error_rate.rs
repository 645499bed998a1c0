//! How large a part of home's answers are errors, so that at a proxy which many clients share a few of them do not divert the
//! others' requests.
//!
//! A worker notes now and then how many errors and good answers of home's all workers have read, and compares with the
//! youngest note that is an interval old. A note is taken every quarter of an interval, when the service next has its turn in
//! the worker's ticks, which is within a second ([`TURN`]). So what is compared is a *stretch* of one interval at least, and of
//! one and a quarter and a second at most: no more than one and a half where an interval is four seconds or longer.
//! **Invariant: errors that are less than `percent` of the answers in every stretch never reach it**, whatever their order
//! and however many come at once. So nothing is reached before the first note is an interval old.
//! **Invariant: where all answers are errors, it is reached in time**: with `percent` of what home answers in the longest
//! stretch, and at the latest when it has answered nothing well for so long.

use super::time::{Instant, Millis};

/// The longest time between two turns of a service in the ticks of a worker.
pub const TURN: Millis = Millis::seconds(1);
/// Notes in an interval.
const STEPS: u64 = 4;
/// As many as reach back more than an interval.
const NOTES: usize = 6;

/// Errors and good answers up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// Errors so far.
    pub errors: u64,
    /// Good answers so far, in the lower 32 bits, which wrap around: in the upper half of the gauge VMs test whether Envoy
    /// keeps it.
    pub good: u64,
}

/// What one worker has noted of one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorRate {
    notes: [Option<Note>; NOTES],
    next: usize,
}

impl ErrorRate {
    /// Whether it is time for a note.
    pub fn is_due(&self, interval: Millis, now: Instant) -> bool {
        let last = self.notes.iter().flatten().map(|note| note.at).max();
        // A clock that was wrong once does not stop the notes.
        last.is_none_or(|last| now.0.abs_diff(last.0) >= interval.0 / STEPS)
    }

    /// Takes a note.
    pub fn note(&mut self, note: Note) {
        if let Some(place) = self.notes.get_mut(self.next) {
            *place = Some(note);
        }
        self.next = self.next.saturating_add(1) % NOTES;
    }

    /// Whether errors are at least `percent` of the answers from a note that is an interval old up to this one.
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
