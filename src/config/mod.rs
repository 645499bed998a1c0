//! The plugin's configuration: what users write in `spec.pluginConfig`, read, checked and with its defaults in place.
//!
//! **Invariant: a field that is accepted works.** What is not built is unknown and refused, with one exception, which
//! the contract makes: the vocabulary of a pasted DestinationRule ([`traffic_policy`]).

pub mod duration;
pub mod node;
pub mod reader;
pub mod traffic_policy;

use crate::names;
use crate::policy::{Detection, Rule};
use node::Node;
use reader::{At, Path};
use traffic_policy::TrafficPolicy;

pub use reader::Fault;

/// The configuration of one plugin in one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This cluster's name in the federation: what the marker of a spilled request says.
    pub cluster: String,
    /// Which side of a request the plugin is on. Default: the client's.
    pub role: Role,
    /// What the plugin does with its decisions, where a service does not say otherwise.
    pub mode: Mode,
    /// Say on each response what was decided. Default: false.
    pub debug_header: bool,
    /// SPIFFE trust domains whose markers are believed. Default, empty: the proxy's own.
    pub trust_domains: Vec<String>,
    /// The services looked after: at least one.
    pub services: Vec<Service>,
    /// What was accepted and is not acted on: a line each, for the log.
    pub warnings: Vec<String>,
}

/// Which side of a request the plugin is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends: the surplus goes to the peer.
    Client,
    /// It receives: it tells guests from home's own requests, and counts both.
    Server,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 2] = [Role::Client, Role::Server];

    /// The word that users write and see.
    pub fn word(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
        }
    }
}

/// What happens to decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are carried out.
    Enforce,
    /// They are counted, and change nothing.
    Observe,
    /// There are none.
    Off,
}

impl Mode {
    /// The word that users write and see.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        }
    }
}

/// How a spilled request is led to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// `:authority` becomes the peer's host.
    Authority,
    /// `x-peer-spillover-to` names the peer, for a route to match.
    Header,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its host in lower case, or `*` for whatever the proxy serves.
    pub host: String,
    /// Its own mode, or the plugin's.
    pub mode: Mode,
    /// As written; the default depends on the kind of proxy, which the shell knows.
    pub routing: Option<Routing>,
    /// What decisions need.
    pub rule: Rule,
    /// Which errors take home out; nothing where none do.
    pub detection: Option<Detection>,
    /// Where the surplus goes; nothing where the role is server.
    pub peer: Option<Peer>,
}

/// The same service in another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in the federation.
    pub name: String,
    /// The host whose route leads to it, in lower case.
    pub host: String,
}

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
    "whenFull",
    "trafficPolicy",
    "peers",
];
/// Those of them that the role server has. The others would promise what it does not do.
const SERVER_SERVICE: &[&str] = &["host", "mode"];
const PEER: &[&str] = &["name", "host", "mode"];
const MODES: [(&str, Mode); 3] = [
    ("enforce", Mode::Enforce),
    ("observe", Mode::Observe),
    ("off", Mode::Off),
];

/// Services that one configuration may name: a hundred is what we test, and the rest is a slip.
pub const MOST_SERVICES: usize = 1000;

/// Reads a configuration.
/// # Errors
/// The first thing wrong with it, as one line with its path and the fix.
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
            "debugHeader" => debug_header = at.boolean()?,
            "trustDomains" => at.elements(|at| {
                trust_domains.push(at.host()?);
                Ok(())
            })?,
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
    let services =
        services.ok_or_else(|| missing("services", "a list with at least one service"))?;
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

fn read_services(
    at: At<'_>,
    role: Role,
    inherited: Mode,
    warnings: &mut Vec<String>,
) -> Result<Vec<Service>, Fault> {
    let mut services: Vec<Service> = Vec::new();
    at.elements(|at| {
        if services.len() >= MOST_SERVICES {
            return Err(at.fault(format!(
                "is one too many; at most {MOST_SERVICES} services in one plugin"
            )));
        }
        let service = read_service(at, role, inherited, warnings)?;
        if services.iter().any(|other| other.host == service.host) {
            return Err(at.fault(format!(
                "host {} is there twice; merge the two services",
                service.host
            )));
        }
        services.push(service);
        Ok(())
    })?;
    if services.is_empty() {
        return Err(at.fault("is empty; add a service, or remove the plugin"));
    }
    if services.len() > 1 && services.iter().any(|service| service.host == "*") {
        return Err(at.fault("has \"*\" beside other services; \"*\" may only stand alone"));
    }
    Ok(services)
}

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
    let (mut eject, mut policy) = (false, TrafficPolicy::default());
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
            "whenFull" => reject_when_full = at.word(&[("home", false), ("reject", true)])?,
            "trafficPolicy" => policy = traffic_policy::read(at, warnings)?,
            "peers" => peer = Some(read_peers(at)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let missing = |name: &str, fix: &str| {
        let mut fault = at.fault(format!("is missing; add {fix}"));
        fault.path = format!("{}.{name}", fault.path);
        fault
    };
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
        let mut fault = at.fault("eject wants a limit to overflow and errors that eject; add trafficPolicy.connectionPool and trafficPolicy.outlierDetection, or use surplus");
        fault.path.push_str(".overflow");
        return Err(fault);
    }
    let (peer, peer_open) = peer.ok_or_else(|| missing("peers", "a list with one peer"))?;
    if peer.host == host {
        let mut fault =
            at.fault("must be the host of the peer's ServiceEntry, not the home service's own");
        fault.path.push_str(".peers[0].host");
        return Err(fault);
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
            ..detection
        }),
        peer: Some(peer),
    })
}

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
    let missing = |field: &str, fix: &str| {
        let mut fault = at.fault(format!("is missing; add {fix}"));
        fault.path = format!("{}.{field}", fault.path);
        fault
    };
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
