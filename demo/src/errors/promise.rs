//! What `cargo demo --errors` promises: clients see as many errors as it takes to eject home, one for each probe that
//! fails, and no other.

use std::time::Duration;

use envoy_test::world::PEER;

use super::{BAR, CONSECUTIVE, INTERVAL};
use crate::course::Course;
use crate::options::Options;
use crate::result::failed_by_status;
use crate::sample::{Answer, Reason, Sample};

/// As many answers without an error, and a worker does not read the status of each any more, but of every fifth.
const CALM: u64 = 1000;

/// Errors that were no probe's.
pub fn before_ejection(samples: &[Sample]) -> u64 {
    let failed = |s: &&Sample| s.answer == Answer::Failed(500) && s.reason != Reason::Probe;
    samples.iter().filter(failed).count() as u64
}

/// The most errors that clients may see before home is ejected: those in a row that eject it; those in flight when it
/// began to fail, of which a good answer may come last and begin the row anew; and those in flight when it was ejected.
/// After a long calm, a worker may not have read as many as one fewer than eject.
fn most_before_ejection(samples: &[Sample], clients: u32, workers: u32) -> u64 {
    let first = samples
        .iter()
        .filter(|s| matches!(s.answer, Answer::Failed(_)));
    let first = first.map(|s| s.sent).min().unwrap_or_default();
    let well = samples.iter().filter(|s| s.sent < first).count() as u64;
    let unread = if well < CALM {
        0
    } else {
        workers * (CONSECUTIVE - 1)
    };
    u64::from(CONSECUTIVE + 2 * (clients - 1) + unread)
}

/// The first promise that was broken, and what was expected.
pub fn broken(
    samples: &[Sample],
    course: &Course,
    clients: u32,
    options: &Options,
) -> Option<String> {
    let homes = |s: &&Sample| matches!(s.reason, Reason::Room | Reason::Probe);
    let failed = |s: &&Sample| matches!(s.answer, Answer::Failed(_));
    let other = |s: &&Sample| s.answer != Answer::Failed(500) || !homes(s);
    let others = samples.iter().filter(failed).filter(other).count();
    if others > 0 {
        let statuses = failed_by_status(samples);
        return Some(format!(
            "{others} requests failed that home did not answer 500 (failed by status: {statuses:?}), and {PEER} was expected to answer all that home did not"
        ));
    }
    let (before, most) = (
        before_ejection(samples),
        most_before_ejection(samples, clients, options.workers),
    );
    if course.ejections.is_empty() {
        return Some(format!(
            "home was never ejected; the clients saw {before} of its 500s, and {CONSECUTIVE} in a row were expected to eject it"
        ));
    }
    if before > most {
        return Some(format!(
            "{before} requests were answered 500 before home was ejected, and at most {most} were expected"
        ));
    }
    let gone = course.trespassers(samples);
    if gone > 0 {
        return Some(format!(
            "{gone} requests went home while it was ejected, and all but probes were expected at {PEER}"
        ));
    }
    let Some(ramp) = course.ramps.last().filter(|_| {
        course
            .ejections
            .last()
            .is_some_and(|e| e.probe == Some(200))
    }) else {
        return Some(
            "home was well again, and no probe found it so before the run's end".to_owned(),
        );
    };
    let back = ramp.from + Duration::from_secs(INTERVAL.into()) + BAR;
    let after: Vec<&Sample> = samples.iter().filter(|s| s.sent > back).collect();
    let away = after.iter().filter(|s| s.answer != Answer::Home).count();
    if after.is_empty() || away > 0 {
        let all = after.len();
        return Some(format!(
            "{away} of {all} requests after the ramp were not answered at home, and home was expected to have all its load back"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn sample(at: u64, answer: Answer, reason: Reason) -> Sample {
        let sent = Duration::from_millis(at);
        Sample {
            sent,
            ended: sent + Duration::from_millis(100),
            answer,
            reason,
        }
    }

    /// One connection, 2 s and 2 s: home is ejected for a second, and for two more after a probe that fails.
    fn run() -> Vec<Sample> {
        use Answer::{Failed, Home, Peer};
        let some = |from: u64, n: u64, answer, reason| {
            (0..n).map(move |i| sample(from + i * 100, answer, reason))
        };
        some(0, 20, Home, Reason::Room)
            .chain(some(2_000, 5, Failed(500), Reason::Room))
            .chain(some(2_500, 10, Peer, Reason::Ejected))
            .chain(some(3_510, 1, Failed(500), Reason::Probe))
            .chain(some(3_620, 19, Peer, Reason::Ejected))
            .chain(some(5_520, 1, Home, Reason::Probe))
            .chain(some(5_630, 18, Peer, Reason::Ramp))
            .chain(some(7_640, 13, Home, Reason::Room))
            .collect()
    }

    fn broken(samples: &[Sample]) -> Option<String> {
        let options = [
            "demo",
            "--errors",
            "--clients",
            "1",
            "--seconds",
            "2",
            "--ejection",
            "1s",
        ];
        super::broken(
            samples,
            &Course::of(samples),
            1,
            &Options::parse_from(options),
        )
    }

    #[test]
    fn a_broken_promise_is_named() {
        use Answer::{Failed, Home};
        assert_eq!(broken(&run()), None);
        for (more, said) in [
            (
                sample(2_700, Failed(503), Reason::Ejected),
                "1 requests failed that home did not",
            ),
            (
                sample(2_700, Failed(500), Reason::Ejected),
                "1 requests failed that home did not",
            ),
            (
                sample(2_450, Failed(500), Reason::Room),
                "6 requests were answered 500 before home was ejected, and at most 5",
            ),
            (
                sample(3_000, Home, Reason::Room),
                "1 requests went home while it was ejected",
            ),
            (sample(8_500, Answer::Peer, Reason::Ramp), "1 of "),
        ] {
            let broken = broken(&[run(), vec![more]].concat()).unwrap_or_default();
            assert!(broken.contains(said), "{said}: {broken}");
        }
        for (sent, said) in [
            (25, "never ejected; the clients saw 5"),
            (40, "no probe found it so"),
        ] {
            let broken = broken(&run()[..sent]).unwrap_or_default();
            assert!(broken.contains(said), "{said}: {broken}");
        }
    }

    #[test]
    fn a_long_calm_hides_a_few_errors_more() {
        assert_eq!(most_before_ejection(&run(), 3, 2), 9);
        let calm: Vec<Sample> = (0..1000)
            .map(|n| sample(n, Answer::Home, Reason::Room))
            .collect();
        let failed = vec![sample(1_001, Answer::Failed(500), Reason::Room)];
        assert_eq!(most_before_ejection(&[calm, failed].concat(), 3, 2), 17);
    }
}
