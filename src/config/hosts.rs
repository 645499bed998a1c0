//! Hosts of services and peers.
//!
//! **Invariant: a host is one service's, at home or at its peer.** A request that is found at the cluster of a host could
//! otherwise be counted for another service than its own.

use std::collections::BinaryHeap;

use super::{Fault, Service};

/// Hosts and their numbers in order. Its code is a tenth of what a slice's sort has, which would be a fortieth of the module.
#[inline(never)]
pub fn sorted(hosts: Vec<(String, usize)>) -> Vec<(String, usize)> {
    BinaryHeap::from(hosts).into_sorted_vec()
}

/// Refuses a peer's host that another service has too, at home or at its peer.
/// # Errors
/// The first such host, in their order.
#[inline(never)]
pub(super) fn apart(services: &[Service]) -> Result<(), Fault> {
    // The kind is in the number: home's host comes before a peer's that is the same.
    let mut hosts: Vec<(String, usize)> = Vec::new();
    for (index, service) in services.iter().enumerate() {
        hosts.push((service.host.clone(), index));
        if let Some(peer) = &service.peer {
            hosts.push((peer.host.clone(), index.saturating_add(services.len())));
        }
    }
    for pair in sorted(hosts).windows(2) {
        if let [(host, first), (other, second)] = pair
            && host == other
        {
            let peer = |n: &usize| n.checked_sub(services.len());
            let first = match peer(first) {
                Some(index) => format!("services[{index}].peers[0]"),
                None => format!("services[{first}]"),
            };
            return Err(Fault {
                path: format!("services[{}].peers[0].host", peer(second).unwrap_or(0)),
                problem: format!(
                    "{host} is {first}.host too; give each service's peer a host of its own"
                ),
            });
        }
    }
    Ok(())
}
