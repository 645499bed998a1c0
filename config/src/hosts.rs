//! Rules about the hosts of services and peers.
//!
//! **Invariant: a host belongs to one service only, as its own host or as the host of its peers**, no two of which have the same
//! subset of it. Otherwise a request for the cluster of a host could be counted for the wrong service.

use std::collections::BinaryHeap;

use super::declared::plugin::{peer, service};
use super::fault::{Fault, MOST_TOLD, Path};
use super::fields::Fields;
use super::node::Node;
use super::reader::Report;
use super::{Config, Role, Service};
use policy::select::MOST_PEERS;

/// The index of a service in the list, its node, and the service. The index is needed because other services may have been
/// refused.
pub(super) type Read<'a> = (usize, &'a Node<'a>, Service);

/// Sorts hosts and their numbers. The code of a heap is a tenth of that of a slice's sort, which would be a fortieth of the
/// module.
#[inline(never)]
pub fn sorted(hosts: Vec<(String, usize)>) -> Vec<(String, usize)> {
    BinaryHeap::from(hosts).into_sorted_vec()
}

/// Reports a fault for each peer whose host is the host of another service or of a peer of another service.
#[inline(never)]
pub(super) fn apart(services: &[Read<'_>], list: &Path<'_>, report: &mut Report<'_>) {
    // The numbers of peers follow those of the services, so that of two equal hosts the service's comes first.
    let mut hosts: Vec<(String, usize)> = Vec::new();
    for (nth, (_, _, service)) in services.iter().enumerate() {
        hosts.push((service.host.clone(), nth));
        for (peer, of) in service.peers.iter().zip(0..MOST_PEERS) {
            let number = nth.saturating_mul(MOST_PEERS).saturating_add(of);
            hosts.push((
                peer.host_and_subset().0.to_owned(),
                number.saturating_add(services.len()),
            ));
        }
    }
    for pair in sorted(hosts).windows(2) {
        let [(host, first), (other, second)] = pair else {
            continue;
        };
        // Two services with the same host have been reported already.
        let Some(second) = second.checked_sub(services.len()) else {
            continue;
        };
        let whose = match first.checked_sub(services.len()) {
            Some(first) => first / MOST_PEERS,
            None => *first,
        };
        if host != other || whose == second / MOST_PEERS {
            continue;
        }
        let place = |nth: usize| services.get(nth).map_or(0, |(index, _, _)| *index);
        let first = match first.checked_sub(services.len()) {
            Some(first) => {
                let (first, peer) = (first / MOST_PEERS, first % MOST_PEERS);
                format!("services[{}].peers[{peer}]", place(first))
            }
            None => format!("services[{}]", place(*first)),
        };
        if let Some((index, node, _)) = services.get(second / MOST_PEERS) {
            let path = &Path::Index(list, *index);
            let peers = Fields::of(Some(node), &service::OBJECT);
            let Some(Node::List(nodes)) = peers.written(service::peers) else {
                continue;
            };
            let nth = second % MOST_PEERS;
            let path = &Path::Index(&peers.path(path, service::peers), nth);
            let fields = Fields::of(nodes.get(nth), &peer::OBJECT);
            let problem = format_args!(
                "{host} is {first}.host too; give each service's peer a host of its own"
            );
            report.fault(&fields.path(path, peer::host), problem);
        }
    }
}

/// A warning for each service whose host is a short name, at most [`MOST_TOLD`]: Istio names its clusters by full names, so
/// no request would be found. `node` is the id of the proxy in Istio's form, `sidecar~IP~POD~NAMESPACE.svc.DOMAIN`. There
/// are no warnings for an Envoy without Istio, whose clusters have any names, nor in the role server, where the host is the
/// one that clients write.
#[inline(never)]
pub fn short(config: &Config, node: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some((namespace, domain)) = namespace(node).filter(|_| config.role == Role::Client) else {
        return warnings;
    };
    for (index, service) in config.services.iter().enumerate() {
        let host = &service.host;
        let Some(end) = missing(host, namespace, domain) else {
            continue;
        };
        let path = format!("services[{index}].host");
        let problem = format!(
            "{host} is a short name, which no request is for: Istio names a service in full; use {host}.{end}, or its name in another namespace"
        );
        warnings.push(Fault { path, problem }.to_string());
        if warnings.len() >= MOST_TOLD {
            break;
        }
    }
    warnings
}

/// `NAMESPACE.svc.DOMAIN` and `svc.DOMAIN` of a proxy's id. `None` if the id has another form.
fn namespace(node: &str) -> Option<(&str, &str)> {
    let full = node.split('~').nth(3)?;
    let dot = full.bytes().position(|byte| byte == b'.')?;
    let domain = full.get(dot.saturating_add(1)..)?;
    domain.starts_with("svc.").then_some((full, domain))
}

/// The part that a short name lacks. `None` if the name may be a full one.
fn missing<'a>(host: &str, namespace: &'a str, domain: &'a str) -> Option<&'a str> {
    // A short name with another namespace looks the same as the host of a ServiceEntry.
    let (first, rest) = match host.bytes().position(|byte| byte == b'.') {
        None => (host, ""),
        Some(dot) => host.split_at_checked(dot)?,
    };
    let own = namespace.strip_suffix(domain)?;
    match rest.strip_prefix('.') {
        None if first == "*" => None,
        None => Some(namespace),
        Some(rest) if own.strip_suffix('.') == Some(rest) => Some(domain),
        Some(rest) => match rest.strip_suffix(".svc") {
            Some(name) if !name.bytes().any(|byte| byte == b'.') => domain.strip_prefix("svc."),
            _ => None,
        },
    }
}
