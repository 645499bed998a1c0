//! Which service a request is for, by the name of its upstream cluster.

/// The clusters of Istio for requests without a route. A spilled request that is led there does not arrive at the peer, so
/// it is a misroute.
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
    /// The service has this host. The cluster's name has Istio's form (`outbound|PORT|SUBSET|HOST`,
    /// `inbound-vip|PORT|http|HOST`).
    Host(&'a str),
    /// The service has this host, and the cluster is this subset of it, which may be that of a peer.
    Subset(&'a str, &'a str),
    /// The cluster's name does not have Istio's form. It may be the host of a service. Otherwise `:authority` identifies
    /// the service.
    ByAuthority,
    /// There is no upstream, so the request is not for a service.
    Nothing,
}

/// The service of a request whose upstream cluster has this name. The name is empty if no route matched.
pub fn named(cluster: &str) -> Named<'_> {
    if is_nowhere(cluster) {
        return Named::Nothing;
    }
    let (subset, host) = match istio(cluster) {
        Some(["outbound", _, subset, host]) => (subset, host),
        // A waypoint names a subset `inbound-vip|PORT|http/SUBSET|HOST` (`cluster_waypoint.go` of Istio's
        // `pilot/pkg/networking/core`).
        Some([_, _, http, host]) => (http.get("http/".len()..).unwrap_or_default(), host),
        None => ("", ""),
    };
    match (subset, host) {
        (_, "") => Named::ByAuthority,
        ("", host) => Named::Host(host),
        (subset, host) => Named::Subset(host, subset),
    }
}

/// The parts of a cluster's name in Istio's form: direction, port, subset or protocol, host. `None` if it has another form.
pub fn istio(cluster: &str) -> Option<[&str; 4]> {
    let mut parts = cluster.split('|');
    let four = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(four)
}

/// The host of an `:authority`, without the port and without the dot that ends a full name. An IPv6 address keeps its
/// brackets.
pub fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => {
            host
        }
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a cluster's name is empty, or that of a cluster for requests without a route.
pub fn is_nowhere(cluster: &str) -> bool {
    cluster.is_empty() || NOWHERE.contains(&cluster)
}

/// Whether two names are equal. The `==` of the standard library compares byte by byte in WebAssembly, and each request compares
/// its cluster's name with the last one.
#[inline]
pub fn same(a: &str, b: &str) -> bool {
    let (a, a_end) = a.as_bytes().as_chunks::<8>();
    let (b, b_end) = b.as_bytes().as_chunks::<8>();
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| u64::from_le_bytes(*a) == u64::from_le_bytes(*b))
        && a_end == b_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_of_istio_gives_the_host_and_whether_it_is_a_subset() {
        let host = Named::Host("a.istio.svc.cluster.local");
        assert_eq!(named("outbound|80||a.istio.svc.cluster.local"), host);
        assert_eq!(
            named("outbound|80|v1|a.istio.svc.cluster.local"),
            Named::Subset("a.istio.svc.cluster.local", "v1")
        );
        assert_eq!(named("inbound-vip|80|http|a.istio.svc.cluster.local"), host);
        assert_eq!(
            named("inbound-vip|80|http/v1|a.istio.svc.cluster.local"),
            Named::Subset("a.istio.svc.cluster.local", "v1")
        );
    }

    /// On the receiving side, the name of a sidecar's cluster has a port only, and that of a waypoint's cluster has a host.
    #[test]
    fn the_service_of_an_inbound_cluster_without_a_host_is_known_by_the_authority() {
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
    fn the_service_of_a_cluster_with_another_name_is_known_by_the_authority() {
        for name in ["home", "a|b", "outbound|80||a|b"] {
            assert_eq!(named(name), Named::ByAuthority, "{name}");
        }
    }

    #[test]
    fn a_request_without_a_route_is_not_for_a_service() {
        for name in ["", "BlackHoleCluster", "PassthroughCluster"] {
            assert_eq!(named(name), Named::Nothing, "{name}");
        }
    }

    #[test]
    fn the_host_of_an_authority_has_neither_its_port_nor_its_last_dot() {
        assert_eq!(host_of("a.istio.:80"), "a.istio");
        assert_eq!(host_of("a.istio."), "a.istio");
        assert_eq!(host_of("."), "");
        assert_eq!(host_of("a.istio:80"), "a.istio");
        assert_eq!(host_of("a.istio"), "a.istio");
        assert_eq!(host_of("[::1]:80"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
    }

    #[test]
    fn two_names_are_the_same_only_if_all_their_bytes_are() {
        let name = "outbound|80||a.istio.svc.cluster.local";
        for end in 0..=name.len() {
            let one = &name[..end];
            assert!(same(one, &String::from(one)), "{one}");
            for (at, byte) in one.bytes().enumerate() {
                let mut other = one.as_bytes().to_vec();
                other[at] = byte ^ 1;
                let other = String::from_utf8(other).expect("still ASCII");
                assert!(!same(one, &other), "{one} {other}");
            }
            assert_eq!(same(one, name), end == name.len());
            assert_eq!(same(name, one), end == name.len());
        }
    }
}
