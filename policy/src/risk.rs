//! When a request may be sent though no cluster of the peer is known: a VirtualService of the peer's host can lead to a
//! cluster of any name. Where none does, that request is lost, so there are few: the first after [`FIRST`], or at
//! once where home is ejected and there is little to lose; the next after [`AGAIN`], then after twice the time.

use super::time::{Instant, Millis};

/// From the first request that found no cluster to the first that is sent all the same.
pub const FIRST: Millis = Millis::seconds(5);
/// From that one to the second.
pub const AGAIN: Millis = Millis::seconds(30);
/// How often that time is doubled.
const DOUBLINGS: u8 = 4;
/// The longest time between two: 8 minutes.
const MOST: Millis = AGAIN.times(1 << DOUBLINGS);

/// What all workers of the proxy share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// From when on one may be sent.
    pub next: Instant,
    /// Those that were sent.
    pub sent: u8,
}

impl Turn {
    /// Before the first.
    pub fn first(now: Instant) -> Turn {
        Turn {
            next: now.after(FIRST),
            sent: 0,
        }
    }

    /// After a request is sent now; `None` if it may not be. `read` tells that it can be repeated: where none that can
    /// took the turn for [`AGAIN`], any may.
    pub fn take(self, now: Instant, home_is_ejected: bool, read: bool) -> Option<Turn> {
        let from = if home_is_ejected && self.sent == 0 {
            Instant::default()
        } else if read || home_is_ejected {
            self.next
        } else {
            self.next.after(AGAIN)
        };
        // Other modules of the proxy can write what is shared, and may not stop it for good.
        let far = from.since(now) > MOST.times(2);
        (now >= from || far).then(|| Turn {
            next: now.after(AGAIN.times(1 << self.sent.min(DOUBLINGS))),
            sent: self.sent.saturating_add(1),
        })
    }

    /// As it is shared.
    pub fn to_bytes(self) -> [u8; 8] {
        (self.next.0 << 8 | u64::from(self.sent)).to_le_bytes()
    }

    /// `None` if these are not a turn's.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Turn> {
        let packed = u64::from_le_bytes(bytes.try_into().ok()?);
        Some(Turn {
            next: Instant(packed >> 8),
            sent: packed as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_800_000_000);

    /// The seconds of the first hour at which requests are sent, where one of this kind asks in every second.
    fn sent(home_is_ejected: bool, read: bool) -> Vec<u64> {
        let mut turn = Turn::first(NOW);
        let mut sent = Vec::new();
        for second in 0..3600 {
            if let Some(taken) =
                turn.take(NOW.after(Millis::seconds(second)), home_is_ejected, read)
            {
                turn = taken;
                sent.push(second);
            }
        }
        sent
    }

    #[test]
    fn few_requests_are_at_risk_and_ever_fewer() {
        let expected = [5, 35, 95, 215, 455, 935, 1415, 1895, 2375, 2855, 3335];
        assert_eq!(sent(false, true), expected);
    }

    #[test]
    fn where_home_is_ejected_the_first_goes_at_once_and_the_others_no_sooner() {
        for read in [false, true] {
            let sent = sent(true, read);
            assert_eq!(sent.first_chunk(), Some(&[0, 30, 90, 210, 450]));
        }
    }

    #[test]
    fn a_write_is_at_risk_only_where_no_read_comes() {
        assert_eq!(sent(false, false).first_chunk(), Some(&[35, 95, 185]));
    }

    #[test]
    fn a_turn_that_is_far_away_stops_nothing_for_good() {
        let turn = Turn {
            next: NOW.after(MOST),
            sent: 9,
        };
        assert_eq!(turn.take(NOW, false, true), None);
        let before = Instant(NOW.0 - MOST.0 - 1);
        assert!(turn.take(before, false, true).is_some());
    }

    #[test]
    fn a_turn_is_read_as_it_was_written_and_nothing_else_is_one() {
        let turn = Turn { next: NOW, sent: 3 };
        assert_eq!(Turn::from_bytes(turn.to_bytes().into()), Some(turn));
        for bytes in [vec![], vec![1], vec![0; 9]] {
            assert_eq!(Turn::from_bytes(bytes), None);
        }
    }
}
