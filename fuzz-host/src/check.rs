//! What must be so at the end of a case.

use policy::ejection::Record;
use policy::names::metrics::{self, Kind};
use policy::names::{HOME, REJECTED};
use policy::recovery::mark::low;
use serde_json::Value;

use crate::fault::Family;
use crate::metrics::{GAUGE, Metric};
use crate::peers;
use crate::world::{Root, Standing, Vm, World};

/// When all streams are gone, and ticks have come after that: nothing is in flight. What is wrong, if anything is.
pub fn when_idle(world: &World) -> Option<String> {
    if !world.fair {
        return None;
    }
    // A VM that has ended may have left the mark on a share by which the others know that it was inside a callback.
    let is_left = |gauge: &&Metric| match gauge.name.ends_with("requests_share") {
        true => low(gauge.value) != 0,
        false => gauge.name.contains("in_flight") && gauge.value != 0,
    };
    let counts = gauges(world).find(is_left);
    let wrong = counts.map(|gauge| {
        let (name, value) = (&gauge.name, gauge.value as i64);
        format!("nothing is in flight, and {name} is {value}")
    });
    // What is lied about in shared data is believed, and shows in this gauge.
    let spared = [Family::Shared, Family::Metric, Family::Property];
    let honest = spared.iter().all(|family| world.faults.spares(*family));
    let ejected = gauges(world).find(|gauge| is_ejected(&gauge.name) && gauge.value > 2);
    if world.outsider {
        return wrong.or_else(|| unhealed(world));
    }
    let wrong = wrong.or_else(|| overcounted(world));
    wrong.or_else(|| peers::limits(world)).or_else(|| {
        let gauge = ejected.filter(|_| honest)?;
        Some(format!("{} is {}", gauge.name, gauge.value as i64))
    })
}

/// Whether this is the gauge of an ejection, of home or of a peer.
fn is_ejected(name: &str) -> bool {
    name.ends_with(";ejected") || name.ends_with(";peer_ejected")
}

/// A spilled request has one outcome, so there are no more of them than decisions to spill, of which some were only observed.
fn overcounted(world: &World) -> Option<String> {
    let counters = |name: &str| {
        let of = |metric: &&Metric| metric.name.ends_with(name);
        world.metrics.all.iter().filter(of).collect::<Vec<_>>()
    };
    let decisions = counters(";decisions");
    if !world.faults.spares(Family::Metric) || decisions.iter().any(|metric| metric.dropped) {
        return None;
    }
    let spills = decisions.iter().filter(|metric| {
        let to = metric.label("destination");
        to.is_some_and(|to| ![HOME, REJECTED].contains(&to))
    });
    let spills: u64 = spills.map(|metric| metric.value).sum();
    let outcomes: u64 = counters(";outcomes").iter().map(|m| m.value).sum();
    let wrong = outcomes > spills;
    wrong.then(|| format!("{spills} requests were spilled, and {outcomes} outcomes are counted"))
}

/// Where another module wrote: the gauge of each service whose errors are detected shows again what its record says, and that of
/// each other nothing. Where one configuration is all that there ever was, it is known which these are.
fn unhealed(world: &World) -> Option<String> {
    let [(plugin, config, _)] = &world.deployments[..] else {
        return None;
    };
    let told = [
        Family::Clock,
        Family::Property,
        Family::Other,
        Family::Shared,
    ];
    // A service is not looked after if Envoy keeps not all that it counts with.
    let kept = world.metrics.all.iter().all(|metric| !metric.dropped);
    if !kept || !told.iter().all(|family| world.faults.spares(*family)) {
        return None;
    }
    let config: Value = serde_json::from_slice(config).ok()?;
    let services = config["services"].as_array()?.iter();
    let off = services.clone().all(|service| {
        let mode = service.get("mode").unwrap_or(&config["mode"]);
        mode == "off"
    });
    let plugin = policy::names::label_value(plugin);
    for service in services {
        let detecting = |of: &Value| !of["trafficPolicy"]["outlierDetection"].is_null();
        if detecting(service) && off {
            continue;
        }
        let labels = [
            ("plugin", plugin.as_str()),
            ("role", "client"),
            ("service", service["host"].as_str()?),
        ];
        let home = unhealed_at(world, &labels, "", detecting(service));
        let peers = service["peers"].as_array().into_iter().flatten();
        let mut peers = peers.filter_map(|peer| {
            let label = [("peer", peer["name"].as_str()?)];
            let labels = [&labels[..], &label].concat();
            let watched = detecting(peer) && peer["mode"] != "drain";
            (!watched || !off).then(|| unhealed_at(world, &labels, "peer_", watched))?
        });
        let fault = home.or_else(|| peers.next());
        if fault.is_some() {
            return fault;
        }
    }
    None
}

/// As [`unhealed`], of the destination with these labels and this beginning of its names.
fn unhealed_at(
    world: &World,
    labels: &[(&str, &str)],
    beginning: &str,
    detecting: bool,
) -> Option<String> {
    let ticks = |root: &Root| root.standing == Standing::Good && root.ticks;
    let alive = |vm: &&Vm| vm.roots.iter().any(ticks);
    let name = |name: &str| policy::names::metric(labels, &[beginning, name].concat());
    let all = &world.metrics.all;
    let ejected = name("ejected");
    let at = all.iter().position(|m| m.name == ejected && !m.dropped)?;
    // The one that used the service may have died: the others look after it from their own first request on.
    let mut vms = world.vms.iter().filter(alive);
    if !vms.any(|vm| vm.metrics.contains(&at)) {
        return None;
    }
    let gauge = &all[at];
    let bytes = world.shared.get(name("errors").as_bytes());
    let record = Record::from_bytes(&bytes.map(|(bytes, _)| bytes).unwrap_or_default());
    let says = if detecting { record.phase.shown() } else { 0 };
    let shows = gauge.value.cast_signed();
    (says != shows).then(|| {
        let name = &gauge.name;
        format!("{name} is {shows}, and its record says {says}")
    })
}

/// When all root contexts are gone: every metric is one that is declared, and nothing is said to run.
pub fn when_closed(world: &World) -> Option<String> {
    // The index of the counts, by whose names their gauges are found, is in shared data.
    if world.faults.spares(Family::Shared) && !world.outsider {
        let fault = |metric: &Metric| {
            let kind = if metric.kind == GAUGE {
                Kind::Gauge
            } else {
                Kind::Counter
            };
            metrics::fault(kind, &metric.name)
        };
        if let Some(fault) = world.metrics.all.iter().find_map(fault) {
            return Some(fault);
        }
    }
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
