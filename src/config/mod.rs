//! The plugin's configuration: what users write in `spec.pluginConfig`, read, checked and with its defaults in place.
//!
//! **Invariant: a field that is accepted works.** What is not built is unknown and refused, with one exception, which
//! the contract makes: the vocabulary of a pasted DestinationRule ([`traffic_policy`]).

pub mod duration;
pub mod hosts;
pub mod line;
pub mod node;
pub mod reader;
pub mod traffic_policy;
mod types;

use crate::names;
use crate::policy::{Detection, Rule, index};
use node::Node;
use reader::{At, Path};
use traffic_policy::TrafficPolicy;

pub use reader::Fault;
pub use types::{Config, Mode, Peer, Role, Routing, Service};

const TOP: &[&str] = &[
    "version",
    "cluster",
    "role",
    "mode",
    "debugHeader",
    "trustDomains",
    "services",
];
const SERVICE: &[&str] = &[
    "host",
    "mode",
    "routing",
    "overflow",
    "minErrorPercent",
    "whenFull",
    "trafficPolicy",
    "peers",
];
/// Those of [`TOP`] that the role edge does not have: they would promise what it does not do.
const NOT_EDGE: &[&str] = &["debugHeader", "services"];
/// Those of [`SERVICE`] that the role server has. The others would promise what it does not do.
const SERVER_SERVICE: &[&str] = &["host", "mode"];
const PEER: &[&str] = &["name", "host", "mode"];
const MODES: [(&str, Mode); 3] = [
    ("enforce", Mode::Enforce),
    ("observe", Mode::Observe),
    ("off", Mode::Off),
];

/// Services that one configuration may name: a hundred is what we test, and the rest is a slip.
pub const MOST_SERVICES: usize = 1000;
/// Trust domains that one configuration may name. Each is compared with the certificate of a request that has a marker.
pub const MOST_TRUST_DOMAINS: usize = 64;
/// Warnings that are kept, so that they fit into one line; the others are counted.
const MOST_WARNINGS: usize = 20;
/// Bytes of a configuration: ten times what a thousand services with a pasted DestinationRule each have.
const MOST_BYTES: usize = 16 << 20;

/// Reads a configuration.
/// # Errors
/// The first thing wrong with it, as one line with its path and the fix.
#[inline(never)]
pub fn parse(bytes: &[u8]) -> Result<Config, Fault> {
    let whole = |problem: String| Fault {
        path: String::new(),
        problem,
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
    let at = At::new(&root, &Path::Root);

    let (mut version, mut cluster, mut debug_header) = (None, None, false);
    let (mut role, mut mode) = (Role::Client, Mode::Enforce);
    let (mut trust_domains, mut services, mut warnings) = (Vec::new(), None, Vec::new());
    // Services are read by the plugin's role and mode, so these come first wherever they stand.
    at.fields(TOP, |name, at| {
        match name {
            "role" => role = at.word(&Role::ALL.map(|role| (role.word(), role)))?,
            "mode" => mode = at.word(&MODES)?,
            _ => {}
        }
        Ok(TOP.contains(&name))
    })?;
    at.fields(TOP, |name, at| {
        match name {
            "version" => version = Some(at.integer(1, 1)?),
            "cluster" => cluster = Some(at.name()?),
            _ if role == Role::Edge && NOT_EDGE.contains(&name) => {
                return Err(at.fault("is not for role: edge; remove it"));
            }
            "trustDomains" => at.elements(|at| {
                if trust_domains.len() >= MOST_TRUST_DOMAINS {
                    return Err(at.fault(format!(
                        "is one too many; at most {MOST_TRUST_DOMAINS} trust domains"
                    )));
                }
                trust_domains.push(at.host()?);
                Ok(())
            })?,
            "debugHeader" => debug_header = at.boolean()?,
            "services" => services = Some(read_services(at, role, mode, &mut warnings)?),
            _ => {}
        }
        Ok(true)
    })?;

    let missing = |name: &str, fix: &str| Fault {
        path: name.to_owned(),
        problem: format!("is missing; add {fix}"),
    };
    version.ok_or_else(|| missing("version", "version: 1"))?;
    let cluster =
        cluster.ok_or_else(|| missing("cluster", "this cluster's name in the federation"))?;
    let services = match services {
        None if role == Role::Edge => Vec::new(),
        services => {
            services.ok_or_else(|| missing("services", "a list with at least one service"))?
        }
    };
    for (index, service) in services.iter().enumerate() {
        if service
            .peer
            .as_ref()
            .is_some_and(|peer| peer.name == cluster)
        {
            return Err(Fault {
                path: format!("services[{index}].peers[0].name"),
                problem: format!("must be another cluster's name, not our own, {cluster}"),
            });
        }
    }
    Ok(Config {
        cluster,
        role,
        mode,
        debug_header,
        trust_domains,
        services,
        warnings,
    })
}

/// The role that a configuration is for, as far as that can be read, whatever else is wrong with it.
#[inline(never)]
pub fn role(bytes: &[u8]) -> Option<Role> {
    let Ok(Node::Map(fields)) = Node::parse(bytes) else {
        return None;
    };
    match fields.iter().find(|(name, _)| name == "role") {
        None => Some(Role::Client),
        Some((_, Node::Text(word))) => Role::ALL.into_iter().find(|role| role.word() == word),
        Some(_) => None,
    }
}

#[inline(never)]
fn read_services(
    at: At<'_>,
    role: Role,
    inherited: Mode,
    warnings: &mut Vec<String>,
) -> Result<Vec<Service>, Fault> {
    let mut services: Vec<Service> = Vec::new();
    let mut more = 0usize;
    // In the order of their hosts.
    let mut order: Vec<usize> = Vec::new();
    at.elements(|at| {
        if services.len() >= MOST_SERVICES {
            return Err(at.fault(format!(
                "is one too many; at most {MOST_SERVICES} services in one plugin"
            )));
        }
        services.push(read_service(at, role, inherited, warnings)?);
        more = more.saturating_add(warnings.len().saturating_sub(MOST_WARNINGS));
        warnings.truncate(MOST_WARNINGS);
        let host = |n: usize| services.get(n).map_or("", |service| &service.host);
        let last = services.len().saturating_sub(1);
        if !index::insert(&mut order, last, host) {
            let host = host(last);
            return Err(at.fault(format!(
                "host {host} is there twice; merge the two services"
            )));
        }
        Ok(())
    })?;
    if services.is_empty() {
        return Err(at.fault("is empty; add a service, or remove the plugin"));
    }
    if services.len() > 1 && services.iter().any(|service| service.host == "*") {
        return Err(at.fault("has \"*\" beside other services; \"*\" may only stand alone"));
    }
    if more > 0 {
        warnings.push(format!(
            "and {more} more fields that are not acted on as written"
        ));
    }
    hosts::apart(&services)?;
    Ok(services)
}

#[inline(never)]
fn read_service(
    at: At<'_>,
    role: Role,
    inherited: Mode,
    warnings: &mut Vec<String>,
) -> Result<Service, Fault> {
    let server = role == Role::Server;
    let known = if server { SERVER_SERVICE } else { SERVICE };
    let (mut host, mut mode, mut evacuate) = (None, inherited, false);
    let (mut routing, mut reject_when_full, mut peer) = (None, false, None);
    let (mut eject, mut min_percent, mut policy) = (false, None, TrafficPolicy::default());
    at.fields(known, |name, at| {
        match name {
            _ if server && SERVICE.contains(&name) && !known.contains(&name) => {
                return Err(at.fault("is not for role: server; remove it"));
            }
            "host" if at.text()? == "*" => host = Some("*".to_owned()),
            "host" => host = Some(at.host()?),
            "mode" if server => mode = at.word(&MODES)?,
            "mode" => {
                (mode, evacuate) = at.word(&[
                    ("enforce", (Mode::Enforce, false)),
                    ("observe", (Mode::Observe, false)),
                    ("off", (Mode::Off, false)),
                    ("evacuate", (Mode::Enforce, true)),
                ])?;
            }
            "routing" => {
                routing = Some(at.word(&[
                    ("authority", Routing::Authority),
                    ("header", Routing::Header),
                ])?);
            }
            "overflow" => eject = at.word(&[("surplus", false), ("eject", true)])?,
            "minErrorPercent" => min_percent = Some(at.integer(0, 100)?),
            "whenFull" => reject_when_full = at.word(&[("home", false), ("reject", true)])?,
            "trafficPolicy" => policy = traffic_policy::read(at, warnings)?,
            "peers" => peer = Some(read_peers(at)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let missing = |name: &str, fix: &str| at.fault_in(name, &format!("is missing; add {fix}"));
    let host = host.ok_or_else(|| missing("host", "the service's host, or \"*\""))?;
    if server {
        return Ok(Service {
            host,
            mode,
            routing: None,
            rule: Rule::SERVER,
            detection: None,
            peer: None,
        });
    }
    if eject && (policy.limit.is_none() || policy.detection.is_none()) {
        return Err(at.fault_in("overflow", "eject wants a limit to overflow and errors that eject; add trafficPolicy.connectionPool and trafficPolicy.outlierDetection, or use surplus"));
    }
    if min_percent.is_some() && policy.detection.is_none() {
        let problem = "wants errors that eject; add trafficPolicy.outlierDetection, or remove it";
        return Err(at.fault_in("minErrorPercent", problem));
    }
    let (peer, peer_open) = peer.ok_or_else(|| missing("peers", "a list with one peer"))?;
    if peer.host == host {
        let problem = "must be the host of the peer's ServiceEntry, not the home service's own";
        return Err(at.fault_in("peers[0].host", problem));
    }
    Ok(Service {
        host,
        mode,
        routing,
        rule: Rule {
            limit: policy.limit,
            evacuate,
            peer_open,
            reject_when_full,
        },
        detection: policy.detection.map(|detection| Detection {
            overflow: eject,
            min_percent,
            ..detection
        }),
        peer: Some(peer),
    })
}

#[inline(never)]
fn read_peers(at: At<'_>) -> Result<(Peer, bool), Fault> {
    let mut peers = Vec::new();
    at.elements(|at| {
        if !peers.is_empty() {
            return Err(at.fault("is one too many; this version takes exactly one peer"));
        }
        peers.push(read_peer(at)?);
        Ok(())
    })?;
    peers
        .pop()
        .ok_or_else(|| at.fault("is empty; add the peer that takes the surplus"))
}

#[inline(never)]
fn read_peer(at: At<'_>) -> Result<(Peer, bool), Fault> {
    let (mut name, mut host, mut open) = (None, None, true);
    at.fields(PEER, |field, at| {
        match field {
            "name" => {
                let text = at.name()?;
                if text == names::HOME || text == names::REJECTED {
                    return Err(at.fault(format!(
                        "{text} is a word of the metrics; give the peer another name"
                    )));
                }
                name = Some(text);
            }
            "host" => host = Some(at.host()?),
            "mode" => open = at.word(&[("enforce", true), ("drain", false)])?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let missing = |field: &str, fix: &str| at.fault_in(field, &format!("is missing; add {fix}"));
    Ok((
        Peer {
            name: name.ok_or_else(|| missing("name", "the peer cluster's name"))?,
            host: host.ok_or_else(|| {
                missing(
                    "host",
                    "the ServiceEntry host whose endpoint is the peer's gateway",
                )
            })?,
        },
        open,
    ))
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;

#[cfg(test)]
#[path = "bounds_test.rs"]
mod bounds;
