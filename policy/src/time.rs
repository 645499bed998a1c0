//! Times of the monotonic clock that all decisions use. It counts milliseconds, never goes back, and is the same for all
//! workers of a process. Its beginning has no meaning.

/// A duration, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// A duration of this many seconds, at most `u64::MAX` milliseconds.
    pub const fn seconds(seconds: u64) -> Millis {
        Millis(seconds.saturating_mul(1_000))
    }

    /// The duration multiplied by `n`, at most `u64::MAX` milliseconds.
    pub const fn times(self, n: u64) -> Millis {
        Millis(self.0.saturating_mul(n))
    }
}

/// A moment, in milliseconds of this clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The moment that is `time` later, at most `u64::MAX`.
    pub const fn after(self, time: Millis) -> Instant {
        Instant(self.0.saturating_add(time.0))
    }

    /// The moment that is `time` earlier, at least 0.
    pub const fn before(self, time: Millis) -> Instant {
        Instant(self.0.saturating_sub(time.0))
    }

    /// The time from `earlier` to this moment. It is 0 if `earlier` is later than this moment.
    pub const fn since(self, earlier: Instant) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}
