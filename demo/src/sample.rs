//! One request of a run, and how many of a kind there were.

use std::time::Duration;

use serde::Serialize;

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 2xx by the home cluster's service
    Home,
    /// 2xx by the peer cluster's service
    Peer,
    /// Another status, or 0: no whole answer
    Failed(u16),
}

/// Why the filter sent a request where it went: what it said on the answer (`debugHeader`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reason {
    /// Home: there was room
    Room,
    /// The peer: home was full
    Limit,
    /// The peer: home was ejected
    Ejected,
    /// Home, to see how it is
    Probe,
    /// The peer: home takes its load back, and this was not yet of it
    Ramp,
    /// Something else, or nothing was said
    #[default]
    Unsaid,
}

impl Reason {
    /// Of an answer's `x-peer-spillover`.
    pub fn of(decision: &str) -> Self {
        match decision.rsplit_once("reason=").map(|(_, reason)| reason) {
            Some("room") => Self::Room,
            // Contention is a limit that was reached too, as far as anyone could find out.
            Some("limit" | "contention") => Self::Limit,
            Some("ejected") => Self::Ejected,
            Some("probe") => Self::Probe,
            Some("ramp") => Self::Ramp,
            _ => Self::Unsaid,
        }
    }
}

/// One request of a run. Both times count from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent
    pub sent: Duration,
    /// When its answer was complete, or it had failed
    pub ended: Duration,
    /// Who answered
    pub answer: Answer,
    /// Why that one
    pub reason: Reason,
}

/// How many requests each cluster answered, and how many failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Answered by home
    pub home: u64,
    /// Answered by the peer
    pub peer: u64,
    /// Not answered with 2xx
    pub failed: u64,
}

impl Counts {
    /// Of these requests.
    pub fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let mut counts = Counts::default();
        for sample in samples {
            counts.add(sample.answer);
        }
        counts
    }

    /// One more.
    pub fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Home => self.home += 1,
            Answer::Peer => self.peer += 1,
            Answer::Failed(_) => self.failed += 1,
        }
    }

    /// By the stretch of time in which they were sent: `n` stretches of this length from the start.
    pub fn over_time(samples: &[Sample], n: usize, stretch: Duration) -> Vec<Self> {
        let mut counts = vec![Counts::default(); n];
        let last = n.saturating_sub(1);
        for sample in samples {
            let at = sample.sent.as_millis() / stretch.as_millis().max(1);
            // A request sent a moment after the end of the run is the last stretch's.
            if let Some(counts) = counts.get_mut((at as usize).min(last)) {
                counts.add(sample.answer);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_filters_word() {
        for (said, reason) in [
            ("home; reason=room", Reason::Room),
            ("gke; reason=limit", Reason::Limit),
            ("gke; reason=contention", Reason::Limit),
            ("gke; reason=ejected", Reason::Ejected),
            ("home; reason=probe", Reason::Probe),
            ("gke; reason=ramp", Reason::Ramp),
            ("home; reason=misroute", Reason::Unsaid),
            ("", Reason::Unsaid),
        ] {
            assert_eq!(Reason::of(said), reason, "{said}");
        }
    }
}
