//! What is compared: the same proxy without a filter, with one that does nothing, and with ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
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
}

/// All of them. The second is what the others are compared with.
/// # Errors
/// A module cannot be built.
pub fn all() -> Result<Vec<Variant>> {
    let ours = xtask::filter::ensure()?;
    let proof = Some("destination=.=home;.;reason=.=room;.;decisions");
    Ok(vec![
        Variant {
            name: "no filter",
            filters: json!([router()]),
            proof: None,
        },
        Variant {
            name: "the SDK's empty filter",
            filters: json!([wasm(&empty_filter()?, &json!({})), router()]),
            proof: None,
        },
        Variant {
            name: "ours, sole service \"*\"",
            filters: json!([wasm(&ours, &plugin("*")), router()]),
            proof,
        },
        Variant {
            name: "ours, a named service",
            filters: json!([wasm(&ours, &plugin("a.istio.svc.cluster.local")), router()]),
            proof,
        },
    ])
}

/// The configuration of a newcomer, with room for every request: what is counted is the path that all of them take.
fn plugin(host: &str) -> Value {
    json!({
        "version": 1,
        "cluster": "iotcloudserve",
        "role": "client",
        "services": [{
            "host": host,
            "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 100}}},
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

/// The yardstick, built as the SDK's users build, with every export that the SDK makes.
fn empty_filter() -> Result<PathBuf> {
    let target = xtask::target_dir().join("empty-filter");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip1"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(xtask::workspace_root().join("envoy-test/empty-filter"));
    xtask::run::quietly("building the SDK's empty filter", &mut cargo)?;
    let module = target.join("wasm32-wasip1/release/empty_filter.wasm");
    if !module.is_file() {
        bail!("{} was not built", module.display());
    }
    Ok(module)
}
