//! Values that a host can answer: those that mean something to the filter, and garbage.

use crate::rng::Rng;

/// Names of plugins.
pub const PLUGINS: &[&str] = &["istio-system.peer-spillover", "b", "odd;.;name=.=x"];
/// Names in the federation.
pub const CLUSTERS: &[&str] = &["iotcloudserve", "gke"];
/// Services, as `(home, peer)`.
pub const HOSTS: &[(&str, &str)] = &[
    ("a.istio.svc.cluster.local", "a.istio.gke.global"),
    ("b.istio.svc.cluster.local", "b.istio.gke.global"),
    ("c.istio.svc.cluster.local", "c.istio.gke.global"),
];
/// Proxies.
pub const NODES: &[&str] = &[
    "sidecar~10.0.0.1~a.ns~ns.svc.cluster.local",
    "router~10.0.0.1~gw.ns~ns.svc.cluster.local",
    "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local",
    "envoy",
    "",
];
/// Resolved clusters.
pub const UPSTREAMS: &[&str] = &[
    "outbound|80||a.istio.svc.cluster.local",
    "outbound|80|v1|b.istio.svc.cluster.local",
    "outbound|80||c.istio.svc.cluster.local",
    "outbound|80||a.istio.gke.global",
    "inbound-vip|80|http|a.istio.svc.cluster.local",
    "inbound-vip|80|http/gke|a.istio.svc.cluster.local",
    "inbound|8080||",
    "local",
    // A service's host itself, and a subset that may be a peer's.
    "b.istio.svc.cluster.local",
    "outbound|80|gke|a.istio.svc.cluster.local",
    "PassthroughCluster",
    "BlackHoleCluster",
    "",
];
/// Authorities of requests.
pub const AUTHORITIES: &[&str] = &[
    "a.istio.svc.cluster.local",
    "A.istio.svc.cluster.local:80",
    "b.istio.svc.cluster.local",
    "a.istio.svc.cluster.local.",
    "a.istio.gke.global",
    "[::1]:80",
    ":",
    "",
];
/// Identities in certificates.
pub const SANS: &[&str] = &[
    "spiffe://cluster.local/ns/istio-system/sa/gw",
    "spiffe://gke.example/ns/istio-system/sa/gw",
    "spiffe://",
    "https://example.com",
    "",
];
/// Statuses of answers.
pub const STATUSES: &[&str] = &[
    "200",
    "200",
    "200",
    "204",
    "404",
    "500",
    "502",
    "503",
    "503",
    "504",
    "429",
    "999",
    "-1",
    "",
    "99999999999",
];
/// Statuses of gRPC.
pub const GRPC_STATUSES: &[&str] = &["0", "0", "0", "14", "4", "2", "13", "16", "x", ""];
/// Kinds of bodies.
pub const CONTENT_TYPES: &[&str] = &["text/html", "application/grpc", "application/grpc+proto"];
/// Where an answer came from.
pub const DETAILS: &[&str] = &[
    "via_upstream",
    "via_upstream",
    "via_upstream",
    "via_upstream",
    "via_upstream",
    "upstream_reset_before_response_started{connection_termination}",
    "response_timeout",
    "overflow",
    "no_healthy_upstream",
    "route_not_found",
    "fault_filter_abort",
    "",
];

/// What a liar says: empty, short, long, not UTF-8, a number, or what would be right somewhere else.
pub fn garbage(rng: &mut Rng) -> Vec<u8> {
    match rng.below(16) {
        0 | 1 => Vec::new(),
        2 | 3 => {
            let len = rng.below(12);
            rng.bytes(len)
        }
        4 => rng.bytes(8),
        5 => rng
            .pick(&[0u64, 1, u64::MAX, 1 << 63])
            .to_le_bytes()
            .to_vec(),
        6 => vec![0xff; 1 + rng.below(40)],
        // Characters of several bytes, for whatever cuts a text at a byte.
        7 => "ü€😀".repeat(1 + rng.below(40)).into_bytes(),
        8 => vec![rng.pick(b"|:~.;=0a\0 "); 1 + rng.below(300)],
        9 if rng.chance(100) => vec![b'x'; 1 << (10 + rng.below(8))],
        10 => rng.pick(UPSTREAMS).into(),
        11 => rng.pick(AUTHORITIES).into(),
        12 => rng.pick(SANS).into(),
        13 => rng.pick(STATUSES).into(),
        14 => rng.pick(CLUSTERS).into(),
        _ => rng.bits().to_string().into_bytes(),
    }
}

/// `value` with a little of it changed.
pub fn bent(rng: &mut Rng, mut value: Vec<u8>) -> Vec<u8> {
    for _ in 0..=rng.below(4) {
        if value.is_empty() {
            break;
        }
        let at = rng.below(value.len());
        match rng.below(5) {
            0 => value[at] = rng.bits() as u8,
            1 => value[at] ^= 1 << rng.below(8),
            2 => value[at..].fill(rng.pick(&[0, 0xff])),
            3 => value.truncate(at),
            _ => value.insert(at, rng.bits() as u8),
        }
    }
    value
}

/// A number that a liar tells.
pub fn number(rng: &mut Rng) -> u64 {
    match rng.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << rng.below(64),
        3 => (1u64 << rng.below(64)).wrapping_sub(1),
        4 => rng.below(200) as u64,
        _ => rng.bits(),
    }
}
