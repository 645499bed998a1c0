//! The gauges of the process: two counts, and what belongs to them.

use std::sync::LazyLock;

use crate::names::{self, metric};

/// Slots, as far as a test can fill them.
pub(super) const SLOTS: usize = 8;
/// Counts, by their services.
pub(super) const SERVICES: [&str; 2] = ["a", "b"];
pub(super) const PROCESS: u64 = 7;

/// All gauges by their numbers: the totals, the changes of the roster, the beats, the shares.
pub(super) static GAUGES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let of_slot = |slot: usize, name: &str| {
        let slot = format!("{PROCESS}-{slot}");
        metric(&[("worker", &slot)], name)
    };
    let totals = SERVICES.map(total_name);
    let changes = metric(&[("worker", &PROCESS.to_string())], "roster_changes");
    let mut gauges = [totals.to_vec(), vec![changes]].concat();
    gauges.extend((0..SLOTS).map(|slot| of_slot(slot, "beats")));
    for service in SERVICES {
        let share = names::share(&total_name(service)).expect("it is shared");
        gauges.extend((0..SLOTS).map(|slot| of_slot(slot, &share)));
    }
    gauges
});

pub(super) fn total_name(service: &str) -> String {
    metric(&[("service", service)], "in_flight")
}
