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
    /// What a request to `/hop` may cost, as a ratio to the SDK's empty filter in the same run: `cargo cost --gate`.
    pub most: Option<f64>,
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
        },
        Variant {
            name: "the SDK's empty filter",
            filters: json!([wasm(&empty_filter()?, &json!({})), router()]),
            proof: None,
            most: None,
        },
        Variant {
            name: "\"*\" with a limit",
            filters: ours("*", false),
            proof,
            // Measured: 1.029. The rest is for noise: counts repeat to about a percent.
            most: Some(1.033),
        },
        Variant {
            name: "a named service with a limit",
            filters: ours(named, false),
            proof,
            // Measured: 1.076. The rest is for noise.
            most: Some(1.083),
        },
        Variant {
            name: "a named service with a limit and errors",
            filters: ours(named, true),
            proof,
            // Measured: 1.097. The rest is for noise.
            most: Some(1.105),
        },
    ])
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
