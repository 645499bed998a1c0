//! When the log has a line about a condition: one when it begins, and one when it ends.
//!
//! All workers of the proxy share one [`Notice`] for each condition, and change it by compare-and-swap: whoever carries a
//! change out writes the line that it asks for, so each line is written once.
//!
//! **Invariants.**
//! - Of the lines that say that one condition begins, there is at most one in [`MINUTE`]; the same of those that say that it
//!   ends.
//! - The two alternate: there is no line that it ends without a line that it began.
//! - Where the minute kept a line from being written, it is written later if it is still true: [`Notice::due`].
//! - A condition that stands asks for no more lines.
//! - A notice heals: other Wasm modules of the proxy can write shared data. A time that is yet to come counts as long over.

use super::time::{Instant, Millis};

/// The shortest time between two lines of one kind.
pub const MINUTE: Millis = Millis::seconds(60);
/// How long a condition is not seen until it ends by whatever good is seen: see [`Notice::ends`].
pub const LONG: Millis = Millis::seconds(300);
/// The shortest time between two writes that only say that a condition still stands.
pub const AGAIN: Millis = Millis::seconds(1);

const NEVER: Instant = Instant(0);

/// What is known of a condition in one proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notice {
    /// It is so now.
    pub stands: bool,
    /// The last line said that it is so.
    told: bool,
    /// When the last line of each kind was written: that it ends, that it begins. [`NEVER`] if there was none.
    lines: [Instant; 2],
    /// When it was last seen.
    seen: Instant,
    /// Of what it was last seen: a hash that the caller chooses, or 0.
    pub of: u64,
}

/// What is to be done about the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Write it.
    Write,
    /// Ask [`Notice::due`] again at this time.
    Later(Instant),
    /// There is none.
    Nothing,
}

/// What is known after a change, and what to do about the line; `None` if nothing changes.
pub type Change = Option<(Notice, Line)>;

impl Notice {
    /// After the condition was seen, where that changes anything.
    #[inline(never)]
    pub fn begins(&self, of: u64, now: Instant) -> Change {
        let mut next = *self;
        (next.stands, next.of, next.seen) = (true, of, now);
        let line = next.tell(now);
        let known = self.stands && line != Line::Write && self.age(now) < AGAIN;
        (!known).then_some((next, line))
    }

    /// After something was seen that ends it, where that changes anything. Not within `settle` after it was last seen. What
    /// is good of one `of` does not end what is bad of another, but where that was not seen for [`LONG`].
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

    /// Without the condition, and without a line about it, where it stands.
    pub fn forgotten(&self) -> Option<Notice> {
        self.stands.then_some(Notice {
            stands: false,
            told: false,
            ..*self
        })
    }

    /// After a line was kept from being written, whether that is to be written now: that the condition `stands`, or that it
    /// does not.
    pub fn due(&self, stands: bool, now: Instant) -> Option<Notice> {
        let mut next = *self;
        (self.stands == stands && next.tell(now) == Line::Write).then_some(next)
    }

    /// The same, seen of this.
    pub fn with(&self, of: u64) -> Notice {
        Notice { of, ..*self }
    }

    /// How long ago it was last seen.
    fn age(&self, now: Instant) -> Millis {
        // No change here could have written a time that is yet to come.
        if self.seen > now {
            LONG
        } else {
            now.since(self.seen)
        }
    }

    /// What to do about the line, and notes that it is done.
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

    /// The notice that these bytes are; that of a condition that was never seen where they are none.
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

/// What is written of a text of this hash that is to be in the log, over what was written of the `last`; `None` if that was the
/// same within [`MINUTE`].
#[inline(never)]
pub fn once(last: &[u8], text: u64, now: Instant) -> Option<Vec<u8>> {
    let mut words = words(last);
    let same = words.next() == Some(text);
    let at = words.next().map(Instant).filter(|at| *at <= now);
    let known = same && at.is_some_and(|at| now.since(at) < MINUTE);
    (!known).then(|| bytes([text, now.0]))
}

/// VMs that died, and how many had come before the first of them did, as what a notice is of.
///
/// All VMs of a proxy are numbered as they come, so those that came since are told by their number. Which of them is in whose
/// place, nobody knows: that there are as many has to do. **Invariant: one that came in the place of a dead VM came after as
/// many as are said to have come before its death.** Otherwise one more is waited for that never comes.
pub mod deaths {
    /// With one more, where `joined` VMs had come before it died.
    pub fn another(of: u64, stands: bool, joined: u32) -> u64 {
        let (before, died) = parts(of);
        let (before, died) = if stands {
            // They are not found in the order in which they died.
            (before.min(joined.into()), died.saturating_add(1))
        } else {
            // Those that came for deaths that are over do not count for this one.
            (before.saturating_add(died).max(joined.into()), 1)
        };
        before << 32 | died
    }

    /// What the notice is of, if as many VMs came since the first died as died.
    pub fn all_replaced(of: u64, joined: u32) -> Option<u64> {
        let (before, died) = parts(of);
        (u64::from(joined) >= before.saturating_add(died)).then_some(of)
    }

    fn parts(of: u64) -> (u64, u64) {
        (of >> 32, of & u64::from(u32::MAX))
    }

    /// What one VM has seen of the beats of others, and how many VMs had come before the last beat of each.
    #[derive(Clone, Debug, Default)]
    pub struct Beaten {
        /// How many had come when it looked before, and when it looks now.
        looks: [u32; 2],
        slots: Vec<Beat>,
    }

    /// The last beat of a slot's owner, and how many had come before it.
    #[derive(Clone, Copy, Debug, Default)]
    struct Beat {
        owner: u32,
        beat: u64,
        before: u32,
    }

    impl Beaten {
        /// It looks at all of them, when `joined` have come.
        pub fn tick(&mut self, joined: u32) {
            let [_, before] = self.looks;
            self.looks = [before, joined];
        }

        /// How many had come before the owner of `slot` beat last. One that beat since the last look may have died since, and
        /// have another in its place: that came after the look before. One that is seen for the first time is taken for one
        /// that has none yet: all come at once when the proxy starts, and Envoy puts none in the place of one that is younger
        /// than a second.
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

/// A hash of bytes: FNV-1a, of 64 bits. Two texts that share one share a line.
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
