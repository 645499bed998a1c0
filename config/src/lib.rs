//! The plugin's configuration, which users write in `spec.pluginConfig`: it is read and checked, and gets its defaults.
//!
//! **Invariant: a field that is accepted works.** A field of a feature that does not exist is unknown and refused. The only
//! exception are the fields of a pasted DestinationRule ([`declared::policy`]).
//!
//! The fields are declared once ([`declared`]). The reader ([`reader`]), and the JSON Schema and the page for users
//! ([`reference`](mod@reference)), use this declaration. Rules that concern more than one field are here, in [`hosts`] and
//! in [`traffic_policy`].

// The filter uses this crate, and a panic there is a trap. So it must not panic, as the policy must not.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo,
        clippy::arithmetic_side_effects
    )
)]
#![warn(missing_docs)]

#[cfg(all(test, target_arch = "wasm32", target_os = "unknown"))]
#[path = "../../policy/src/bare.rs"]
mod bare;
pub mod declaration;
pub mod declared;
pub mod duration;
pub mod fault;
pub mod fields;
pub mod hosts;
pub mod line;
mod nearest;
pub mod node;
pub mod reader;
mod spill;
// It is not part of the filter. It indexes only JSON objects by name, which adds a missing field and does not panic.
#[cfg(not(target_arch = "wasm32"))]
#[allow(clippy::indexing_slicing)]
pub mod reference;
pub mod traffic_policy;
mod types;

use declared::plugin::{MOST_TRUST_DOMAINS, peer, plugin, service};
use fault::Path;
use fields::{Fields, Text, Value};
use hosts::Read;
use node::Node;
use policy::select::Candidate;
use policy::{Detection, Rule, notice, sorted};
use reader::Report;
use traffic_policy::{TrafficPolicy, Whose};
use types::{Overflow, PeerMode, ServiceMode, WhenFull};

pub use declared::plugin::MOST_SERVICES;
pub use fault::{Fault, Faults};
pub use types::{Config, Mode, Peer, Role, Routing, Service};

/// The most bytes of a configuration: ten times the size of a thousand services that each have a pasted DestinationRule.
const MOST_BYTES: usize = 16 << 20;

/// Reads a configuration from JSON.
/// # Errors
/// All mistakes of the configuration. Each is a line with its path and how to fix it.
#[inline(never)]
pub fn parse(bytes: &[u8]) -> Result<Config, Faults> {
    let whole = |problem: String| {
        let path = String::new();
        Faults::from(Fault { path, problem })
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(whole(
            "is empty; set spec.pluginConfig with version, cluster and services".to_owned(),
        ));
    }
    if bytes.len() > MOST_BYTES {
        return Err(whole(format!(
            "is longer than {MOST_BYTES} bytes; name fewer services in one plugin"
        )));
    }
    let root = Node::parse(bytes)
        .map_err(|error| whole(format!("is not the JSON that is expected: {error}")))?;
    // An unknown role is a fault of its own, and fields that depend on the role are not checked.
    let role = role_of(&root);
    let mut report = Report::new(bytes, role.unwrap_or(Role::Client));
    report.any_role = role.is_none();
    report.object(&root, &plugin::OBJECT, &Path::Root);
    let config = role.and_then(|role| read_plugin(&root, role, &mut report));
    if report.faults.count() > 0 {
        return Err(report.faults);
    }
    let warnings = report.warnings();
    let config = config.ok_or_else(|| whole("is incomplete".to_owned()))?;
    Ok(Config { warnings, ..config })
}

/// The role in a configuration that may have other mistakes. `None` if the role cannot be read.
#[inline(never)]
pub fn role(bytes: &[u8]) -> Option<Role> {
    role_of(&Node::parse(bytes).ok()?)
}

fn role_of(root: &Node<'_>) -> Option<Role> {
    let top = Fields::of(Some(root), &plugin::OBJECT);
    match root {
        Node::Map(_) if top.is_there(plugin::role) => top.written(plugin::role),
        Node::Map(_) => top.get(plugin::role),
        _ => None,
    }
}

fn read_plugin(root: &Node<'_>, role: Role, report: &mut Report<'_>) -> Option<Config> {
    let top = Fields::of(Some(root), &plugin::OBJECT);
    let cluster = top.written(plugin::cluster).unwrap_or_default();
    let mode = top.get(plugin::mode).unwrap_or(Mode::Enforce);
    let services = match top.written(plugin::services) {
        Some(Node::List(nodes)) if role != Role::Edge => {
            let path = top.path(&Path::Root, plugin::services);
            read_services(nodes, &path, (cluster, mode), report)
        }
        _ => Vec::new(),
    };
    let domains = match top.written(plugin::trustDomains) {
        Some(Node::List(nodes)) => &nodes[..],
        _ => &[],
    };
    let domains = domains
        .iter()
        .take(MOST_TRUST_DOMAINS)
        .filter_map(Text::read);
    Some(Config {
        cluster: cluster.to_owned(),
        role,
        mode,
        debug_header: top.get(plugin::debugHeader)?,
        trust_domains: domains.map(str::to_ascii_lowercase).collect(),
        services,
        warnings: Vec::new(),
    })
}

#[inline(never)]
fn read_services(
    nodes: &[Node<'_>],
    path: &Path<'_>,
    plugin: (&str, Mode),
    report: &mut Report<'_>,
) -> Vec<Service> {
    let mut services: Vec<Read<'_>> = Vec::new();
    // Indices of `services`, in the order of the hosts.
    let mut order: Vec<usize> = Vec::new();
    let star = |node: &Node<'_>| {
        let host = Fields::of(Some(node), &service::OBJECT).written(service::host);
        host == Some("*")
    };
    let beside = nodes.len() > 1 && nodes.iter().any(star);
    if beside {
        let problem = "has \"*\" beside other services; \"*\" may only stand alone";
        report.fault(path, format_args!("{problem}"));
    }
    for (index, node) in nodes.iter().take(MOST_SERVICES).enumerate() {
        let path = &Path::Index(path, index);
        let Some(service) = read_service(node, path, plugin, report) else {
            continue;
        };
        services.push((index, node, service));
        let host = |nth: usize| {
            services
                .get(nth)
                .map_or("", |(_, _, service)| &service.host)
        };
        let last = services.len().saturating_sub(1);
        if !beside && !sorted::insert(&mut order, last, host) {
            let host = host(last);
            report.fault(
                path,
                format_args!("host {host} is there twice; merge the two services"),
            );
            services.pop();
        }
    }
    if !beside {
        hosts::apart(&services, path, report);
    }
    services
        .into_iter()
        .map(|(_, _, service)| service)
        .collect()
}

/// `None` if the service has a mistake of its own. That is reported already, and reports of what follows from it would not
/// help.
#[inline(never)]
fn read_service(
    node: &Node<'_>,
    path: &Path<'_>,
    plugin: (&str, Mode),
    report: &mut Report<'_>,
) -> Option<Service> {
    let role = report.role;
    if report.faults.count() > 0 {
        let mut alone = Report::new(report.source, role);
        alone.faults = Faults::counted();
        alone.object(node, &service::OBJECT, path);
        if alone.faults.count() > 0 {
            return None;
        }
    }
    let fields = Fields::of(Some(node), &service::OBJECT);
    let host = fields.written(service::host)?.to_ascii_lowercase();
    let (cluster, inherited) = plugin;
    if role == Role::Server {
        return Some(Service {
            host,
            mode: fields.written(service::receiving).unwrap_or(inherited),
            routing: None,
            rule: Rule::SERVER,
            spill: None,
            detection: None,
            peers: Vec::new(),
        });
    }
    let (mode, evacuate) = match fields.written(service::mode) {
        None => (inherited, false),
        Some(ServiceMode::Enforce) => (Mode::Enforce, false),
        Some(ServiceMode::Observe) => (Mode::Observe, false),
        Some(ServiceMode::Off) => (Mode::Off, false),
        Some(ServiceMode::Evacuate) => (Mode::Enforce, true),
    };
    let whole = fields.path(path, service::trafficPolicy);
    let policy = fields.written(service::trafficPolicy);
    let policy = traffic_policy::read(policy, &whole, Whose::Home, report);
    let TrafficPolicy { limit, detection } = policy;
    if limit.is_none() && detection.is_none() && !evacuate && mode != Mode::Off {
        report.warn(&whole, format_args!("says no limit and no errors that eject, so nothing is ever spilled; add connectionPool or outlierDetection, or use mode: evacuate"));
    }
    let eject = fields.get(service::overflow) == Some(Overflow::Eject);
    if eject && (limit.is_none() || detection.is_none()) {
        let problem = "eject wants a limit to overflow and errors that eject; add trafficPolicy.connectionPool and trafficPolicy.outlierDetection, or use surplus";
        report.fault(
            &fields.path(path, service::overflow),
            format_args!("{problem}"),
        );
    }
    let min_percent = fields.written(service::minErrorPercent);
    if min_percent.is_some() && detection.is_none() {
        let problem = "wants errors that eject; add trafficPolicy.outlierDetection, or remove it";
        report.fault(
            &fields.path(path, service::minErrorPercent),
            format_args!("{problem}"),
        );
    }
    let spill = spill::read(&fields, path, report);
    let Some(Node::List(nodes)) = fields.written(service::peers) else {
        return None;
    };
    let list = &fields.path(path, service::peers);
    let peers = read_peers(nodes, list, (cluster, &host), report)?;
    Some(Service {
        host,
        mode,
        routing: fields.written(service::routing),
        rule: Rule {
            limit,
            evacuate,
            peer_open: peers.iter().any(|peer| peer.candidate.open),
            reject_when_full: fields.get(service::whenFull) == Some(WhenFull::Reject),
        },
        spill,
        detection: detection.map(|detection| Detection {
            overflow: eject,
            min_percent,
            ..detection
        }),
        peers,
    })
}

/// `None` if a peer has the host of its own service and no subset, which is reported. What follows from that would not help.
#[inline(never)]
fn read_peers(
    nodes: &[Node<'_>],
    list: &Path<'_>,
    (cluster, home): (&str, &str),
    report: &mut Report<'_>,
) -> Option<Vec<Peer>> {
    let mut peers: Vec<Peer> = Vec::new();
    let mut apart = true;
    for (index, node) in nodes.iter().enumerate() {
        let path = &Path::Index(list, index);
        let peer = read_peer(node, path, home, report)?;
        let fields = Fields::of(Some(node), &peer::OBJECT);
        let (host, subset) = peer.host_and_subset();
        // A peer of "*", which stands for all hosts, cannot be a subset.
        if host == home && (subset.is_empty() || home == "*") {
            let problem = "must be the host of the peer's ServiceEntry, not the home service's own";
            report.fault(&fields.path(path, peer::host), format_args!("{problem}"));
            apart = false;
        }
        if peer.name == cluster {
            let problem = format_args!("must be another cluster's name, not our own, {cluster}");
            report.fault(&fields.path(path, peer::name), problem);
        }
        for (nth, other) in peers.iter().enumerate() {
            let key = if other.name == peer.name {
                peer::name
            } else if other.subset != peer.subset || other.at != peer.at {
                continue;
            } else if subset.is_empty() {
                peer::host
            } else {
                peer::subset
            };
            let problem =
                format_args!("is that of peers[{nth}] too; give each peer one of its own");
            report.fault(&fields.path(path, key), problem);
        }
        peers.push(peer);
    }
    apart.then_some(peers)
}

/// A peer of the service with the host `home`.
fn read_peer(
    node: &Node<'_>,
    path: &Path<'_>,
    home: &str,
    report: &mut Report<'_>,
) -> Option<Peer> {
    let fields = Fields::of(Some(node), &peer::OBJECT);
    let whole = fields.path(path, peer::trafficPolicy);
    let policy = fields.written(peer::trafficPolicy);
    let TrafficPolicy { limit, detection } =
        traffic_policy::read(policy, &whole, Whose::Peer, report);
    let name = fields.written(peer::name)?;
    let candidate = Candidate {
        priority: fields.get(peer::priority)?,
        weight: fields.get(peer::weight)?,
        hash: notice::hash(name.as_bytes()),
        open: fields.get(peer::mode) == Some(PeerMode::Enforce),
        limit,
        detects: detection.is_some(),
    };
    let subset = fields.written(peer::subset).unwrap_or_default();
    let host = fields.written(peer::host).unwrap_or(home);
    let mut at = subset.to_owned();
    at.push_str(&host.to_ascii_lowercase());
    Some(Peer {
        name: name.to_owned(),
        at,
        subset: subset.len(),
        candidate,
        detection,
    })
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;

#[cfg(test)]
#[path = "bounds_test.rs"]
mod bounds;

#[cfg(test)]
#[path = "peers_test.rs"]
mod peers;

#[cfg(test)]
#[path = "rules_test.rs"]
mod rules;

#[cfg(test)]
#[path = "spill_test.rs"]
mod spills;

#[cfg(test)]
#[path = "told_test.rs"]
mod told;
