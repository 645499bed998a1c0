//! Parts of a cluster's configuration that are about TLS.

use std::net::SocketAddr;
use std::path::Path;

use super::side::endpoint;
use super::template::fill;
use crate::certs::Leaf;

/// `tls` for the endpoints that say they speak Istio's mTLS, plain text for the others.
pub(super) fn by_endpoint(tls: &str) -> String {
    let template = "transport_socket_matches:\n- name: tlsMode-istio\n  match: {tlsMode: istio}\n  transport_socket:\n    {{tls}}\n- name: tlsMode-disabled\n  match: {}\n  transport_socket: {name: envoy.transport_sockets.raw_buffer, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}\n";
    fill(template, &[("tls", tls)])
}

/// TLS with this SNI and certificate, to a server of this root and identity.
pub(super) fn upstream_tls(
    sni: &str,
    leaf: Option<&Leaf>,
    root: &Path,
    identity: Option<&str>,
) -> String {
    let certificate = leaf.map_or(String::new(), |leaf| {
        format!(
            "tls_certificates: [{{certificate_chain: {{filename: \"{}\"}}, private_key: {{filename: \"{}\"}}}}]",
            leaf.cert.display(),
            leaf.key.display()
        )
    });
    let identity = identity.map_or(String::new(), |identity| {
        format!(
            "match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: \"{identity}\"}}}}]"
        )
    });
    fill(
        include_str!("templates/upstream_tls.yaml"),
        &[
            ("sni", sni),
            ("certificate", &certificate),
            ("root", &root.display().to_string()),
            ("identity", &identity),
        ],
    )
}

/// An endpoint that speaks Istio's mTLS, where the cluster tells them apart ([`by_endpoint`]).
pub(super) fn tls_endpoint(addr: SocketAddr, priority: u32) -> String {
    endpoint(addr, priority)
        + "    metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}\n"
}
