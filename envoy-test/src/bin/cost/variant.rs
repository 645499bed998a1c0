//! What is compared: the same proxy without a filter, with one that does nothing, and with ours.

use std::path::Path;

use anyhow::Result;
use envoy_test::empty_filter::empty_filter;
use serde_json::{Value, json};

/// One filter chain to count.
pub struct Variant {
    /// What the table calls it.
    pub name: &'static str,
    /// `http_filters` of the proxy.
    pub filters: Value,
    /// A part of a statistic's name that counts each request that this filter really handled. Losing the filter never
    /// loses a request, so without this a filter that was not loaded would look very cheap.
    pub proof: Option<&'static str>,
    /// What a request to `/hop` may cost, as a ratio to another variant in the same run: `cargo cost --gate`.
    pub most: Option<f64>,
    /// The name of that other variant, if it is not the SDK's empty filter.
    pub to: Option<&'static str>,
}

/// All of them. The first is no filter; the second is what the others are compared with.
/// # Errors
/// A module cannot be built.
pub fn all() -> Result<Vec<Variant>> {
    let ours = xtask::filter::ensure()?;
    let named = "a.istio.svc.cluster.local";
    let ours = |host, errors| json!([wasm(&ours, &plugin(host, errors)), router()]);
    let proof = Some("destination=.=home;.;reason=.=room;.;decisions");
    Ok(vec![
        Variant {
            name: "no filter",
            filters: json!([router()]),
            proof: None,
            most: None,
            to: None,
        },
        Variant {
            name: "the SDK's empty filter",
            filters: json!([wasm(&empty_filter()?, &json!({})), router()]),
            proof: None,
            most: None,
            to: None,
        },
        Variant {
            name: "\"*\" with a limit",
            filters: ours("*", false),
            proof,
            // Measured: 1.029. The rest is for noise: counts repeat to about a percent.
            most: Some(1.033),
            to: None,
        },
        Variant {
            name: "a named service with a limit",
            filters: ours(named, false),
            proof,
            // Measured: 1.076. The rest is for noise.
            most: Some(1.083),
            to: None,
        },
        Variant {
            name: "a named service with a limit and errors",
            filters: ours(named, true),
            proof,
            // Measured: 1.097. The rest is for noise.
            most: Some(1.105),
            to: None,
        },
    ])
}

/// A request that is spilled, with one peer and with sixteen, which differ in nothing that Envoy does.
/// # Errors
/// The module cannot be built.
pub fn spills() -> Result<Vec<Variant>> {
    let ours = xtask::filter::ensure()?;
    let spilled = |name, peers, most| {
        let filters = json!([wasm(&ours, &evacuating(peers)), router()]);
        Variant {
            name,
            filters,
            // Of each peer.
            proof: Some("reason=.=evacuate;.;decisions"),
            most,
            to: Some(ONE_PEER),
        }
    };
    Ok(vec![
        spilled(ONE_PEER, 1, None),
        spilled("spilled to one of 16 peers", 16, Some(1.1)),
    ])
}

const ONE_PEER: &str = "spilled to the only peer";

/// A service whose requests all go to these peers, each of which has room for them and is drawn as often as the others.
fn evacuating(peers: usize) -> Value {
    let pool = json!({"http": {"http2MaxRequests": 100}});
    let peer = |n| {
        json!({
            "name": format!("p{n}"),
            "host": format!("p{n}.peer.global"),
            "trafficPolicy": {"connectionPool": pool},
        })
    };
    let mut config = plugin("a.istio.svc.cluster.local", false);
    config["services"][0]["mode"] = "evacuate".into();
    config["services"][0]["peers"] = (0..peers).map(peer).collect();
    config
}

/// The configuration of a newcomer, with room for every request: what is counted is the path that all of them take.
/// With `errors` it looks at the answers too, as Envoy's defaults have it.
fn plugin(host: &str, errors: bool) -> Value {
    let pool = json!({"http": {"http2MaxRequests": 100}});
    let policy = if errors {
        json!({"connectionPool": pool, "outlierDetection": {}})
    } else {
        json!({"connectionPool": pool})
    };
    json!({
        "version": 1,
        "cluster": "iotcloudserve",
        "role": "client",
        "services": [{
            "host": host,
            "trafficPolicy": policy,
            "peers": [{"name": "gke", "host": "a.istio.gke.global"}],
        }],
    })
}

fn wasm(module: &Path, config: &Value) -> Value {
    json!({
        "name": "peer-spillover",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "istio-system.peer-spillover",
                "failure_policy": "FAIL_OPEN",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": config.to_string(),
                },
            },
        },
    })
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
}
