//! `cargo demo --overflow eject`: what the set-up of 2020 was meant to do, a redirect of the whole service.

use std::time::Duration;

use anyhow::Result;
use envoy_test::world::World;
use serde::Serialize;

use crate::course::Course;
use crate::options::{EJECT_INTERVAL, Options};
use crate::result::Report;
use crate::sample::{Reason, Sample};
use crate::witness::{self, Witnesses};

/// What is known beyond the surplus' [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Eject {
    /// `baseEjectionTime`
    pub ejection_seconds: u32,
    /// What became of home
    pub course: Course,
    /// Counted by several
    pub witnesses: Vec<Witnesses>,
    /// The first promise that was broken
    pub broken: Option<String>,
}

/// The whole of `eject.json`.
#[derive(Debug, Clone, Serialize)]
pub struct EjectReport<'a> {
    /// The two runs
    #[serde(flatten)]
    pub runs: &'a Report,
    /// What became of home in the one with the filter
    #[serde(flatten)]
    pub eject: &'a Eject,
}

impl Eject {
    /// Of the run with the filter, just after it.
    /// # Errors
    /// Envoy's admin interface does not answer.
    pub async fn of(world: &World, samples: &[Sample], options: &Options) -> Result<Self> {
        let course = Course::of(samples);
        let witnesses = witness::collect(world, samples, &course).await?;
        let broken = broken_promise(samples, &course, options)
            .or_else(|| witnesses.iter().find_map(Witnesses::disagree));
        Ok(Eject {
            ejection_seconds: options.ejection().seconds,
            course,
            witnesses,
            broken,
        })
    }

    /// The lines below the totals.
    pub fn summary(&self, peer: &str) -> String {
        let seconds = self.ejection_seconds;
        let mut text = format!(
            "With peer-spillover, a full home was ejected for {seconds} s (baseEjectionTime; the origin's was one minute: --ejection 1m):\n"
        );
        text.push_str(&self.course.lines("home was full", peer));
        text.push('\n');
        text.push_str(&witness::table(&self.witnesses));
        text
    }
}

/// Beyond what [`Report::broken_promise`] sees.
fn broken_promise(samples: &[Sample], course: &Course, options: &Options) -> Option<String> {
    let clients = options.clients();
    let overflows = clients.iter().any(|&n| n > options.limit);
    let Some(first) = course.ejections.first() else {
        let wanted = "more connections than its limit were expected to eject it";
        return overflows.then(|| format!("home was never ejected, and {wanted}"));
    };
    let gone = course.trespassers(samples);
    if gone > 0 {
        return Some(format!(
            "{gone} requests went home while it was ejected, and all were expected at the peer"
        ));
    }
    let base = options.ejection().duration();
    let full = samples.iter().filter(|s| s.reason == Reason::Limit);
    let probe = samples.iter().filter(|s| s.reason == Reason::Probe);
    // It was ejected after that request was sent, so a probe before its time would have ended before this.
    if let (Some(full), Some(probe)) = (full.map(|s| s.sent).min(), probe.map(|s| s.ended).min())
        && probe < full + base
    {
        let after = probe.saturating_sub(full).as_secs_f64();
        let wanted = options.ejection();
        return Some(format!(
            "home was probed {after:.1} s after it was full, and it was expected to be ejected for {wanted}"
        ));
    }
    let last = course.ejections.last().unwrap_or(first);
    let end = samples.iter().map(|s| s.sent).max().unwrap_or_default();
    let due =
        last.from + base.saturating_mul(course.ejections.len().try_into().unwrap_or(u32::MAX));
    let moment = Duration::from_secs(1);
    if last.probe.is_none() && due + moment < end {
        return Some("home was not probed when its ejection had ended, and a probe was expected with the next request".to_owned());
    }
    // Where the load has shrunk to what home has room for, nothing is diverted after the ramp.
    let back = course.ramps.last()?.from + Duration::from_secs(EJECT_INTERVAL.into()) + moment / 2;
    let calm_phases = clients
        .iter()
        .rev()
        .take_while(|&&n| n <= options.limit)
        .count();
    let calm = (clients.len() - calm_phases) as u64 * u64::from(options.seconds());
    let calm = Duration::from_secs(calm) + moment / 2;
    let away = samples
        .iter()
        .filter(|s| s.sent > back.max(calm) && s.sent > last.until);
    let away = away.filter(|s| s.reason != Reason::Room).count();
    (calm_phases > 0 && away > 0).then(|| {
        format!(
            "{away} requests were diverted after home had its load back, and none were expected"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Answer;
    use clap::Parser;

    /// 1, 3, 1 connections for 2 s each, home ejected for 2 s.
    fn run() -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut send = |millis: u64, reason| {
            let sent = Duration::from_millis(millis);
            let home = matches!(reason, Reason::Room | Reason::Probe);
            samples.push(Sample {
                sent,
                ended: sent + Duration::from_millis(100),
                answer: if home { Answer::Home } else { Answer::Peer },
                reason,
            });
        };
        (0..20).for_each(|n| send(n * 100, Reason::Room));
        send(2_001, Reason::Limit);
        (0..20).for_each(|n| send(2_002 + n * 100, Reason::Ejected));
        send(4_010, Reason::Probe);
        (0..9).for_each(|n| send(4_120 + n * 100, Reason::Ramp));
        (0..9).for_each(|n| send(5_120 + n * 100, Reason::Room));
        samples
    }

    fn broken(samples: &[Sample]) -> Option<String> {
        let eject = ["--overflow", "eject", "--ejection", "2s", "--seconds", "2"];
        let options = Options::parse_from([&["demo"], &eject[..]].concat());
        broken_promise(samples, &Course::of(samples), &options)
    }

    fn reason(at: u64, reason: Reason) -> Sample {
        let sent = Duration::from_millis(at);
        Sample {
            sent,
            ended: sent + Duration::from_millis(100),
            answer: Answer::Home,
            reason,
        }
    }

    #[test]
    fn a_broken_promise_is_named() {
        assert_eq!(broken(&run()), None);
        for (change, said) in [
            (
                vec![reason(3_000, Reason::Room)],
                "1 requests went home while",
            ),
            (vec![reason(2_900, Reason::Probe)], "was probed 1.0 s after"),
            (
                vec![reason(5_900, Reason::Limit)],
                "1 requests were diverted after",
            ),
        ] {
            let broken = broken(&[run(), change].concat()).unwrap();
            assert!(broken.contains(said), "{broken}");
        }
        let never = broken(&run()[..20]).unwrap();
        assert!(never.contains("never ejected"), "{never}");
        let unprobed: Vec<Sample> = run()
            .into_iter()
            .take(41)
            .chain([reason(5_900, Reason::Ejected)])
            .collect();
        let broken = broken(&unprobed).unwrap();
        assert!(broken.contains("was not probed"), "{broken}");
    }
}
