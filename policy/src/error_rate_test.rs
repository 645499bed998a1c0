use super::*;

/// All times are in milliseconds.
const INTERVAL: u64 = 4_000;
const TURN: u64 = super::TURN.0;
/// The longest stretch that is looked at: a note each quarter of an interval, at the next turn.
const LONGEST: u64 = INTERVAL + INTERVAL / STEPS + TURN;
// What the README says of intervals of four seconds and longer.
const _: () = assert!(LONGEST * 2 <= INTERVAL * 3);

/// A service and what one worker notes of it.
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

    /// An error: whether errors are half of the answers now.
    fn errs(&mut self) -> bool {
        self.now.errors += 1;
        self.share.reached(50, Millis(INTERVAL), self.now)
    }
}

#[test]
fn of_no_percent_any_error_is_enough() {
    assert!(ErrorRate::default().reached(0, Millis(INTERVAL), Note::default()));
}

#[test]
fn nothing_is_reached_before_an_interval_was_seen() {
    let mut world = World::default();
    world.until(TURN);
    world.until(TURN + INTERVAL - 1);
    assert!((0..100).all(|_| !world.errs()));
    world.until(TURN + INTERVAL);
    assert!(world.errs());
}

#[test]
fn a_burst_of_a_minority_is_never_enough() {
    let mut world = World::default();
    world.until(10_000);
    for second in 0..20 {
        // Fifty good answers a second, and errors at once, so few that two bursts are a minority of a second's answers.
        for answer in 0..50 {
            world.until(10_000 + second * 1_000 + answer * 20);
            world.now.good += 1;
        }
        assert!((0..24).all(|_| !world.errs()), "{second}");
    }
}

/// At whatever moment between two notes it begins: with so many errors as are answers in three quarters of an interval.
#[test]
fn a_real_failure_reaches_half_within_three_quarters_of_an_interval() {
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
fn a_test_whether_the_gauge_is_kept_is_no_good_answer_and_a_count_that_wraps_goes_on() {
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
        /// Where it is reached, errors were half of the answers in some stretch up to then that was an interval long, and not
        /// much longer. So a minority of each such stretch never reaches it.
        #[test]
        fn what_is_less_than_half_of_each_stretch_never_reaches_half(
            answers in prop::collection::vec((0u64..1_600, 0u8..4), 1..400),
            burst in 1u64..20,
        ) {
            let mut world = World::default();
            let mut all: Vec<(u64, bool)> = Vec::new();
            let mut now = 0;
            for (wait, what) in answers {
                // Many at once, in between.
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
