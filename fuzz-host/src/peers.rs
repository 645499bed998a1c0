//! What must be so of the counts of peers at any time, by what the filter says of its decisions: what was sent to a peer is in
//! flight there until it ends, or until a sweep finds it finished.

use std::collections::BTreeMap;

use policy::names::label_value;
use policy::recovery::mark::low;
use serde_json::Value;

use crate::fault::Family;
use crate::metrics::GAUGE;
use crate::world::{Phase, Root, Standing, Vm, World};

/// After a callback, where no other one is under way: each peer's counts are the requests that were sent there, and their shares
/// are as many. What is wrong, if anything is.
pub fn when_outside(world: &World) -> Option<String> {
    let told = [Family::Property, Family::Clock, Family::Other];
    let honest = world.fair && told.iter().all(|family| world.faults.spares(*family));
    // Of a VM that is dead, or is taken for dead, the host does not know what is counted.
    let alone = world.switches == 0 && !world.traps && world.timely;
    let kept = !world.outsider && !world.misnumbered;
    let kept = kept && world.metrics.all.iter().all(|metric| !metric.dropped);
    if !honest || !alone || !kept || world.phase == Phase::Close {
        return None;
    }
    let sent = sent(world);
    for (name, of) in [
        ("total", ";peer_in_flight"),
        ("sum of shares", ";peer_requests_share"),
    ] {
        let counted = counted(world, of);
        for peer in sent.keys().chain(counted.keys()) {
            let [open, all] = sent.get(peer).copied().unwrap_or_default();
            let count = counted.get(peer).copied().unwrap_or(0);
            if count < open || count > all {
                return Some(format!(
                    "of {all} requests that were sent to {peer:?} {open} are unfinished, and the {name} is {count}"
                ));
            }
        }
    }
    None
}

/// Where one configuration is all that there ever was: each destination that was used shows the limit that it has there. What is
/// wrong, if anything is.
pub fn limits(world: &World) -> Option<String> {
    let [(_, config, _)] = &world.deployments[..] else {
        return None;
    };
    let told = [Family::Shared, Family::Property, Family::Other];
    let honest = told.iter().all(|family| world.faults.spares(*family));
    // Where nothing runs any more there is no limit.
    let runs = |root: &Root| root.standing == Standing::Good && root.ticks;
    let runs = world.vms.iter().any(|vm| vm.roots.iter().any(runs));
    // A VM that ends as the last one which ran may be overtaken by the first tick of another, and shows 0 after it.
    let overtaken = world.switches != 0;
    if !honest || !runs || overtaken || world.outsider || world.misnumbered {
        return None;
    }
    let config: Value = serde_json::from_slice(config).ok()?;
    let gauges = world.metrics.all.iter();
    let gauges = gauges.filter(|m| m.kind == GAUGE && !m.dropped);
    let mut limits = gauges.filter(|m| {
        [";limit", ";peer_limit"]
            .iter()
            .any(|end| m.name.ends_with(end))
    });
    limits.find_map(|gauge| {
        let named = |list: &'static str, of: &Value, field: &str, label: &str| {
            let all = of[list].as_array()?.iter();
            let named =
                |of: &&Value| of[field].as_str().map(label_value).as_deref() == gauge.label(label);
            all.clone().find(named).cloned()
        };
        let mut of = named("services", &config, "host", "service")?;
        if gauge.label("peer").is_some() {
            of = named("peers", &of, "name", "peer")?;
        }
        let pool = &of["trafficPolicy"]["connectionPool"];
        let of = [
            &pool["tcp"]["maxConnections"],
            &pool["http"]["http2MaxRequests"],
        ];
        let limit = of.iter().filter_map(|limit| limit.as_u64()).min();
        let limit = limit.unwrap_or(0);
        (gauge.value != limit).then(|| format!("{} is {}, not {limit}", gauge.name, gauge.value))
    })
}

/// A peer, by its plugin and its name.
type Peer = (String, String);

/// Of the requests that were sent to each peer, those that their upstream has not finished, and all.
fn sent(world: &World) -> BTreeMap<Peer, [i64; 2]> {
    let mut sent: BTreeMap<Peer, [i64; 2]> = BTreeMap::new();
    for (vm, stream) in world
        .vms
        .iter()
        .flat_map(|vm| vm.streams.iter().map(move |s| (vm, s)))
    {
        let Some(peer) = &stream.sent_to else {
            continue;
        };
        let of = (plugin(vm, stream.root), label_value(peer));
        let [open, all] = sent.entry(of).or_default();
        *open += i64::from(!stream.finished && !stream.seemed_finished);
        *all += 1;
    }
    sent
}

/// The plugin that this root context runs.
fn plugin(vm: &Vm, root: u32) -> String {
    let root = vm.roots.iter().find(|known| known.id == root);
    root.map_or(String::new(), |root| label_value(root.runs.0))
}

/// The sum over all services of the gauges whose name ends so.
fn counted(world: &World, end: &str) -> BTreeMap<Peer, i64> {
    let mut counted = BTreeMap::new();
    let gauges = world.metrics.all.iter().filter(|m| m.kind == GAUGE);
    for gauge in gauges.filter(|gauge| gauge.name.ends_with(end)) {
        if let (Some(plugin), Some(peer)) = (gauge.label("plugin"), gauge.label("peer")) {
            let of = (plugin.to_owned(), peer.to_owned());
            *counted.entry(of).or_default() += low(gauge.value);
        }
    }
    counted
}
