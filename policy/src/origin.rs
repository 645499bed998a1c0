//! Where a request comes from, and whether its marker is accepted.
//!
//! **Invariant: only a proxy with a certificate of a trusted domain can declare a request to be a guest.** Otherwise any
//! client could prevent its requests from being spilled, and so overload home.
//!
//! A proxy of the mesh forwards requests of others with its own certificate. If it does not remove their headers, their
//! markers are accepted. So an entrance to the mesh needs the filter too, in the role client, or in the role edge, which
//! only removes the headers.

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client of this cluster. If it has a marker, the marker is forged.
    Own,
    /// A peer has spilled it to this cluster. It is not spilled again.
    Guest,
    /// This cluster has spilled it, and it has come back. It is not a guest, and is not spilled again.
    Returned,
}

/// The origin of a request with this `marker`. `cluster` is the name of this cluster, and `believed` the result of
/// [`believed`].
pub fn of(marker: &str, cluster: &str, believed: bool) -> Origin {
    match believed {
        false => Origin::Own,
        true if marker == cluster => Origin::Returned,
        true => Origin::Guest,
    }
}

/// Whether the marker of a request is accepted. `peer_san` and `own_san` are the first URI SANs of the certificates of the
/// downstream connection. They are empty without TLS, and `peer_san` also without a client certificate. If `trust_domains`
/// is empty, it is the trust domain of the proxy itself.
pub fn believed(trust_domains: &[String], peer_san: &str, own_san: &str) -> bool {
    match (trust_domain(peer_san), trust_domain(own_san)) {
        (None, _) => false,
        (Some(peer), own) if trust_domains.is_empty() => own == Some(peer),
        (Some(peer), _) => trust_domains.iter().any(|domain| domain == peer),
    }
}

/// The trust domain of a SPIFFE identity, `spiffe://TRUST_DOMAIN/path` (SPIFFE-ID, section 2). `None` if `san` has another
/// form.
pub fn trust_domain(san: &str) -> Option<&str> {
    let (domain, _path) = san.strip_prefix("spiffe://")?.split_once('/')?;
    (!domain.is_empty()).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "spiffe://cluster.local/ns/istio/sa/a";
    const B: &str = "spiffe://elsewhere.example/ns/istio/sa/a";

    #[test]
    fn a_marker_without_a_certificate_is_not_accepted() {
        for domains in [&[][..], &["cluster.local".to_owned()]] {
            assert!(!believed(domains, "", ""));
            assert!(!believed(domains, "", A));
        }
        for marker in ["gke", "home"] {
            assert_eq!(of(marker, "home", false), Origin::Own);
        }
    }

    #[test]
    fn by_default_only_the_trust_domain_of_the_proxy_is_accepted() {
        assert!(believed(&[], A, A));
        assert!(!believed(&[], B, A));
        assert!(!believed(&[], A, ""));
    }

    #[test]
    fn configured_trust_domains_replace_the_default() {
        let trusted = ["elsewhere.example".to_owned()];
        assert!(believed(&trusted, B, A));
        assert!(!believed(&trusted, A, A));
    }

    #[test]
    fn a_request_with_the_marker_of_this_cluster_has_returned() {
        assert_eq!(of("gke", "home", true), Origin::Guest);
        assert_eq!(of("home", "home", true), Origin::Returned);
    }

    #[test]
    fn only_a_spiffe_identity_has_a_trust_domain() {
        assert_eq!(trust_domain(A), Some("cluster.local"));
        for san in [
            "",
            "spiffe://",
            "spiffe:///ns",
            "https://cluster.local/ns",
            "spiffe://cluster.local",
            "cluster.local",
        ] {
            assert_eq!(trust_domain(san), None, "{san}");
        }
    }
}
