//! How many requests a service had in flight, second by second of a run. Pure functions.

use std::time::Duration;

/// The most in flight in each of so many seconds, of changes in the order of time: since when, from the start of the run,
/// there were how many. What was in flight when a second began counts in it too.
pub fn most_per_second(changes: &[(Duration, u64)], seconds: usize) -> Vec<u64> {
    let mut most = vec![0; seconds];
    let mut now = 0;
    let mut second = 0;
    for &(at, n) in changes {
        // A change after the end of the run is the last second's, so that none is lost.
        let of = (at.as_secs() as usize).min(seconds.saturating_sub(1));
        while second < of {
            second += 1;
            raise(&mut most, second, now);
        }
        now = n;
        raise(&mut most, of, now);
    }
    for later in most.iter_mut().skip(second + 1) {
        *later = now;
    }
    most
}

fn raise(most: &mut [u64], second: usize, n: u64) {
    if let Some(most) = most.get_mut(second) {
        *most = n.max(*most);
    }
}

/// The changes, of the times at which each request came and was done. Where one is done as another comes, they were not
/// in flight together.
pub fn changes(requests: &[(Duration, Duration)]) -> Vec<(Duration, u64)> {
    // One that came and was done within the clock's tick would be done first.
    let requests = requests.iter().filter(|(came, done)| came < done);
    let both = requests.flat_map(|&(came, done)| [(came, true), (done, false)]);
    let mut events: Vec<(Duration, bool)> = both.collect();
    // Those that are done first.
    events.sort_unstable();
    let level = events.into_iter().scan(0_u64, |now, (at, came)| {
        *now = if came {
            *now + 1
        } else {
            now.saturating_sub(1)
        };
        Some((at, *now))
    });
    level.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_second_has_the_most_that_it_began_with_or_that_came_in_it() {
        let changes = [
            (ms(100), 1),
            (ms(300), 3),
            (ms(400), 2),
            // Two go on over all of the next second.
            (ms(2_500), 1),
            (ms(2_600), 0),
            (ms(4_100), 1),
        ];
        assert_eq!(most_per_second(&changes, 6), [3, 2, 2, 0, 1, 1]);
        assert_eq!(most_per_second(&[], 2), [0, 0]);
        assert!(most_per_second(&changes, 0).is_empty());
    }

    #[test]
    fn what_comes_after_the_end_is_not_lost() {
        assert_eq!(most_per_second(&[(ms(2_010), 4)], 2), [0, 4]);
        let changes = [(ms(500), 1), (ms(2_010), 0)];
        assert_eq!(most_per_second(&changes, 2), [1, 1]);
    }

    #[test]
    fn requests_that_follow_each_other_are_not_in_flight_together() {
        let requests = [(ms(100), ms(200)), (ms(0), ms(100)), (ms(150), ms(180))];
        let levels: Vec<u64> = changes(&requests).iter().map(|c| c.1).collect();
        assert_eq!(levels, [1, 0, 1, 2, 1, 0]);
        assert!(changes(&[(ms(5), ms(5))]).is_empty());
    }
}
