//! `cargo demo --errors`: home is well, answers 500 for a while, and is well again, under one steady load.

mod promise;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use envoy_test::world::{HOME, PEER, World};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::course::Course;
use crate::figure::{self, Drawn, Figure, Panel, Phase};
use crate::options::Options;
use crate::report::{Table, connections, spans, stacks};
use crate::result::{Window, failed_by_status};
use crate::run::{begin, service, shown, start};
use crate::sample::{Counts, Sample};
use crate::witness::{self, Witnesses};

/// Errors in a row that eject home.
const CONSECUTIVE: u32 = 5;
/// How long it takes its load back, in seconds.
const INTERVAL: u32 = 2;
/// What a bar of the figure stands for: short enough to see a ramp.
const BAR: Duration = Duration::from_millis(500);

/// A stretch of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Home answers 500
    pub fails: bool,
    /// Length
    pub seconds: u32,
    /// Who answered what was sent in it
    #[serde(flatten)]
    pub counts: Counts,
}

/// The whole of `errors.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorsReport {
    /// Name of the home cluster
    pub home: String,
    /// Name of the peer cluster
    pub peer: String,
    /// Parallel connections
    pub clients: u32,
    /// The filter's `routing`
    pub routing: String,
    /// Worker threads of home's Envoy
    pub workers: u32,
    /// The filter's `outlierDetection`
    pub outlier_detection: Value,
    /// In the order of time
    pub phases: Vec<Stretch>,
    /// Who answered, over all phases
    pub totals: Counts,
    /// The failed ones by their status; 0 where there was no whole answer
    pub failed_by_status: BTreeMap<u16, u64>,
    /// The 500s that clients saw before home was ejected. The others are one for each probe that failed
    pub failed_before_ejection: u64,
    /// What became of home
    pub course: Course,
    /// Counted by several
    pub witnesses: Vec<Witnesses>,
    /// Who answered, by the half second in which a request was sent
    pub per_half_second: Vec<Counts>,
    /// The first promise that was broken
    pub broken: Option<String>,
}

/// The run, with its world still there.
pub struct Errors {
    /// What it came to
    pub report: ErrorsReport,
    /// Home's proxy has the filter
    pub world: World,
}

/// Runs it. Rows of what happened go to stdout as it happens; progress to stderr, if that is a terminal.
/// # Errors
/// A tool is missing, the filter does not build, or an Envoy does not start. A request that fails is in the report.
pub async fn errors(options: &Options) -> Result<Errors> {
    begin().await?;
    let clients = options.clients().first().copied().unwrap_or(1);
    let phases = phases(options);
    let [well, failing, _] = phases.map(u64::from);
    println!(
        "{HOME} (home) and {PEER} (peer, behind its mTLS gateway), 100 ms a request, {}\n\
         outlierDetection: consecutive5xxErrors {CONSECUTIVE}, interval {INTERVAL}s, baseEjectionTime {}\n\n\
         With peer-spillover, routing: {}; {HOME} answers 500 from {well} s to {} s",
        connections(clients),
        options.ejection(),
        options.routing.word(),
        well + failing,
    );
    let world = start(World::builder().filter(plugin_config(options)), options).await?;
    let seconds = phases.iter().sum::<u32>();
    let table = Table::of_errors(PEER, u64::from(clients) * 10);
    let windows = [Window {
        clients,
        start: Duration::ZERO,
        duration: Duration::from_secs(seconds.into()),
    }];
    let load = shown(&world, &windows, seconds, &table, |second| {
        if fails(&phases, second as u64) {
            "failing"
        } else {
            "well"
        }
        .to_owned()
    });
    let change = async {
        sleep(Duration::from_secs(well)).await;
        world.home.fail(Some(StatusCode::INTERNAL_SERVER_ERROR));
        sleep(Duration::from_secs(failing)).await;
        world.home.fail(None);
        Ok(())
    };
    let ((_, samples), ()) = tokio::try_join!(load, change)?;
    println!();
    let course = Course::of(&samples);
    let witnesses = witness::collect(&world, &samples, &course).await?;
    let per_half_second = Counts::over_time(&samples, seconds as usize * 2, BAR);
    let broken = promise::broken(&samples, &course, clients, options)
        .or_else(|| witnesses.iter().find_map(Witnesses::disagree));
    let report = ErrorsReport {
        home: HOME.to_owned(),
        peer: PEER.to_owned(),
        clients,
        routing: options.routing.word().to_owned(),
        workers: options.workers,
        outlier_detection: detection(options),
        phases: stretches(&samples, &phases),
        totals: Counts::of(&samples),
        failed_by_status: failed_by_status(&samples),
        failed_before_ejection: promise::before_ejection(&samples),
        course,
        witnesses,
        per_half_second,
        broken,
    };
    Ok(Errors { report, world })
}

/// The filter's configuration.
pub fn plugin_config(options: &Options) -> Value {
    let mut config = service(options);
    // Home has room for all: only its errors send anything away.
    let room = options
        .clients()
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(100);
    config["services"][0]["trafficPolicy"] = json!({
        "connectionPool": {"http": {"http2MaxRequests": room}},
        "outlierDetection": detection(options),
    });
    config
}

fn detection(options: &Options) -> Value {
    json!({
        "consecutive5xxErrors": CONSECUTIVE,
        "interval": format!("{INTERVAL}s"),
        "baseEjectionTime": options.ejection().to_string(),
    })
}

/// For how many seconds home is well, fails, and is well again: until after the ramp that follows the longest ejection
/// that can be under way when it is well again.
fn phases(options: &Options) -> [u32; 3] {
    let (seconds, base) = (options.seconds(), options.ejection().seconds);
    // The n-th ejection is n times the first.
    let ends = (1..).scan(0, |end, n| {
        *end += n * base;
        Some(*end)
    });
    let back = ends
        .into_iter()
        .find(|&end| end >= seconds)
        .unwrap_or(seconds);
    // And two more: one for errors and probes to be answered, one to see it at work.
    [seconds, seconds, back - seconds + INTERVAL + 2]
}

fn fails([well, failing, _]: &[u32; 3], second: u64) -> bool {
    (u64::from(*well)..u64::from(well + failing)).contains(&second)
}

fn stretches(samples: &[Sample], phases: &[u32; 3]) -> Vec<Stretch> {
    let seconds = phases.iter().sum::<u32>() as usize;
    let mut per_second = Counts::over_time(samples, seconds, Duration::from_secs(1)).into_iter();
    let stretch = |(phase, &seconds): (usize, &u32)| {
        let mut counts = Counts::default();
        for second in per_second.by_ref().take(seconds as usize) {
            counts.home += second.home;
            counts.peer += second.peer;
            counts.failed += second.failed;
        }
        Stretch {
            fails: phase == 1,
            seconds,
            counts,
        }
    };
    phases.iter().enumerate().map(stretch).collect()
}

impl ErrorsReport {
    /// The lines at the end of the demo.
    pub fn summary(&self) -> String {
        let Counts { home, peer, failed } = self.totals;
        let (before, probes) = (self.failed_before_ejection, self.course.failed_probes());
        let mut text = format!(
            "The clients saw {home} answers of home, {peer} of {}, and {failed} times home's 500: {before} before home was ejected, and failed probes: {probes}.\n\n",
            self.peer
        );
        text.push_str(
            &self
                .course
                .lines(&format!("{CONSECUTIVE} errors in a row"), &self.peer),
        );
        text.push('\n');
        text.push_str(&witness::table(&self.witnesses));
        text
    }

    /// The figure.
    /// # Errors
    /// It cannot be drawn.
    pub fn draw(&self) -> Result<Drawn> {
        let phases: Vec<Phase> = self
            .phases
            .iter()
            .map(|phase| Phase {
                label: if phase.fails {
                    "home answers 500"
                } else {
                    "home is well"
                }
                .to_owned(),
                short: if phase.fails { "500" } else { "well" }.to_owned(),
                seconds: phase.seconds,
            })
            .collect();
        let Counts { home, peer, failed } = self.totals;
        let (before, probes) = (self.failed_before_ejection, self.course.failed_probes());
        let outcome = format!(
            "{}: {home} answered at home, {peer} by {}, {failed} answered 500 by home ({before} before it was ejected, failed probes: {probes})",
            connections(self.clients),
            self.peer
        );
        figure::draw(&Figure {
            bands: &figure::bands(&self.home, &[&self.peer], "answered 500 by home"),
            change: "home changes",
            phases: &phases,
            bar: BAR.as_secs_f64(),
            per_bar: "requests per half second",
            panels: &[Panel {
                title: &format!(
                    "With peer-spillover, when home answers 500 (consecutive5xxErrors: {CONSECUTIVE}, baseEjectionTime: {})",
                    self.outlier_detection["baseEjectionTime"]
                        .as_str()
                        .unwrap_or_default()
                ),
                outcome: &outcome,
                bars: &stacks(&self.per_half_second),
                spans: &spans(&self.course),
                in_flight: None,
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_run_lasts_until_home_can_have_its_load_back() {
        let phases = |arguments: &[&str]| {
            phases(&Options::parse_from(
                [&["demo", "--errors"], arguments].concat(),
            ))
        };
        // 2 s, 4 s and 6 s, the last of which ends 12 s after the first error.
        assert_eq!(phases(&[]), [8, 8, 8]);
        assert_eq!(phases(&["--seconds", "2", "--ejection", "1s"]), [2, 2, 5]);
        assert_eq!(phases(&["--seconds", "6", "--ejection", "10s"]), [6, 6, 8]);
    }
}
