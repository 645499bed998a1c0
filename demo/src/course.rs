//! What became of home in a run with error detection, as its clients saw it: ejections, probes, ramps. Pure functions over
//! samples.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::sample::{Answer, Reason, Sample};

/// One time that home was ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ejection {
    /// When the first request was diverted, or the probe had failed
    #[serde(serialize_with = "seconds")]
    pub from: Duration,
    /// When the probe was sent, or the run's end
    #[serde(serialize_with = "seconds")]
    pub until: Duration,
    /// The probe's status, 0 for no whole answer; nothing where the run ended before one
    pub probe: Option<u16>,
    /// When a client knew of it: whatever was sent later should not have gone home
    #[serde(skip)]
    known: Duration,
}

impl Ejection {
    /// How long it was.
    pub fn lasted(&self) -> Duration {
        self.until.saturating_sub(self.from)
    }

    /// Requests that went home in it all the same. One that was open when it began or ended is not told apart from those
    /// before and after, and is none of them.
    pub fn trespassers(&self, samples: &[Sample]) -> usize {
        let within = |s: &&Sample| s.sent > self.known && s.ended < self.until;
        let home = |s: &&Sample| s.reason == Reason::Room;
        samples.iter().filter(within).filter(home).count()
    }
}

/// One time that home took its load back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ramp {
    /// When the probe was answered
    #[serde(serialize_with = "seconds")]
    pub from: Duration,
    /// When the last request was diverted
    #[serde(serialize_with = "seconds")]
    pub until: Duration,
    /// Requests that went home in it
    pub home: u64,
    /// Requests that were diverted in it
    pub peer: u64,
}

/// Both, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Course {
    /// Each ends with a probe
    pub ejections: Vec<Ejection>,
    /// Each follows a probe that was answered
    pub ramps: Vec<Ramp>,
}

impl Course {
    /// As in [`Ejection::trespassers`], of all ejections.
    pub fn trespassers(&self, samples: &[Sample]) -> usize {
        let ejections = self.ejections.iter();
        ejections.map(|e| e.trespassers(samples)).sum()
    }

    /// Read from what the filter said on each answer.
    pub fn of(samples: &[Sample]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by_key(|sample| sample.sent);
        let end = samples.iter().map(|s| s.ended).max().unwrap_or_default();
        let mut course = Course::default();
        // While a probe is on its way, others are diverted as before.
        let mut probing = Duration::ZERO;
        for sample in &sorted {
            match sample.reason {
                Reason::Ejected if sample.sent > probing && !course.is_ejected() => {
                    course.eject(sample.sent, sample.ended, end);
                }
                Reason::Probe => {
                    if !course.is_ejected() {
                        course.eject(sample.sent, sample.sent, end);
                    }
                    probing = sample.ended;
                    course.probed(sample, end);
                }
                _ => {}
            }
        }
        course.count_ramps(&sorted);
        course
    }

    fn is_ejected(&self) -> bool {
        self.ejections.last().is_some_and(|e| e.probe.is_none())
    }

    fn eject(&mut self, from: Duration, known: Duration, end: Duration) {
        self.ejections.push(Ejection {
            from,
            until: end,
            probe: None,
            known,
        });
    }

    fn probed(&mut self, probe: &Sample, end: Duration) {
        let status = match probe.answer {
            // The service's 2xx are all 200.
            Answer::Home | Answer::Peer => 200,
            Answer::Failed(status) => status,
        };
        if let Some(ejection) = self.ejections.last_mut() {
            ejection.until = probe.sent;
            ejection.probe = Some(status);
        }
        if status == 200 {
            self.ramps.push(Ramp {
                from: probe.ended,
                until: probe.ended,
                home: 0,
                peer: 0,
            });
        } else {
            self.eject(probe.ended, probe.ended, end);
        }
    }

    fn count_ramps(&mut self, sorted: &[Sample]) {
        for ramp in &mut self.ramps {
            let next = self.ejections.iter().map(|e| e.from);
            let next = next.filter(|from| *from > ramp.from).min();
            let of_ramp = |s: &&Sample| s.sent >= ramp.from && next.is_none_or(|n| s.sent < n);
            let diverted = |s: &&Sample| s.reason == Reason::Ramp;
            let all: Vec<&Sample> = sorted.iter().filter(of_ramp).collect();
            let away: Vec<&Sample> = all.iter().copied().filter(diverted).collect();
            if let Some(last) = away.last() {
                ramp.until = last.sent;
                ramp.peer = away.len() as u64;
                let before = all.iter().filter(|s| s.sent < last.sent);
                ramp.home = before.filter(|s| s.reason == Reason::Room).count() as u64;
            }
        }
    }

    /// Probes that were not answered well.
    pub fn failed_probes(&self) -> usize {
        let failed = |e: &&Ejection| e.probe.is_some_and(|status| status != 200);
        self.ejections.iter().filter(failed).count()
    }

    /// All probes.
    pub fn probes(&self) -> usize {
        self.ejections.iter().filter(|e| e.probe.is_some()).count()
    }

    /// What happened, a line each, with its time in seconds.
    pub fn lines(&self, why: &str, peer: &str) -> String {
        let mut lines: Vec<(Duration, String)> = Vec::new();
        let mut why = why;
        for ejection in &self.ejections {
            let lasted = ejection.lasted().as_secs_f64();
            let until = match ejection.probe {
                Some(_) => "until a probe",
                None => "until the run's end",
            };
            lines.push((
                ejection.from,
                format!("{why}: home is ejected for {lasted:.1} s, {until}"),
            ));
            why = match ejection.probe {
                Some(200) => "home failed again",
                _ => "the probe failed",
            };
        }
        for ramp in &self.ramps {
            let lasted = ramp.until.saturating_sub(ramp.from).as_secs_f64();
            let (home, away) = (ramp.home, ramp.peer);
            lines.push((
                ramp.from,
                format!("the probe was answered: home takes its load back, and after {lasted:.1} s has all of it (requests at home: {home}, at {peer}: {away})"),
            ));
        }
        lines.sort();
        let line =
            |(at, text): &(Duration, String)| format!("{:>7.2} s  {text}\n", at.as_secs_f64());
        lines.iter().map(line).collect()
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn sample(sent: u64, answer: Answer, reason: Reason) -> Sample {
        Sample {
            sent: ms(sent),
            ended: ms(sent + 100),
            answer,
            reason,
        }
    }

    fn run() -> Vec<Sample> {
        use Answer::{Failed, Home, Peer};
        vec![
            sample(0, Home, Reason::Room),
            sample(100, Failed(500), Reason::Room),
            sample(210, Peer, Reason::Ejected),
            sample(1_000, Failed(500), Reason::Probe),
            // Sent while the probe was on its way.
            sample(1_050, Peer, Reason::Ejected),
            sample(1_500, Peer, Reason::Ejected),
            sample(3_000, Home, Reason::Probe),
            sample(3_050, Peer, Reason::Ejected),
            sample(3_200, Peer, Reason::Ramp),
            sample(3_300, Home, Reason::Room),
            sample(3_400, Peer, Reason::Ramp),
            sample(4_000, Home, Reason::Room),
        ]
    }

    #[test]
    fn a_probe_ends_an_ejection_and_its_answer_says_what_follows() {
        let course = Course::of(&run());
        let ejections = course.ejections.iter();
        let ejections: Vec<_> = ejections.map(|e| (e.from, e.until, e.probe)).collect();
        assert_eq!(
            ejections,
            [
                (ms(210), ms(1_000), Some(500)),
                (ms(1_100), ms(3_000), Some(200)),
            ]
        );
        assert_eq!((course.probes(), course.failed_probes()), (2, 1));
        let ramp = Ramp {
            from: ms(3_100),
            until: ms(3_400),
            home: 1,
            peer: 2,
        };
        assert_eq!(course.ramps, [ramp]);
        let lines = course.lines("5 errors in a row", "gke");
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines[0],
            "   0.21 s  5 errors in a row: home is ejected for 0.8 s, until a probe"
        );
        assert!(lines[1].contains("the probe failed: home is ejected for 1.9 s"));
        assert!(lines[2].contains("after 0.3 s has all of it (requests at home: 1, at gke: 2)"));
    }

    #[test]
    fn the_end_of_the_run_ends_the_last_ejection() {
        let course = Course::of(&run()[..6]);
        let last = course.ejections.last().unwrap();
        assert_eq!((last.until, last.probe), (ms(1_600), None));
        assert!(course.ramps.is_empty());
        assert_eq!(Course::of(&[]), Course::default());
    }

    #[test]
    fn an_ejection_in_a_ramp_is_another() {
        let mut samples = run();
        samples.truncate(9);
        samples.push(sample(3_300, Answer::Peer, Reason::Limit));
        samples.push(sample(3_310, Answer::Peer, Reason::Ejected));
        let course = Course::of(&samples);
        assert_eq!(course.ejections.len(), 3);
        assert_eq!(course.ejections[2].from, ms(3_310));
        assert_eq!(course.ramps[0].peer, 1);
    }

    #[test]
    fn what_goes_home_in_an_ejection_is_seen_and_its_edges_are_not() {
        let mut samples = run();
        let ejections = Course::of(&samples).ejections;
        assert!(ejections.iter().all(|e| e.trespassers(&samples) == 0));
        // Sent before it was known, and open when the probe was sent.
        samples.push(sample(250, Answer::Failed(500), Reason::Room));
        samples.push(sample(950, Answer::Home, Reason::Room));
        assert_eq!(ejections[0].trespassers(&samples), 0);
        samples.push(sample(400, Answer::Home, Reason::Room));
        samples.push(sample(500, Answer::Failed(500), Reason::Room));
        assert_eq!(ejections[0].trespassers(&samples), 2);
    }
}
