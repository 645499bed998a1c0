//! Whose request it is, and whether its marker can be believed.
//!
//! **Invariant: nobody but a proxy with a certificate of a trusted domain can call a request a guest.** Otherwise any
//! client could keep its requests from being spilled, and so overload home at will.
//!
//! A proxy of the mesh that forwards what others sent, and leaves the headers in, lends them its certificate. So an entrance
//! to the mesh needs the filter too, in the role client, or edge, which does nothing else.

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of ours. A marker that it carries is a forgery.
    Own,
    /// Spilled to us by a peer: it is not spilled again.
    Guest,
    /// Spilled by us, and come back: it is neither a guest nor spilled again.
    Returned,
}

/// Reads a marker of a request that is [`believed`] or not.
pub fn of(marker: &str, cluster: &str, believed: bool) -> Origin {
    match believed {
        false => Origin::Own,
        true if marker == cluster => Origin::Returned,
        true => Origin::Guest,
    }
}

/// Whether who sent a request can be believed what it says of itself. `peer_san` and `own_san` are the first URI SANs of
/// the certificates of this downstream connection, empty where there is none (no TLS, no client certificate).
/// `trust_domains` empty means: the proxy's own.
pub fn believed(trust_domains: &[String], peer_san: &str, own_san: &str) -> bool {
    match (trust_domain(peer_san), trust_domain(own_san)) {
        (None, _) => false,
        (Some(peer), own) if trust_domains.is_empty() => own == Some(peer),
        (Some(peer), _) => trust_domains.iter().any(|domain| domain == peer),
    }
}

/// The trust domain of a SPIFFE identity, `spiffe://TRUST_DOMAIN/path` (SPIFFE-ID, section 2).
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
    fn a_marker_without_a_certificate_is_a_forgery() {
        for domains in [&[][..], &["cluster.local".to_owned()]] {
            assert!(!believed(domains, "", ""));
            assert!(!believed(domains, "", A));
        }
        for marker in ["gke", "home"] {
            assert_eq!(of(marker, "home", false), Origin::Own);
        }
    }

    #[test]
    fn by_default_only_our_own_trust_domain_is_believed() {
        assert!(believed(&[], A, A));
        assert!(!believed(&[], B, A));
        assert!(!believed(&[], A, ""));
    }

    #[test]
    fn named_trust_domains_replace_the_default() {
        let trusted = ["elsewhere.example".to_owned()];
        assert!(believed(&trusted, B, A));
        assert!(!believed(&trusted, A, A));
    }

    #[test]
    fn our_own_marker_is_our_own_request_come_back() {
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
