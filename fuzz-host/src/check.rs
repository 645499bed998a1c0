//! What must be so at the end of a case.

use crate::fault::Family;
use crate::metrics::{GAUGE, Metric};
use crate::world::World;

/// When all streams are gone, and ticks have come after that: nothing is in flight. What is wrong, if anything is.
pub fn when_idle(world: &World) -> Option<String> {
    if !world.fair {
        return None;
    }
    let counts = gauges(world).find(|gauge| gauge.name.contains("in_flight") && gauge.value != 0);
    let wrong = counts.map(|gauge| {
        let (name, value) = (&gauge.name, gauge.value as i64);
        format!("nothing is in flight, and {name} is {value}")
    });
    // What is lied about in shared data is believed, and shows in this gauge.
    let spared = [Family::Shared, Family::Metric, Family::Property];
    let honest = spared.iter().all(|family| world.faults.spares(*family));
    let ejected = gauges(world).find(|gauge| gauge.name.ends_with(";ejected") && gauge.value > 2);
    wrong.or_else(|| {
        let gauge = ejected.filter(|_| honest)?;
        Some(format!("{} is {}", gauge.name, gauge.value as i64))
    })
}

/// When all root contexts are gone: nothing is said to run.
pub fn when_closed(world: &World) -> Option<String> {
    if !world.fair {
        return None;
    }
    let says = |name: &str| name.ends_with(";configured") || name.ends_with(";info");
    let found = gauges(world).find(|gauge| says(&gauge.name) && gauge.value != 0);
    found.map(|gauge| format!("nothing runs, and {} is {}", gauge.name, gauge.value as i64))
}

fn gauges(world: &World) -> impl Iterator<Item = &Metric> {
    world
        .metrics
        .all
        .iter()
        .filter(|metric| metric.kind == GAUGE)
}
