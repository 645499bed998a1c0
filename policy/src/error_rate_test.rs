use super::*;

/// All times are in milliseconds.
const INTERVAL: u64 = 4_000;
const TURN: u64 = super::TURN.0;
/// The longest period that is compared: a note is due each quarter of an interval, and is made at the next turn.
const LONGEST: u64 = INTERVAL + INTERVAL / STEPS + TURN;
// docs/home-failure.md says that the period is at most 1.5 intervals if an interval is four seconds or longer.
const _: () = assert!(LONGEST * 2 <= INTERVAL * 3);

/// A service and the notes of one worker about it.
#[derive(Default)]
struct World {
    share: ErrorRate,
    now: Note,
}

impl World {
    /// Lets time pass.
    fn until(&mut self, at: u64) {
        for turn in self.now.at.0 / TURN + 1..=at / TURN {
            self.now.at = Instant(turn * TURN);
            if self.share.is_due(Millis(INTERVAL), self.now.at) {
                self.share.note(self.now);
            }
        }
        self.now.at = Instant(at);
    }

    /// Adds an error. Returns whether errors are half of the answers now.
    fn errs(&mut self) -> bool {
        self.now.errors += 1;
        self.share.reached(50, Millis(INTERVAL), self.now)
    }
}

#[test]
fn zero_percent_is_always_reached() {
    assert!(ErrorRate::default().reached(0, Millis(INTERVAL), Note::default()));
}

#[test]
fn the_percentage_is_not_reached_before_the_first_note_is_an_interval_old() {
    let mut world = World::default();
    world.until(TURN);
    world.until(TURN + INTERVAL - 1);
    assert!((0..100).all(|_| !world.errs()));
    world.until(TURN + INTERVAL);
    assert!(world.errs());
}

#[test]
fn bursts_that_are_less_than_half_of_the_answers_never_reach_half() {
    let mut world = World::default();
    world.until(10_000);
    for second in 0..20 {
        // Each second has fifty good answers, and 24 errors at once, so that two bursts are less than half of a second's
        // answers.
        for answer in 0..50 {
            world.until(10_000 + second * 1_000 + answer * 20);
            world.now.good += 1;
        }
        assert!((0..24).all(|_| !world.errs()), "{second}");
    }
}

/// It needs as many errors as there are answers in half to three quarters of an interval, whenever the failure begins
/// between two notes.
#[test]
fn a_complete_failure_reaches_half_within_three_quarters_of_an_interval() {
    for begin in (10_000..11_000).step_by(10) {
        let mut world = World::default();
        for at in (0..begin).step_by(10) {
            world.until(at);
            world.now.good += 1;
        }
        let errors = (begin..).step_by(10).take_while(|at| {
            world.until(*at);
            !world.errs()
        });
        let errors = errors.count();
        assert!((200..=300).contains(&errors), "{begin}: {errors}");
    }
}

#[test]
fn a_clock_that_was_wrong_once_does_not_stop_the_notes() {
    let mut world = World::default();
    world.until(1_000);
    world.share.note(Note {
        at: Instant(u64::MAX),
        ..Note::default()
    });
    world.until(10_000);
    assert!(world.errs());
}

#[test]
fn only_the_lower_32_bits_of_the_good_answers_count_and_they_may_wrap_around() {
    const PROBE: u64 = 1 << 32;
    for (since, now) in [
        (PROBE, 60),
        (0, PROBE + 60),
        (PROBE - 10, PROBE + 50),
        (PROBE - 10, 50),
    ] {
        let mut share = ErrorRate::default();
        share.note(Note {
            at: Instant(0),
            errors: 0,
            good: since,
        });
        let now = |errors| Note {
            at: Instant(INTERVAL),
            errors,
            good: now,
        };
        assert!(!share.reached(50, Millis(INTERVAL), now(59)), "{since}");
        assert!(share.reached(50, Millis(INTERVAL), now(60)), "{since}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// If the percentage is reached, errors were half of the answers in some period up to that moment, of one interval
        /// to the longest period. So errors that are less than half of each such period never reach it.
        #[test]
        fn errors_that_are_less_than_half_of_each_period_never_reach_half(
            answers in prop::collection::vec((0u64..1_600, 0u8..4), 1..400),
            burst in 1u64..20,
        ) {
            let mut world = World::default();
            let mut all: Vec<(u64, bool)> = Vec::new();
            let mut now = 0;
            for (wait, what) in answers {
                // Some answers come many at once.
                now += if what == 0 { wait } else { wait / burst };
                world.until(now);
                let good = what > 1;
                all.push((now, good));
                if good {
                    world.now.good += 1;
                } else if world.errs() {
                    let half = (INTERVAL..=LONGEST).any(|long| {
                        let Some(since) = now.checked_sub(long) else { return false };
                        let stretch = all.iter().filter(|(at, _)| *at >= since);
                        let (mut of, mut errors) = (0, 0);
                        for (_, good) in stretch {
                            of += 1;
                            errors += u32::from(!good);
                        }
                        2 * errors >= of
                    });
                    prop_assert!(half, "{all:?}");
                }
            }
        }
    }
}
