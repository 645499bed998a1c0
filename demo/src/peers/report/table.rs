//! The rows of the run, one for each second.

use super::Phase;
use crate::peers::plan::Plan;

/// The characters of the bars: home, then the peers.
const BARS: [&str; 6] = ["█", "░", "▒", "▓", "▚", "▢"];
/// Characters of the longest bar.
const LONGEST: u32 = 40;
/// Requests of a connection in a second.
const RATE: u32 = 10;

/// The line above the rows.
pub(in crate::peers) fn header(plan: &Plan) -> String {
    let names = plan.names().map(|name| format!("{name:>5}"));
    let legend = plan
        .names()
        .zip(BARS)
        .map(|(name, bar)| format!("{bar} {name}"));
    format!(
        "second  connections  {}  failed   {}  × failed",
        names.collect::<Vec<_>>().join("  "),
        legend.collect::<Vec<_>>().join("  ")
    )
}

/// The rows of a phase, each with its line end.
pub(in crate::peers) fn rows(plan: &Plan, phase: &Phase, nth: usize, seconds: u32) -> String {
    let most = plan.stages.iter().map(|stage| plan.clients(*stage)).max();
    let per_char = u64::from((most.unwrap_or(0) * RATE).div_ceil(LONGEST).max(1));
    let row = |(second, counts): (usize, &Vec<u64>)| {
        let number = nth * seconds as usize + second + 1;
        let cells = plan.names().zip(counts);
        let cells = cells.map(|(name, n)| format!("{n:>width$}", width = name.len().max(5)));
        let failed = counts.last().copied().unwrap_or(0);
        let bars = BARS.into_iter().take(plan.peers.len() + 1).chain(["×"]);
        let bar: String = bars
            .zip(counts)
            .map(|(char, n)| char.repeat(n.div_ceil(per_char) as usize))
            .collect();
        let row = format!(
            "{number:>6}  {:>11}  {}  {failed:>6}   {bar}",
            phase.clients,
            cells.collect::<Vec<_>>().join("  ")
        );
        row.trim_end().to_owned() + "\n"
    };
    phase.per_second.iter().enumerate().map(row).collect()
}
