//! The names of hosts and of their clusters, as Istio has them.

/// Name of the cluster of `host` in Istio.
pub(super) fn istio_cluster(host: &str) -> String {
    istio_subset("", host)
}

/// Name of the cluster of a subset of `host` in Istio.
pub(super) fn istio_subset(subset: &str, host: &str) -> String {
    format!("outbound|80|{subset}|{host}")
}

/// The same for the second port.
pub(super) fn second_port(host: &str) -> String {
    format!("outbound|8080||{host}")
}

/// The SNI by which an Istio gateway (AUTO_PASSTHROUGH) knows `host`.
pub fn sni(host: &str) -> String {
    format!("outbound_.80_._.{host}")
}

/// The ServiceEntry host for the service `host` in the cluster `peer`: `a.istio.svc.cluster.local` is `a.istio.gke.global` there.
pub fn peer_host(host: &str, peer: &str) -> String {
    let name = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    format!("{name}.{peer}.global")
}

/// The names by which clients in the namespace `istio` know `host`.
pub(super) fn aliases(host: &str) -> Vec<String> {
    let mut aliases = vec![host.to_owned()];
    let mut rest = host;
    for suffix in [".cluster.local", ".svc"] {
        if let Some(shorter) = rest.strip_suffix(suffix) {
            aliases.push(shorter.to_owned());
            rest = shorter;
        }
    }
    // `a` is the name inside the namespace `istio`, where the client lives.
    aliases.extend(rest.strip_suffix(".istio").map(str::to_owned));
    aliases
}
