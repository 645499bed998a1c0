//! What a plugin has decided, from Envoy's statistics.

use std::collections::BTreeMap;

/// The path of the admin interface that [`of`] reads.
pub const PATH: &str = "/stats?filter=peer_spillover.*decisions";

/// Decisions by `ROLE DESTINATION REASON`.
pub fn of(stats: &str) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for (name, value) in stats.lines().filter_map(|line| line.rsplit_once(": ")) {
        let label = |label: &str| {
            let (_, rest) = name.split_once(&format!("{label}=.="))?;
            Some(rest.split_once(";.;")?.0)
        };
        let key = ["role", "destination", "reason"].map(|l| label(l).unwrap_or_default());
        *counts.entry(key.join(" ")).or_default() += value.parse::<i64>().unwrap_or_default();
    }
    counts
}

/// What is expected of [`of`].
pub fn table(rows: &[(&str, i64)]) -> BTreeMap<String, i64> {
    rows.iter()
        .map(|(key, n)| ((*key).to_owned(), *n))
        .collect()
}
