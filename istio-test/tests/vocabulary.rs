//! The `trafficPolicy` that the filter reads is that of Istio's CRD: every field, its type, its words, its range, what is
//! required and what may be null. Where it is stricter, it is listed here, with who else refuses it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Where the filter takes less than the CRD.
const STRICTER: [(&str, &str); 17] = [
    // 0 is no limit to Istio, and most likely a slip where a limit is wanted.
    ("connectionPool.tcp.maxConnections", "range"),
    ("connectionPool.http.http2MaxRequests", "range"),
    // 0 is Envoy's 10 to Istio, which nobody means; above 100 its webhook refuses (ValidatePercent).
    ("outlierDetection.maxEjectionPercent", "range"),
    ("outlierDetection.minHealthPercent", "range"),
    // The webhook (validateConnectionPool, validatePortTrafficPolicies, validateTunnelSettings).
    ("connectionPool.http.http2KeepAlive", "required"),
    ("portLevelSettings[]", "required"),
    ("tunnel.targetPort", "range"),
    ("tunnel.protocol", "words"),
    // A duration in the API, which protobuf refuses where it is none.
    ("connectionPool.tcp.idleTimeout", "duration"),
    ("loadBalancer.consistentHash.httpCookie.ttl", "duration"),
    ("retryBudget.budgetInterval", "duration"),
    // No upper bound in the CRD, and Envoy's are far below ours.
    ("loadBalancer.consistentHash.minimumRingSize", "range"),
    (
        "loadBalancer.consistentHash.ringHash.minimumRingSize",
        "range",
    ),
    ("loadBalancer.consistentHash.maglev.tableSize", "range"),
    ("loadBalancer.warmup.aggression", "range"),
    // One limit for all ports.
    ("portLevelSettings[].connectionPool", "refused"),
    ("portLevelSettings[].outlierDetection", "refused"),
];

#[test]
fn the_traffic_policy_is_that_of_istios_crd() -> Result<()> {
    let istio = istio_test::tools::ensure_built()?.istio;
    let crds = fs::read_to_string(istio.join("manifests/charts/base/files/crd-all.gen.yaml"))?;
    let crd = destination_rule(&crds).context("no DestinationRule")?;
    let ours = xtask::workspace_root().join("docs/configuration.schema.json");
    let ours: Value = serde_json::from_str(&fs::read_to_string(Path::new(&ours))?)?;
    let mut found = Vec::new();
    compare(&crd, &ours["$defs"]["trafficPolicy"], "", &ours, &mut found);
    // Settings of a port are those of the policy.
    found.retain(|(path, what)| {
        let policy = path.strip_prefix("portLevelSettings[].").unwrap_or(path);
        path == policy || !STRICTER.contains(&(policy, what))
    });
    let mut expected: Vec<(String, &str)> =
        STRICTER.map(|(path, what)| (path.to_owned(), what)).into();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    Ok(())
}

/// The schema of a DestinationRule's `trafficPolicy`, in the version v1.
fn destination_rule(crds: &str) -> Option<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(crds);
    let mut crds = documents.filter_map(|document| Value::deserialize(document).ok());
    let crd = crds.find(|crd| crd["spec"]["names"]["kind"] == "DestinationRule")?;
    let versions = crd["spec"]["versions"].as_array()?;
    let v1 = versions.iter().find(|version| version["name"] == "v1")?;
    let spec = &v1["schema"]["openAPIV3Schema"]["properties"]["spec"];
    Some(spec["properties"]["trafficPolicy"].clone())
}

fn compare(
    crd: &Value,
    ours: &Value,
    path: &str,
    whole: &Value,
    found: &mut Vec<(String, &'static str)>,
) {
    if let Some(reference) = ours["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return compare(crd, &whole["$defs"][name], path, whole, found);
    }
    let mut differs = |what| found.push((path.to_owned(), what));
    if ours.get("not").is_some() {
        return differs("refused");
    }
    let kinds = ours["type"].as_array();
    let kind = kinds.map_or(&ours["type"], |kinds| &kinds[0]);
    if kinds.is_some() != (crd["nullable"] == true) {
        differs("null");
    }
    if kind != &crd["type"] {
        return differs("type");
    }
    match kind.as_str() {
        Some("object") => {
            let names = |schema: &Value| -> Vec<String> {
                let properties = schema["properties"].as_object();
                properties
                    .map(|map| map.keys().cloned().collect())
                    .unwrap_or_default()
            };
            let (theirs, mine) = (sorted(names(crd)), sorted(names(ours)));
            if theirs != mine {
                differs("fields");
            }
            let required = |schema: &Value| {
                let names = schema["required"].as_array().cloned().unwrap_or_default();
                sorted(
                    names
                        .iter()
                        .filter_map(|name| name.as_str().map(str::to_owned))
                        .collect(),
                )
            };
            if required(crd) != required(ours) {
                differs("required");
            }
            for name in mine {
                let dot = if path.is_empty() { "" } else { "." };
                let (crd, ours) = (&crd["properties"][&name], &ours["properties"][&name]);
                compare(crd, ours, &format!("{path}{dot}{name}"), whole, found);
            }
            if crd["additionalProperties"].is_object() {
                let (crd, ours) = (&crd["additionalProperties"], &ours["additionalProperties"]);
                compare(crd, ours, &format!("{path}{{}}"), whole, found);
            }
        }
        Some("array") => {
            if crd["maxItems"] != ours["maxItems"] {
                differs("length");
            }
            compare(
                &crd["items"],
                &ours["items"],
                &format!("{path}[]"),
                whole,
                found,
            );
        }
        Some("string") => {
            if crd["enum"] != ours["enum"] {
                differs("words");
            }
            // The rule that says at least 1ms.
            let duration = crd.get("x-kubernetes-validations").is_some();
            if duration != ours.get("pattern").is_some() {
                differs("duration");
            }
        }
        Some("boolean") => {}
        _ => {
            // Nothing below zero passes the webhook.
            let least = crd["minimum"].as_f64().unwrap_or(0.0);
            let int32 = (crd["format"] == "int32").then_some(f64::from(i32::MAX));
            let most = crd["maximum"].as_f64().or(int32);
            if Some(least) != ours["minimum"].as_f64() || most != ours["maximum"].as_f64() {
                differs("range");
            }
        }
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
