//! When the log gets a line about a condition: one when the condition begins, and one when it ends.
//!
//! All workers of the proxy share one [`Notice`] for each condition, and change it by compare-and-swap. The worker whose
//! change succeeds writes the line that belongs to it, so each line is written once.
//!
//! **Invariants.**
//! - There is at most one line in [`MINUTE`] that a condition begins, and at most one that it ends.
//! - These lines alternate: there is no line that a condition ends without a line before that it began.
//! - A line that must wait for the minute to pass is written later if it is still true ([`Notice::due`]).
//! - A condition that continues causes no more lines.
//! - A notice recovers from wrong bytes, because other Wasm modules of the proxy can write shared data. A time in the
//!   future counts as one long ago.

use super::time::{Instant, Millis};

/// The shortest time between two lines that a condition begins, or two that it ends: 60 seconds.
pub const MINUTE: Millis = Millis::seconds(60);
/// The time since a condition was last seen after which any good event ends it: 5 minutes. See [`Notice::ends`].
pub const LONG: Millis = Millis::seconds(300);
/// The shortest time between two changes that only say that a condition continues: 1 second.
pub const AGAIN: Millis = Millis::seconds(1);

const NEVER: Instant = Instant(0);

/// The state of a condition in one proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notice {
    /// The condition holds now.
    pub stands: bool,
    /// The last line said that the condition begins.
    told: bool,
    /// The moments of the last lines that it ends and that it begins. [`NEVER`] if there was none.
    lines: [Instant; 2],
    /// The moment when the condition was last seen.
    seen: Instant,
    /// The subject of which the condition was last seen, for example one of several routes: a hash that the caller chooses,
    /// or 0.
    pub of: u64,
}

/// What the caller must do about the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Write it now.
    Write,
    /// Call [`Notice::due`] at this moment.
    Later(Instant),
    /// There is no line.
    Nothing,
}

/// The notice after a change, and what to do about the line. `None` if nothing changes.
pub type Change = Option<(Notice, Line)>;

impl Notice {
    /// The change after the condition was seen at `now`, of the subject `of`.
    #[inline(never)]
    pub fn begins(&self, of: u64, now: Instant) -> Change {
        let mut next = *self;
        (next.stands, next.of, next.seen) = (true, of, now);
        let line = next.tell(now);
        let known = self.stands && line != Line::Write && self.age(now) < AGAIN;
        (!known).then_some((next, line))
    }

    /// The change after a good event of the subject `of` at `now`. It ends the condition only if that was last seen at
    /// least `settle` ago, and of the same subject or at least [`LONG`] ago.
    #[inline(never)]
    pub fn ends(&self, of: u64, settle: Millis, now: Instant) -> Change {
        let age = self.age(now);
        if !self.stands || age < settle || (of != self.of && age < LONG) {
            return None;
        }
        let mut next = *self;
        next.stands = false;
        let line = next.tell(now);
        Some((next, line))
    }

    /// The notice without the condition, and without a line about its end. `None` if the condition does not hold.
    pub fn forgotten(&self) -> Option<Notice> {
        self.stands.then_some(Notice {
            stands: false,
            told: false,
            ..*self
        })
    }

    /// The notice after a delayed line is written at `now`. `None` if the line must not be written. The line says that the
    /// condition begins (`stands`) or ends.
    pub fn due(&self, stands: bool, now: Instant) -> Option<Notice> {
        let mut next = *self;
        (self.stands == stands && next.tell(now) == Line::Write).then_some(next)
    }

    /// The notice with another subject.
    pub fn with(&self, of: u64) -> Notice {
        Notice { of, ..*self }
    }

    /// The time since the condition was last seen.
    fn age(&self, now: Instant) -> Millis {
        // No correct change writes a moment in the future.
        if self.seen > now {
            LONG
        } else {
            now.since(self.seen)
        }
    }

    /// What to do about the line. If it is to be written, notes that it is.
    fn tell(&mut self, now: Instant) -> Line {
        if self.stands == self.told {
            return Line::Nothing;
        }
        let [ended, begun] = &mut self.lines;
        let last = if self.stands { begun } else { ended };
        let next = last.after(MINUTE);
        if *last != NEVER && *last <= now && now < next {
            return Line::Later(next);
        }
        *last = now.max(Instant(1));
        self.told = self.stands;
        Line::Write
    }

    /// The notice as bytes, for shared data.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [ended, begun] = self.lines;
        let flags = u64::from(self.stands) | u64::from(self.told) << 1;
        bytes([flags, ended.0, begun.0, self.seen.0, self.of])
    }

    /// The notice from its bytes. Bytes that are missing count as 0, so empty bytes are a condition that was never seen.
    pub fn from_bytes(bytes: &[u8]) -> Notice {
        let mut words = words(bytes);
        let mut next = || words.next().unwrap_or(0);
        let flags = next();
        Notice {
            stands: flags & 1 != 0,
            told: flags & 2 != 0,
            lines: [Instant(next()), Instant(next())],
            seen: Instant(next()),
            of: next(),
        }
    }
}

/// Whether a text is logged that must be in the log at most once in [`MINUTE`]. `text` is a hash of it, and `last` the
/// shared bytes about the last text. Returns the new shared bytes. `None` if the last text is the same, and was logged less
/// than [`MINUTE`] ago.
#[inline(never)]
pub fn once(last: &[u8], text: u64, now: Instant) -> Option<Vec<u8>> {
    let mut words = words(last);
    let same = words.next() == Some(text);
    let at = words.next().map(Instant).filter(|at| *at <= now);
    let known = same && at.is_some_and(|at| now.since(at) < MINUTE);
    (!known).then(|| bytes([text, now.0]))
}

/// The subject of the notice about dead VMs: how many died, and how many had joined before the first of them died.
///
/// All VMs of a proxy are numbered in the order in which they join, so the number of VMs that joined since is known. It is
/// not known which of them replaces which dead one, so only their number is compared.
///
/// **Invariant: a VM that replaces a dead one joined after the number of VMs that is noted for that death.** Otherwise the
/// notice waits for a VM that never joins.
pub mod deaths {
    /// The subject `of` after one more death, before which `joined` VMs had joined. `stands` says whether earlier deaths
    /// are not yet replaced.
    pub fn another(of: u64, stands: bool, joined: u32) -> u64 {
        let (before, died) = parts(of);
        let (before, died) = if stands {
            // Deaths are not found in the order in which the VMs died.
            (before.min(joined.into()), died.saturating_add(1))
        } else {
            // The VMs that replaced earlier dead ones do not count for this death.
            (before.saturating_add(died).max(joined.into()), 1)
        };
        before << 32 | died
    }

    /// The subject `of`, if as many VMs have joined since the first death as have died. `None` otherwise. `joined` is the
    /// number of VMs that have joined so far.
    pub fn all_replaced(of: u64, joined: u32) -> Option<u64> {
        let (before, died) = parts(of);
        (u64::from(joined) >= before.saturating_add(died)).then_some(of)
    }

    fn parts(of: u64) -> (u64, u64) {
        (of >> 32, of & u64::from(u32::MAX))
    }

    /// The beats of other VMs that one VM has seen, and the number of VMs that had joined before the last beat of each.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Beaten {
        /// The number of VMs that had joined at the look before, and at this look.
        looks: [u32; 2],
        slots: Vec<Beat>,
    }

    /// The last beat of the owner of a slot, and the number of VMs that had joined before it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    struct Beat {
        owner: u32,
        beat: u64,
        before: u32,
    }

    impl Beaten {
        /// Begins a look at all slots, at which `joined` VMs have joined.
        pub fn tick(&mut self, joined: u32) {
            let [_, before] = self.looks;
            self.looks = [before, joined];
        }

        /// The number of VMs that had certainly joined before the last beat of the owner of `slot`, by what was seen at
        /// this look: its `owner`, and the value of its `beat`. An owner that has beaten since the look before may have
        /// died since then, and may already be replaced. The replacement joined after the look before, so the number is the
        /// one at that look. An owner that is seen for the first time counts as not yet replaced: all VMs join at once when
        /// the proxy starts, and Envoy does not replace a VM that is younger than a second.
        #[inline(never)]
        pub fn before(&mut self, slot: usize, owner: u32, beat: u64) -> u32 {
            if self.slots.len() <= slot {
                self.slots.resize(slot.saturating_add(1), Beat::default());
            }
            let [last, joined] = self.looks;
            let Some(seen) = self.slots.get_mut(slot) else {
                return last;
            };
            let before = match (seen.owner == owner, seen.beat == beat) {
                (false, _) => joined,
                (true, false) => last,
                (true, true) => seen.before,
            };
            *seen = Beat {
                owner,
                beat,
                before,
            };
            before
        }
    }
}

/// The hash of bytes by FNV-1a with 64 bits. Two texts with the same hash are treated as the same text.
#[inline(never)]
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
}

fn bytes<const N: usize>(words: [u64; N]) -> Vec<u8> {
    words.map(u64::to_le_bytes).as_flattened().to_vec()
}

#[cfg(test)]
#[path = "notice_test.rs"]
mod tests;
