//! Configurations that must be refused.

use envoy_test::world::plugin_config;
use serde_json::{Value, json};

/// A configuration that must be refused, and what the line about it says: the path and the fix.
pub struct Bad {
    pub kind: &'static str,
    pub text: String,
    pub says: [&'static str; 2],
}

impl Bad {
    fn new(kind: &'static str, text: impl ToString, says: [&'static str; 2]) -> Self {
        let text = text.to_string();
        Bad { kind, text, says }
    }
}

/// The good configuration, changed.
pub fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = plugin_config(1);
    change(&mut config);
    config
}

/// One of many that must be refused.
pub fn bad(n: u32) -> Value {
    with(|c| c["services"][0]["mode"] = json!(format!("bad-{n}")))
}

/// One of each kind of mistake.
pub fn bad_ones() -> Vec<Bad> {
    let service = plugin_config(1)["services"][0].clone();
    // Printable and not, with a line break here and there, the same in each run.
    let mut state = 1u32;
    let junk: String = (0..1 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from((state >> 25) as u8)
        })
        .collect();
    vec![
        Bad::new(
            "unknown field",
            with(|c| c["services"][0]["peers"][0]["zone"] = json!("remote")),
            [
                "services[0].peers[0].zone: unknown field",
                "remove it, or use one of: name, host, ",
            ],
        ),
        Bad::new(
            "wrong type",
            with(|c| c["debugHeader"] = json!("yes")),
            ["debugHeader: ", "must be true or false, not a string"],
        ),
        Bad::new(
            "impossible value",
            with(|c| {
                c["services"][0]["trafficPolicy"]["connectionPool"]["http"]["http2MaxRequests"] =
                    json!(0);
            }),
            [
                "services[0].trafficPolicy.connectionPool.http.http2MaxRequests: ",
                "to send everything to a peer, use mode: evacuate",
            ],
        ),
        Bad::new(
            "duplicate host",
            with(|c| c["services"] = json!([service, service])),
            [
                "services[1]: host a.istio.svc.cluster.local is there twice",
                "merge the two services",
            ],
        ),
        Bad::new(
            "a peer's host of two services",
            with(|c| {
                let mut other = service.clone();
                other["host"] = json!("b.istio.svc.cluster.local");
                c["services"] = json!([service, other]);
            }),
            [
                "services[1].peers[0].host: a.istio.gke.global is services[0].peers[0].host too",
                "give each service's peer a host of its own",
            ],
        ),
        Bad::new(
            "300,000 trust domains",
            with(|c| c["trustDomains"] = vec!["cluster.local"; 300_000].into()),
            [
                "trustDomains[64]: is one too many",
                "at most 64 trust domains",
            ],
        ),
        Bad::new(
            "characters that end a line or turn it around",
            with(|c| {
                let name = "x\u{202e}y\u{2028}z\u{85}\u{200b}".repeat(1000);
                c["services"][0]["peers"][0]["name"] = name.into();
            }),
            [
                "services[0].peers[0].name: must be 1 to 63 letters",
                "not x y z  x y z",
            ],
        ),
        Bad::new(
            "1 MB of junk",
            junk,
            ["configuration: ", "is not the JSON that is expected"],
        ),
        Bad::new(
            "deep nesting",
            format!("{{\"services\":{}", "[".repeat(200_000)),
            ["configuration: ", "is not the JSON that is expected"],
        ),
        Bad::new(
            "empty",
            "",
            [
                "configuration: is empty",
                "set spec.pluginConfig with version, cluster and services",
            ],
        ),
    ]
}
