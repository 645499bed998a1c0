//! From single requests to what is written in `target/demo/result.json`: pure functions over samples.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use super::sample::{Answer, Counts, Sample};

/// A stretch of the run with a constant number of connections. A request belongs to the phase in which it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Parallel connections
    pub clients: u32,
    /// Length
    pub seconds: u32,
    /// Who answered
    #[serde(flatten)]
    pub counts: Counts,
    /// How long clients waited for home's answers, on average; null where there was none. Who waits sends its next request
    /// later, so there are fewer
    pub mean_ms_at_home: Option<u64>,
}

/// One run: with the filter, or without.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// How many requests may be in flight at home
    pub limit: u32,
    /// In the order of time
    pub phases: Vec<Phase>,
    /// Over all phases
    pub totals: Totals,
    /// By the second in which a request was sent
    pub per_second: Vec<Counts>,
    /// The most requests that home had in flight in each second, as home counted them
    pub most_in_flight_per_second: Vec<u64>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Who answered
    #[serde(flatten)]
    pub counts: Counts,
    /// The failed ones by their status; 0 where there was no whole answer
    pub failed_by_status: BTreeMap<u16, u64>,
    /// The most requests that home had in flight at once, as home counted them
    pub most_in_flight_at_home: u64,
    /// From the last change of the load until the last answer that was not home's; null where nothing left home, home
    /// has no room for the last phase, or the load never changes
    pub seconds_until_all_home: Option<f64>,
}

/// The whole of `result.json`: the run with the filter, and beside it the origin's set-up without.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the home cluster
    pub home: String,
    /// Name of the peer cluster
    pub peer: String,
    /// The filter's `routing`
    pub routing: String,
    /// Worker threads of home's Envoy
    pub workers: u32,
    /// With the filter
    #[serde(flatten)]
    pub filter: Run,
    /// The set-up of 2020
    pub without_filter: Run,
}

impl Report {
    /// Why the run with the filter is not what was promised, in one line; `None` where it is.
    pub fn broken_promise(&self) -> Option<String> {
        let totals = &self.filter.totals;
        if totals.counts.failed > 0 {
            return Some(format!(
                "{} requests failed with the filter, and none should",
                totals.counts.failed
            ));
        }
        let (most, limit) = (totals.most_in_flight_at_home, self.filter.limit);
        if most > u64::from(limit) {
            return Some(format!(
                "home had {most} requests in flight, and the limit is {limit}"
            ));
        }
        if totals.counts.home == 0 {
            return Some("home answered nothing with the filter".to_owned());
        }
        None
    }
}

/// The limits of the set-up of 2020.
pub const LIMIT_OF_2020: u32 = 1;

/// Makes a [`Run`] of its samples. `clients` and `seconds` are the phases as they were run, `limit` is home's, and
/// `most_in_flight_per_second` what home counted.
pub fn run(
    samples: &[Sample],
    clients: &[u32],
    seconds: u32,
    limit: u32,
    most_in_flight_per_second: Vec<u64>,
) -> Run {
    let all = clients.len() * seconds as usize;
    let per_second = Counts::over_time(samples, all, Duration::from_secs(1));
    let failed_by_status = failed_by_status(samples);
    let phases = clients
        .iter()
        .zip(per_second.chunks(seconds.max(1) as usize))
        .enumerate()
        .map(|(nth, (&clients, of_phase))| Phase {
            clients,
            seconds,
            counts: sum(of_phase),
            mean_ms_at_home: mean_ms_at_home(samples, nth as u64, seconds),
        })
        .collect();
    let totals = Totals {
        counts: Counts::of(samples),
        failed_by_status,
        most_in_flight_at_home: most_in_flight_per_second.iter().copied().max().unwrap_or(0),
        seconds_until_all_home: until_all_home(samples, clients, seconds, limit),
    };
    Run {
        limit,
        phases,
        totals,
        per_second,
        most_in_flight_per_second,
    }
}

/// Of the requests that were sent in the phase of this number.
fn mean_ms_at_home(samples: &[Sample], phase: u64, seconds: u32) -> Option<u64> {
    let of_phase = |s: &&Sample| s.sent.as_secs() / u64::from(seconds.max(1)) == phase;
    let home = samples.iter().filter(|s| s.answer == Answer::Home);
    let waited = |s: &Sample| s.ended.saturating_sub(s.sent).as_millis() as u64;
    let all: Vec<u64> = home.filter(of_phase).map(waited).collect();
    all.iter().sum::<u64>().checked_div(all.len() as u64)
}

/// The failed ones by their status; 0 where there was no whole answer.
pub fn failed_by_status(samples: &[Sample]) -> BTreeMap<u16, u64> {
    let mut by_status = BTreeMap::new();
    for sample in samples {
        if let Answer::Failed(status) = sample.answer {
            *by_status.entry(status).or_default() += 1;
        }
    }
    by_status
}

fn sum(counts: &[Counts]) -> Counts {
    counts.iter().fold(Counts::default(), |sum, c| Counts {
        home: sum.home + c.home,
        peer: sum.peer + c.peer,
        failed: sum.failed + c.failed,
    })
}

fn until_all_home(samples: &[Sample], clients: &[u32], seconds: u32, limit: u32) -> Option<f64> {
    let changes = clients.len().checked_sub(1).filter(|&n| n > 0)?;
    if *clients.last()? > limit || !samples.iter().any(|s| s.answer == Answer::Peer) {
        return None;
    }
    let last_change = Duration::from_secs(changes as u64 * u64::from(seconds));
    let last = samples
        .iter()
        .filter(|s| s.answer != Answer::Home)
        .map(|s| s.ended.saturating_sub(last_change))
        .max();
    Some(last.unwrap_or_default().as_secs_f64())
}

/// One group of connections that come and go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many connections
    pub clients: u32,
    /// When they come, from the start of the run
    pub start: Duration,
    /// How long they stay
    pub duration: Duration,
}

/// Lays the phases out as connections that stay for as long as they are needed, so that when the load changes the others go on
/// undisturbed: 1, 3, 1 is one connection for the whole time, and two that come and go.
pub fn windows(clients: &[u32], seconds: u32) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for level in 1..=clients.iter().copied().max().unwrap_or(0) {
        let mut phase = 0;
        while phase < clients.len() {
            let length = clients[phase..].iter().take_while(|&&n| n >= level).count();
            if length > 0 {
                let start = Duration::from_secs(phase as u64 * u64::from(seconds));
                let duration = Duration::from_secs(length as u64 * u64::from(seconds));
                match windows
                    .iter_mut()
                    .find(|w| w.start == start && w.duration == duration)
                {
                    Some(window) => window.clients += 1,
                    None => windows.push(Window {
                        clients: 1,
                        start,
                        duration,
                    }),
                }
            }
            phase += length.max(1);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Reason;

    fn sample(sent_ms: u64, answer: Answer) -> Sample {
        let sent = Duration::from_millis(sent_ms);
        Sample {
            sent,
            ended: sent + Duration::from_millis(100),
            answer,
            reason: Reason::Unsaid,
        }
    }

    fn window(clients: u32, start: u64, seconds: u64) -> Window {
        Window {
            clients,
            start: Duration::from_secs(start),
            duration: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_request_counts_in_the_second_and_the_phase_in_which_it_was_sent() {
        let samples = [
            sample(0, Answer::Home),
            sample(1_999, Answer::Home),
            sample(2_000, Answer::Peer),
            sample(3_500, Answer::Failed(503)),
            sample(5_999, Answer::Home),
            sample(6_001, Answer::Home),
        ];
        let run = run(&samples, &[1, 3, 1], 2, 1, vec![0, 1, 1, 2, 0, 1]);
        let by_phase: Vec<_> = run
            .phases
            .iter()
            .map(|p| (p.counts.home, p.counts.peer, p.counts.failed))
            .collect();
        assert_eq!(by_phase, [(2, 0, 0), (0, 1, 1), (2, 0, 0)]);
        let means: Vec<_> = run.phases.iter().map(|p| p.mean_ms_at_home).collect();
        assert_eq!(means, [Some(100), None, Some(100)]);
        assert_eq!(run.totals.most_in_flight_at_home, 2);
        assert_eq!(run.per_second.len(), 6);
        assert_eq!(run.per_second[5].home, 2);
        assert_eq!(
            run.totals.counts,
            Counts {
                home: 4,
                peer: 1,
                failed: 1
            }
        );
        let Counts { home, peer, failed } = run.totals.counts;
        assert_eq!(home + peer + failed, 6);
        assert_eq!(run.totals.failed_by_status, BTreeMap::from([(503, 1)]));
    }

    #[test]
    fn all_home_again_is_when_the_last_other_answer_has_come() {
        let answers = [sample(3_950, Answer::Peer), sample(4_100, Answer::Home)];
        let seconds = run(&answers, &[1, 3, 1], 2, 1, vec![1])
            .totals
            .seconds_until_all_home
            .unwrap();
        assert!((seconds - 0.05).abs() < 1e-9, "{seconds}");
        // Everything was home before the load changed.
        assert_eq!(
            run(&[sample(2_500, Answer::Peer)], &[1, 3, 1], 2, 1, vec![1])
                .totals
                .seconds_until_all_home,
            Some(0.0)
        );
        // Nothing left home, home has no room for the last phase, or the load never changes.
        assert_eq!(
            run(&[sample(4_100, Answer::Home)], &[1, 3, 1], 2, 1, vec![1])
                .totals
                .seconds_until_all_home,
            None
        );
        assert_eq!(
            run(&answers, &[1, 3], 2, 1, vec![1])
                .totals
                .seconds_until_all_home,
            None
        );
        assert_eq!(
            run(&answers, &[1], 6, 1, vec![1])
                .totals
                .seconds_until_all_home,
            None
        );
    }

    #[test]
    fn connections_stay_as_long_as_they_are_needed() {
        assert_eq!(windows(&[1, 3, 1], 7), [window(1, 0, 21), window(2, 7, 7)]);
        assert_eq!(
            windows(&[2, 1, 2], 5),
            [window(1, 0, 15), window(1, 0, 5), window(1, 10, 5)]
        );
        assert_eq!(windows(&[4], 3), [window(4, 0, 3)]);
    }

    #[test]
    fn the_result_has_the_promised_shape() {
        let filter = run(&[sample(0, Answer::Home)], &[1], 1, 1, vec![1]);
        let report = Report {
            home: "iotcloudserve".into(),
            peer: "gke".into(),
            routing: "authority".into(),
            workers: 2,
            without_filter: filter.clone(),
            filter,
        };
        let json = serde_json::to_value(&report).unwrap();
        let phase = serde_json::json!({"clients": 1, "seconds": 1, "home": 1, "peer": 0, "failed": 0, "mean_ms_at_home": 100});
        assert_eq!(json["phases"], serde_json::json!([phase]));
        assert_eq!(json["limit"], 1);
        assert_eq!(json["totals"]["most_in_flight_at_home"], 1);
        let each = serde_json::json!([1]);
        assert_eq!(json["most_in_flight_per_second"], each);
        assert_eq!(json["without_filter"]["phases"], serde_json::json!([phase]));
    }

    #[test]
    fn a_broken_promise_is_named() {
        let good = run(&[sample(0, Answer::Home)], &[1], 1, 1, vec![1]);
        let mut report = Report {
            home: "iotcloudserve".into(),
            peer: "gke".into(),
            routing: "header".into(),
            workers: 1,
            without_filter: run(&[sample(0, Answer::Failed(0))], &[1], 1, 1, vec![9]),
            filter: good,
        };
        assert_eq!(report.broken_promise(), None);
        report.filter.totals.most_in_flight_at_home = 2;
        assert!(
            report
                .broken_promise()
                .unwrap()
                .contains("2 requests in flight")
        );
        report.filter.totals.counts.failed = 3;
        assert!(
            report
                .broken_promise()
                .unwrap()
                .contains("3 requests failed")
        );
    }
}
