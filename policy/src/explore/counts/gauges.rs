//! The gauges of the process: the counts of two destinations of a service, and what belongs to them.

use std::sync::LazyLock;

use crate::names::{self, metric};

/// Slots, as far as a test can fill them.
pub(super) const SLOTS: usize = 8;
/// How many counts there are: home's, and that of a peer.
pub(super) const COUNTS: usize = 2;
pub(super) const PROCESS: u64 = 7;

/// All gauges by their numbers: the totals, the changes of the roster, the beats, the shares.
pub(super) static GAUGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let of_slot = |slot: usize, name: &str| {
        let slot = format!("{PROCESS}-{slot}");
        metric(&[("worker", &slot)], name)
    };
    let totals = [0, 1].map(total_name);
    let changes = metric(&[("worker", &PROCESS.to_string())], "roster_changes");
    let mut gauges = [&totals[..], &[changes]].concat();
    gauges.extend((0..SLOTS).map(|slot| of_slot(slot, "beats")));
    for total in totals {
        let share = names::share(&total).expect("it is shared");
        gauges.extend((0..SLOTS).map(|slot| of_slot(slot, &share)));
    }
    gauges
});

/// The name of the count of this number.
pub(super) fn total_name(n: usize) -> String {
    match n {
        0 => metric(&[("service", "a")], "in_flight"),
        _ => metric(&[("service", "a"), ("peer", "b")], "peer_in_flight"),
    }
}
