//! What the name of an upstream cluster says: which service it is, and whether it is one at all.

/// Clusters of Istio that stand for "no such route". A request that a rewrite led there is lost, so it is a misroute.
const NOWHERE: [&str; 5] = [
    "BlackHoleCluster",
    "PassthroughCluster",
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

/// What identifies the service of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// This host, by the cluster's name in Istio's form (`outbound|PORT|SUBSET|HOST`, `inbound-vip|PORT|http|HOST`).
    Host(&'a str),
    /// This host likewise, but a subset of it, which may be a peer's.
    Subset(&'a str),
    /// The cluster's name is none of Istio's: it may be a service's host itself, or nothing; then look at `:authority`.
    ByAuthority,
    /// There is no upstream, or it stands for none: the request is no service's.
    Nothing,
}

/// Reads a cluster's name; empty where no route matched.
pub fn named(cluster: &str) -> Named<'_> {
    if is_nowhere(cluster) {
        return Named::Nothing;
    }
    match istio(cluster) {
        Some(["outbound", _, subset, host]) if !host.is_empty() && !subset.is_empty() => {
            Named::Subset(host)
        }
        Some([_, _, _, host]) if !host.is_empty() => Named::Host(host),
        _ => Named::ByAuthority,
    }
}

/// The parts of a cluster's name in Istio's form: direction, port, subset or protocol, host.
pub fn istio(cluster: &str) -> Option<[&str; 4]> {
    let mut parts = cluster.split('|');
    let four = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(four)
}

/// The host of an `:authority`, without its port and without the dot that ends a full name. An IPv6 literal stays as it is,
/// in its brackets.
pub fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => {
            host
        }
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a cluster's name stands for no upstream.
pub fn is_nowhere(cluster: &str) -> bool {
    cluster.is_empty() || NOWHERE.contains(&cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_cluster_names_name_the_host_and_say_whether_a_subset_of_it() {
        let host = Named::Host("a.istio.svc.cluster.local");
        assert_eq!(named("outbound|80||a.istio.svc.cluster.local"), host);
        assert_eq!(
            named("outbound|80|v1|a.istio.svc.cluster.local"),
            Named::Subset("a.istio.svc.cluster.local")
        );
        assert_eq!(named("inbound-vip|80|http|a.istio.svc.cluster.local"), host);
    }

    /// The receiving side: a sidecar's own clusters are of a port, a waypoint's of a host.
    #[test]
    fn inbound_clusters_leave_it_to_the_authority_unless_they_name_a_host() {
        for name in ["inbound|8080||", "inbound|80|http|"] {
            assert_eq!(named(name), Named::ByAuthority, "{name}");
        }
        for name in ["inbound-vip|80|http|a.istio", "inbound|80|http|a.istio"] {
            assert_eq!(named(name), Named::Host("a.istio"), "{name}");
        }
        for name in NOWHERE {
            assert_eq!(named(name), Named::Nothing, "{name}");
        }
    }

    #[test]
    fn other_names_leave_it_to_the_authority() {
        for name in ["home", "a|b", "outbound|80||a|b"] {
            assert_eq!(named(name), Named::ByAuthority, "{name}");
        }
    }

    #[test]
    fn no_route_is_no_service() {
        for name in ["", "BlackHoleCluster", "PassthroughCluster"] {
            assert_eq!(named(name), Named::Nothing, "{name}");
        }
    }

    #[test]
    fn neither_a_port_nor_the_last_dot_is_part_of_the_host() {
        assert_eq!(host_of("a.istio.:80"), "a.istio");
        assert_eq!(host_of("a.istio."), "a.istio");
        assert_eq!(host_of("."), "");
        assert_eq!(host_of("a.istio:80"), "a.istio");
        assert_eq!(host_of("a.istio"), "a.istio");
        assert_eq!(host_of("[::1]:80"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
    }
}
