//! What `cargo demo` prints, writes and draws of its runs.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::course::Course;
use crate::eject::{Eject, EjectReport};
use crate::errors::ErrorsReport;
use crate::figure::{self, Drawn, Figure, InFlight, Panel, Phase, Shade, Span};
use crate::peers::PeersReport;
use crate::result::{Counts, Report, Run};

/// Characters of the longest bar of a second.
const BAR: u64 = 40;

/// The table of a run, row by row while it runs.
pub struct Table {
    peer: String,
    per_char: u64,
    /// Titles of the second column and of the last number.
    titles: [&'static str; 2],
}

impl Table {
    /// A table for seconds of up to `most` requests.
    pub fn new(peer: &str, most: u64) -> Self {
        Table {
            peer: peer.to_owned(),
            per_char: most.div_ceil(BAR).max(1),
            titles: ["connections", "failed"],
        }
    }

    /// A table for a home that may fail.
    pub fn of_errors(peer: &str, most: u64) -> Self {
        Table {
            titles: ["home is", "500"],
            ..Table::new(peer, most)
        }
    }

    /// The line above the rows.
    pub fn header(&self) -> String {
        let (peer, [what, failed]) = (&self.peer, self.titles);
        format!("second  {what:>11}  home {peer:>5}  {failed:>6}   █ home  ░ {peer}  × {failed}")
    }

    /// Who answered the requests of one second, counted from 1; `what` is how many connections there were, or how home was.
    pub fn row(&self, second: usize, what: impl Display, counts: Counts) -> String {
        let bar: String = [("█", counts.home), ("░", counts.peer), ("×", counts.failed)]
            .map(|(char, n)| char.repeat(n.div_ceil(self.per_char) as usize))
            .concat();
        let Counts { home, peer, failed } = counts;
        let what = what.to_string();
        format!("{second:>6}  {what:>11}  {home:>4} {peer:>5}  {failed:>6}   {bar}")
            .trim_end()
            .to_owned()
    }
}

/// The lines at the end of the demo.
pub fn summary(report: &Report) -> String {
    let mut text = format!(
        "{:<20}  {:>6}  {:>6}  {:>6}  {:>22}  {:>20}\n",
        "", "home", "peer", "failed", "most in flight at home", "all home again after"
    );
    for (name, run) in [
        ("with peer-spillover", &report.filter),
        ("the set-up of 2020", &report.without_filter),
    ] {
        let Counts { home, peer, failed } = run.totals.counts;
        let most = format!(
            "{} (limit {})",
            run.totals.most_in_flight_at_home, run.limit
        );
        let until = match run.totals.seconds_until_all_home {
            Some(seconds) => format!("{seconds:.2} s"),
            None => "-".to_owned(),
        };
        text.push_str(&format!(
            "{name:<20}  {home:>6}  {peer:>6}  {failed:>6}  {most:>22}  {until:>20}\n"
        ));
    }
    text
}

/// Writes `result.json`, `spillover.svg` and `spillover.png` into `dir`, which is made where it is not there.
/// # Errors
/// A file cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    files(dir, ("result", json), ("spillover", draw(report, None)?))
}

/// Writes `eject.json`, `eject.svg` and `eject.png`, as [`write`] does.
/// # Errors
/// A file cannot be written.
pub fn write_eject(runs: &Report, eject: &Eject, dir: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(&EjectReport { runs, eject })?;
    files(dir, ("eject", json), ("eject", draw(runs, Some(eject))?))
}

/// Writes `errors.json`, `errors.svg` and `errors.png`, as [`write`] does.
/// # Errors
/// A file cannot be written.
pub fn write_errors(report: &ErrorsReport, dir: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    files(dir, ("errors", json), ("errors", report.draw()?))
}

/// Writes `peers.json`, `peers.svg` and `peers.png`, as [`write`] does.
/// # Errors
/// A file cannot be written.
pub fn write_peers(report: &PeersReport, dir: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    files(dir, ("peers", json), ("peers", report.draw()?))
}

fn files(dir: &Path, (result, json): (&str, String), (name, drawn): (&str, Drawn)) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, content) in [
        (format!("{result}.json"), json.into_bytes()),
        (format!("{name}.png"), drawn.png),
        (format!("{name}.svg"), drawn.svg.into_bytes()),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// So many connections.
pub(crate) fn connections(n: u32) -> String {
    match n {
        1 => "1 connection".to_owned(),
        n => format!("{n} connections"),
    }
}

/// How the figure shows when home was ejected, and when it took its load back.
pub(crate) fn spans(course: &Course) -> Vec<Span> {
    let ejected = course.ejections.iter().map(|ejection| Span {
        from: ejection.from.as_secs_f64(),
        until: ejection.until.as_secs_f64(),
        label: format!("ejected {:.1} s", ejection.lasted().as_secs_f64()),
        shade: Shade::Ejected,
    });
    let ramps = course.ramps.iter().map(|ramp| Span {
        from: ramp.from.as_secs_f64(),
        until: ramp.until.as_secs_f64(),
        label: "ramp".to_owned(),
        shade: Shade::Ramp,
    });
    ejected.chain(ramps).collect()
}

fn draw(report: &Report, eject: Option<&Eject>) -> Result<Drawn> {
    let outcome = |run: &Run| {
        let Counts { home, peer, failed } = run.totals.counts;
        let statuses: Vec<String> = run
            .totals
            .failed_by_status
            .keys()
            .map(u16::to_string)
            .collect();
        let statuses = if statuses.is_empty() {
            String::new()
        } else {
            format!(" ({})", statuses.join(", "))
        };
        format!(
            "{home} answered at home, {peer} by {}, {failed} failed{statuses}",
            report.peer
        )
    };
    let (with, without) = (outcome(&report.filter), outcome(&report.without_filter));
    let phases: Vec<Phase> = report
        .filter
        .phases
        .iter()
        .map(|phase| Phase {
            label: connections(phase.clients),
            short: phase.clients.to_string(),
            seconds: phase.seconds,
        })
        .collect();
    let with_filter = format!(
        "(a) With peer-spillover, limit {}{}",
        report.filter.limit,
        eject.map_or("", |_| ", overflow: eject")
    );
    let without_filter = format!(
        "(b) The set-up of 2020, limit {}, without the filter",
        report.without_filter.limit
    );
    figure::draw(&Figure {
        bands: &figure::bands(&report.home, &[&report.peer], "failed"),
        change: "load changes",
        phases: &phases,
        bar: 1.0,
        per_bar: "requests per second",
        panels: &[
            Panel {
                title: &with_filter,
                outcome: &with,
                bars: &stacks(&report.filter.per_second),
                spans: &eject.map(|eject| spans(&eject.course)).unwrap_or_default(),
                in_flight: Some(in_flight(&report.filter)),
            },
            Panel {
                title: &without_filter,
                outcome: &without,
                bars: &stacks(&report.without_filter.per_second),
                spans: &[],
                in_flight: Some(in_flight(&report.without_filter)),
            },
        ],
    })
}

/// The counts as the figure has them.
pub(crate) fn stacks(counts: &[Counts]) -> Vec<Vec<u64>> {
    let stack = |counts: &Counts| vec![counts.home, counts.peer, counts.failed];
    counts.iter().map(stack).collect()
}

fn in_flight(run: &Run) -> InFlight<'_> {
    InFlight {
        most: &run.most_in_flight_per_second,
        limit: run.limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result;

    #[test]
    fn the_limit_of_each_run_is_said_wherever_a_reader_looks() {
        let run = |limit| result::run(&[], &[1, 3, 1], 1, limit, vec![1, 2, 1]);
        let report = Report {
            home: "iotcloudserve".into(),
            peer: "gke".into(),
            routing: "authority".into(),
            workers: 2,
            filter: run(2),
            without_filter: run(1),
        };
        let figure = draw(&report, None).unwrap().svg;
        for title in [
            "With peer-spillover, limit 2\n",
            "The set-up of 2020, limit 1, without",
        ] {
            assert!(figure.contains(title), "{title}");
        }
        let summary = summary(&report);
        let lines: Vec<&str> = summary.lines().collect();
        assert!(lines[1].contains(" 2 (limit 2) "), "{summary}");
        assert!(lines[2].contains(" 2 (limit 1) "), "{summary}");
        for text in [&figure, &summary] {
            assert!(!text.contains("transition"), "{text}");
        }
        assert!(figure.contains("\nload changes\n"));
    }

    #[test]
    fn a_row_shows_all_that_there_was() {
        let table = Table::new("gke", 30);
        let row = table.row(
            8,
            3,
            Counts {
                home: 10,
                peer: 3,
                failed: 1,
            },
        );
        assert_eq!(
            row,
            "     8            3    10     3       1   ██████████░░░×"
        );
        // Where a character stands for several, even one request is seen.
        let table = Table::new("gke", 2_000);
        assert!(
            table
                .row(
                    8,
                    200,
                    Counts {
                        home: 1_000,
                        peer: 1_000,
                        failed: 1
                    }
                )
                .ends_with("░×")
        );
    }
}
