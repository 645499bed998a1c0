//! The names that Istio gives to the clusters of a peer.

use crate::target;

/// The name that Istio gives to the cluster of a host, which may begin with a wildcard, or of a subset of it, with the port of the
/// cluster `home`. `None` if `home` has another form.
#[inline(never)]
pub fn peer_cluster(home: &str, subset: &str, wildcard: &str, host: &str) -> Option<String> {
    match target::istio(home)? {
        ["outbound", port, _, _] => Some(format!("outbound|{port}|{subset}|{wildcard}{host}")),
        _ => None,
    }
}

/// Whether a cluster of the peer exists, by the names that Istio gives to it: with the port of the cluster `home`, and the
/// peer's host or a wildcard that matches it, with its subset. `None` if `home` has another form, or if `knows` is.
pub fn peer_exists(
    home: &str,
    (peer_host, subset): (&str, &str),
    knows: impl Fn(&str) -> Option<bool>,
) -> Option<bool> {
    let (mut wildcard, mut host) = ("", peer_host);
    loop {
        if knows(&peer_cluster(home, subset, wildcard, host)?)? {
            return Some(true);
        }
        // `split_once` would be five times as much code.
        let dot = host.bytes().position(|byte| byte == b'.');
        let parent = dot.and_then(|dot| host.get(dot.checked_add(1)?..));
        let Some(parent) = parent else {
            return Some(false);
        };
        (wildcard, host) = ("*.", parent);
    }
}
