//! The result of the run: `peers.json`, the lines at the end, and the figure.

pub(super) mod table;

use std::time::Duration;

use anyhow::Result;
use envoy_test::world::HOME;
use serde::Serialize;

use super::plan::{Peer, Plan, Stage};
use super::{Request, Seen};
use crate::figure::{self, Drawn, Figure, InFlight, Panel};
use crate::options::Options;
use crate::report::connections;

/// Who answered the requests of a phase or of a second: home, the peers in their order, and nobody.
pub(super) type Counts = Vec<u64>;

/// One phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Phase {
    stage: Stage,
    /// Parallel connections.
    pub(super) clients: u32,
    /// Its length.
    seconds: u32,
    /// Who answered what was sent in it.
    counts: Counts,
    /// The same for each second.
    #[serde(skip)]
    pub(super) per_second: Vec<Counts>,
}

impl Phase {
    pub(super) fn of(plan: &Plan, requests: &[Request], phase: usize, seconds: u32) -> Phase {
        let stage = plan.stages.get(phase).copied().unwrap_or(Stage::Calm);
        let failed = plan.peers.len() + 1;
        let mut per_second = vec![vec![0; failed + 1]; seconds as usize];
        let begin = Duration::from_secs(phase as u64 * u64::from(seconds));
        for request in requests.iter().filter(|request| request.phase == phase) {
            let second = request.sent.saturating_sub(begin).as_secs() as usize;
            let by = request.to.filter(|_| request.is_ok()).unwrap_or(failed);
            let last = per_second.len().saturating_sub(1);
            if let Some(counts) = per_second.get_mut(second.min(last)) {
                counts[by] += 1;
            }
        }
        let sum = |nth| per_second.iter().map(|counts| counts[nth]).sum();
        Phase {
            stage,
            clients: plan.clients(stage),
            seconds,
            counts: (0..=failed).map(sum).collect(),
            per_second,
        }
    }
}

/// The whole of `peers.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeersReport {
    home: &'static str,
    limit: u32,
    peers: Vec<Peer>,
    /// The filter's `routing`.
    routing: &'static str,
    /// Worker threads of home's Envoy.
    workers: u32,
    /// In the order of time. Counts are of home, of each peer, and of requests that failed.
    phases: Vec<Phase>,
    /// By the second in which a request was sent.
    per_second: Vec<Counts>,
    /// The most requests that home and each peer had in flight at once, as they counted them.
    most_in_flight: Vec<u64>,
    /// The most requests that home had in flight in each second.
    most_in_flight_per_second: Vec<u64>,
    /// How often the peer that was killed was ejected.
    ejections: u64,
    /// The first promise that was broken.
    pub broken: Option<String>,
}

impl PeersReport {
    pub(super) fn new(
        plan: &Plan,
        options: &Options,
        requests: &[Request],
        seen: Seen,
        most_in_flight_per_second: Vec<u64>,
        broken: Option<String>,
    ) -> Self {
        let of = |phase| Phase::of(plan, requests, phase, options.seconds());
        let phases: Vec<Phase> = (0..plan.stages.len()).map(of).collect();
        PeersReport {
            home: HOME,
            limit: plan.limit,
            peers: plan.peers.clone(),
            routing: options.routing.word(),
            workers: options.workers,
            per_second: phases
                .iter()
                .flat_map(|phase| phase.per_second.clone())
                .collect(),
            phases,
            most_in_flight: seen.most_in_flight,
            most_in_flight_per_second,
            ejections: seen.ejections,
            broken,
        }
    }

    fn total(&self, nth: usize) -> u64 {
        self.phases
            .iter()
            .filter_map(|phase| phase.counts.get(nth))
            .sum()
    }

    fn failed(&self) -> u64 {
        self.total(self.peers.len() + 1)
    }

    /// The lines at the end of the demo.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{:<14}  {:>8}  {:>6}  {:>5}  {:>8}  {:>14}\n",
            "", "priority", "weight", "limit", "answered", "most in flight"
        );
        let mut row = |name: &str, [priority, weight, limit]: [String; 3], nth: usize| {
            let (answered, most) = (self.total(nth), self.most_in_flight.get(nth));
            let most = most.copied().unwrap_or(0);
            text += &format!(
                "{name:<14}  {priority:>8}  {weight:>6}  {limit:>5}  {answered:>8}  {most:>14}\n"
            );
        };
        let none = || "-".to_owned();
        row(self.home, [none(), none(), self.limit.to_string()], 0);
        for (peer, nth) in self.peers.iter().zip(1..) {
            let limit = peer.limit.map_or_else(none, |limit| limit.to_string());
            let words = [peer.priority.to_string(), peer.weight.to_string(), limit];
            row(peer.name, words, nth);
        }
        let killed = self.peers.first().map_or("", |peer| peer.name);
        text += &format!(
            "\n{} requests failed when {killed} was killed. It was ejected {} times, and home never.\n",
            self.failed(),
            self.ejections
        );
        text
    }

    /// The figure.
    /// # Errors
    /// It cannot be drawn.
    pub fn draw(&self) -> Result<Drawn> {
        let killed = self.peers.first().map_or("", |peer| peer.name);
        let phase = |phase: &Phase| {
            let label = match phase.stage {
                Stage::Killed => format!("{killed} is dead"),
                Stage::Back => format!("{killed} is back"),
                _ => connections(phase.clients),
            };
            figure::Phase {
                short: label.clone(),
                label,
                seconds: phase.seconds,
            }
        };
        let phases: Vec<figure::Phase> = self.phases.iter().map(phase).collect();
        let names: Vec<&str> = self.peers.iter().map(|peer| peer.name).collect();
        let peer = |(peer, nth): (&Peer, usize)| {
            let limit = peer.limit.map_or(String::new(), |n| format!(", limit {n}"));
            let (n, name, priority, weight) =
                (self.total(nth), peer.name, peer.priority, peer.weight);
            // A line has no room for this of more peers.
            match self.peers.len() {
                ..=3 => format!("{n} by {name} (priority {priority}, weight {weight}{limit})"),
                _ => format!("{n} by {name}"),
            }
        };
        let by_peers: Vec<String> = self.peers.iter().zip(1..).map(peer).collect();
        let outcome = format!(
            "{} answered at home, {}, {} failed",
            self.total(0),
            by_peers.join(", "),
            self.failed()
        );
        figure::draw(&Figure {
            bands: &figure::bands(self.home, &names, "failed"),
            change: "load or peer changes",
            phases: &phases,
            bar: 1.0,
            per_bar: "requests per second",
            panels: &[Panel {
                title: &format!(
                    "With peer-spillover: home with a limit of {} and {} peers, of which one is killed and comes back",
                    self.limit,
                    self.peers.len()
                ),
                outcome: &outcome,
                bars: &self.per_second,
                spans: &[],
                in_flight: Some(InFlight {
                    most: &self.most_in_flight_per_second,
                    limit: self.limit,
                }),
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn request(phase: usize, millis: u64, to: usize, status: u16) -> Request {
        Request {
            sent: Duration::from_millis(millis),
            phase,
            to: Some(to),
            status,
        }
    }

    fn report() -> PeersReport {
        let options = Options::parse_from(["demo", "--peers", "3", "--seconds", "2"]);
        let requests = [
            request(0, 100, 0, 200),
            request(1, 2_100, 1, 200),
            request(1, 3_100, 2, 200),
            // A moment after the end of its phase.
            request(1, 4_010, 3, 200),
            request(3, 6_000, 1, 503),
        ];
        let seen = Seen {
            most_in_flight: vec![1, 8, 4, 12],
            decided: vec![1, 2, 1, 1],
            ejections: 2,
            left: 0,
        };
        PeersReport::new(
            &Plan::of(&options),
            &options,
            &requests,
            seen,
            vec![1; 12],
            None,
        )
    }

    #[test]
    fn a_request_belongs_to_its_phase_and_to_who_answered_it() {
        let report = report();
        let counts: Vec<_> = report
            .phases
            .iter()
            .map(|phase| phase.counts.clone())
            .collect();
        assert_eq!(counts[0], [1, 0, 0, 0, 0]);
        assert_eq!(counts[1], [0, 1, 1, 1, 0]);
        assert_eq!(counts[3], [0, 0, 0, 0, 1]);
        assert_eq!(report.per_second.len(), 12);
        assert_eq!(report.per_second[3], [0, 0, 1, 1, 0]);
    }

    #[test]
    fn the_summary_and_the_figure_name_every_destination() {
        let report = report();
        let summary = report.summary();
        for line in [
            "iotcloudserve          -       -      1         1               1",
            "gke                    0       2      8         1               8",
            "aks                    1       1      -         1              12",
            "1 requests failed when gke was killed. It was ejected 2 times",
        ] {
            assert!(summary.contains(line), "{summary}");
        }
        let svg = report.draw().unwrap().svg;
        for text in [
            "\neks\n",
            "\naks\n",
            "gke is dead",
            "5 connections",
            "priority 1, weight 1",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn the_line_above_the_figure_of_five_peers_has_room() {
        let options = Options::parse_from(["demo", "--peers", "5", "--seconds", "2"]);
        let seen = Seen {
            most_in_flight: vec![1; 6],
            decided: vec![0; 6],
            ejections: 0,
            left: 0,
        };
        let report = PeersReport::new(&Plan::of(&options), &options, &[], seen, vec![], None);
        let svg = report.draw().unwrap().svg;
        let line = svg.lines().find(|line| line.contains("answered at home"));
        let line = line.unwrap();
        assert!(
            line.contains("by doks") && line.ends_with("0 failed"),
            "{line}"
        );
        // A character of this size is about 8 pixels wide, and 1,100 are there.
        assert!(line.chars().count() < 137, "{line}");
    }
}
