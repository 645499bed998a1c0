//! When a request may be sent although no cluster of the peer is known. A VirtualService of the peer's host can lead to a
//! cluster with any name, so such a request may arrive. Otherwise it is lost, and is called a request at risk. So there are
//! few: the first one after [`FIRST`], or at once if home is ejected, because home would probably fail it too; the second
//! one [`AGAIN`] later; and each further one after twice the time, up to 8 minutes.

use super::time::{Instant, Millis};

/// The time from the first request that found no cluster to the first request at risk.
pub const FIRST: Millis = Millis::seconds(5);
/// The time from the first request at risk to the second.
pub const AGAIN: Millis = Millis::seconds(30);
/// How often this time is doubled.
const DOUBLINGS: u8 = 4;
/// The longest time between two requests at risk: 8 minutes.
const MOST: Millis = AGAIN.times(1 << DOUBLINGS);

/// When the next request at risk may be sent. All workers of the proxy share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The moment from which the next request may be sent.
    pub next: Instant,
    /// The number of requests that were sent, at most 255.
    pub sent: u8,
}

impl Turn {
    /// The turn before the first request at risk, if no cluster was found at `now`.
    pub fn first(now: Instant) -> Turn {
        Turn {
            next: now.after(FIRST),
            sent: 0,
        }
    }

    /// The turn after a request that is sent at `now`. `None` if the request must not be sent. `read` says that it can be
    /// repeated without harm (a GET or HEAD without a body). Another request may be sent only if no such request has come
    /// for [`AGAIN`].
    pub fn take(self, now: Instant, home_is_ejected: bool, read: bool) -> Option<Turn> {
        let from = if home_is_ejected && self.sent == 0 {
            Instant::default()
        } else if read || home_is_ejected {
            self.next
        } else {
            self.next.after(AGAIN)
        };
        // Other modules of the proxy can write shared data, and must not be able to stop it for ever.
        let far = from.since(now) > MOST.times(2);
        (now >= from || far).then(|| Turn {
            next: now.after(AGAIN.times(1 << self.sent.min(DOUBLINGS))),
            sent: self.sent.saturating_add(1),
        })
    }

    /// The turn as bytes, for shared data.
    pub fn to_bytes(self) -> [u8; 8] {
        (self.next.0 << 8 | u64::from(self.sent)).to_le_bytes()
    }

    /// The turn from its bytes. `None` if there are not 8.
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

    /// The seconds of the first hour in which a request is sent, if a request of this kind comes in each second.
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
    fn the_times_between_requests_at_risk_double_up_to_eight_minutes() {
        let expected = [5, 35, 95, 215, 455, 935, 1415, 1895, 2375, 2855, 3335];
        assert_eq!(sent(false, true), expected);
    }

    #[test]
    fn if_home_is_ejected_the_first_request_goes_at_once_and_the_others_at_the_same_times() {
        for read in [false, true] {
            let sent = sent(true, read);
            assert_eq!(sent.first_chunk(), Some(&[0, 30, 90, 210, 450]));
        }
    }

    #[test]
    fn a_request_that_cannot_be_repeated_waits_for_another_half_minute() {
        assert_eq!(sent(false, false).first_chunk(), Some(&[35, 95, 185]));
    }

    #[test]
    fn a_turn_in_the_far_future_is_ignored() {
        let turn = Turn {
            next: NOW.after(MOST),
            sent: 9,
        };
        assert_eq!(turn.take(NOW, false, true), None);
        let before = Instant(NOW.0 - MOST.0 - 1);
        assert!(turn.take(before, false, true).is_some());
    }

    #[test]
    fn a_turn_is_the_same_after_writing_and_reading_and_other_bytes_are_refused() {
        let turn = Turn { next: NOW, sent: 3 };
        assert_eq!(Turn::from_bytes(turn.to_bytes().into()), Some(turn));
        for bytes in [vec![], vec![1], vec![0; 9]] {
            assert_eq!(Turn::from_bytes(bytes), None);
        }
    }
}
