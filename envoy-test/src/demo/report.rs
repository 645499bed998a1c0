//! What `cargo demo` prints, writes and draws of its runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::result::{Counts, Report, Run};
use crate::figure::{self, Figure, Panel};

/// Characters of the longest bar of a second.
const BAR: u64 = 40;

/// The table of a run, row by row while it runs.
pub struct Table {
    peer: String,
    per_char: u64,
}

impl Table {
    /// A table for seconds of up to `most` requests.
    pub fn new(peer: &str, most: u64) -> Self {
        Table {
            peer: peer.to_owned(),
            per_char: most.div_ceil(BAR).max(1),
        }
    }

    /// The line above the rows.
    pub fn header(&self) -> String {
        format!(
            "second  connections  home {:>5}  failed   █ home  ░ {}  × failed",
            self.peer, self.peer
        )
    }

    /// Who answered the requests of one second, counted from 1.
    pub fn row(&self, second: usize, clients: u32, counts: Counts) -> String {
        let bar: String = [("█", counts.home), ("░", counts.peer), ("×", counts.failed)]
            .map(|(char, n)| char.repeat(n.div_ceil(self.per_char) as usize))
            .concat();
        let Counts { home, peer, failed } = counts;
        format!("{second:>6}  {clients:>11}  {home:>4} {peer:>5}  {failed:>6}   {bar}")
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
        let most = run.totals.most_in_flight_at_home;
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
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let svg = draw(report)?;
    let files = [
        (
            "result.json",
            serde_json::to_string_pretty(report)?.into_bytes(),
        ),
        ("spillover.png", figure::png(&svg)?),
        ("spillover.svg", svg.into_bytes()),
    ];
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn draw(report: &Report) -> Result<String> {
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
    let clients: Vec<u32> = report
        .filter
        .phases
        .iter()
        .map(|phase| phase.clients)
        .collect();
    let seconds = report
        .filter
        .phases
        .first()
        .map_or(0, |phase| phase.seconds);
    figure::svg(&Figure {
        clusters: (&report.home, &report.peer),
        clients: &clients,
        seconds,
        panels: &[
            Panel {
                title: "(a) With peer-spillover",
                outcome: &with,
                per_second: &report.filter.per_second,
            },
            Panel {
                title: "(b) The set-up of 2020, without the filter",
                outcome: &without,
                per_second: &report.without_filter.per_second,
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
