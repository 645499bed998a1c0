//! What the log says about a configuration: a warning only if it helps, all mistakes at once, and the most similar field
//! name.

use super::rules::{POLICY, accepted, beside, refused, silent, tcp, warned};
use super::tests::{good, with};
use super::*;
use serde_json::json;

/// A policy with neither limit nor detection never spills.
#[test]
fn a_policy_with_neither_limit_nor_detection_is_warned_of_because_it_never_spills() {
    let never = ": says no limit and no errors that eject, so nothing is ever spilled; add connectionPool or outlierDetection, or use mode: evacuate";
    assert_eq!(warned(json!({})), never);
    assert_eq!(
        warned(json!({"outlierDetection": {"consecutive5xxErrors": 0}})),
        never
    );
    for mode in ["evacuate", "off"] {
        let mut whole = with("/services/0/trafficPolicy", json!({}));
        whole["services"][0]["mode"] = json!(mode);
        let config = parse(whole.to_string().as_bytes()).expect("good");
        assert_eq!(config.warnings, [""; 0], "{mode}");
    }
    silent(json!({"outlierDetection": {}}));
}

/// `consecutiveGatewayErrors` at or above `consecutive5xxErrors` (default 5) has no effect.
#[test]
fn a_threshold_of_gateway_errors_that_has_no_effect_is_warned_of() {
    for (errors, gateway) in [(json!(null), 5), (json!(null), 9), (json!(3), 3)] {
        let policy = json!({"outlierDetection": {"consecutive5xxErrors": errors, "consecutiveGatewayErrors": gateway}});
        let warning = warned(policy);
        let expected = format!(
            "outlierDetection.consecutiveGatewayErrors: {gateway} has no effect: these errors are among those of consecutive5xxErrors, "
        );
        assert!(warning.starts_with(&expected), "{warning}");
    }
    for (errors, gateway) in [(5, 4), (0, 9), (5, 0)] {
        silent(
            json!({"outlierDetection": {"consecutive5xxErrors": errors, "consecutiveGatewayErrors": gateway}}),
        );
    }
}

/// `consecutive5xxErrors: 0` with local-origin failures alone leaves nothing that ejects.
#[test]
fn a_threshold_of_local_origin_failures_alone_is_warned_of_because_it_ejects_nothing() {
    let policy = beside(
        "outlierDetection",
        json!({
            "consecutive5xxErrors": 0, "consecutiveLocalOriginFailures": 3, "splitExternalLocalOriginErrors": true,
        }),
    );
    let (service, warnings) = accepted(policy);
    assert_eq!(service.detection, None);
    let told = "with 0 nothing ejects home: here failures to connect are among these errors, and consecutiveLocalOriginFailures is not acted on";
    assert_eq!(
        warnings[0],
        format!("{POLICY}.outlierDetection.consecutive5xxErrors: {told}")
    );
}

/// For `keepAlive` it is `tcpKeepalive`. `circuitBreaker` does not exist in a DestinationRule; the advice is connectionPool
/// and outlierDetection.
#[test]
fn the_fault_of_an_unknown_field_suggests_the_most_similar_one() {
    let near = |policy, near: &str| {
        let fault = refused(policy);
        assert!(
            fault.contains(&format!(": unknown field; {near}")),
            "{fault}"
        );
    };
    near(tcp("keepAlive", json!({})), "did you mean tcpKeepalive?");
    near(
        beside("circuitBreaker", json!({})),
        "no DestinationRule has it; use connectionPool and outlierDetection",
    );
    near(
        beside("circuit_breakers", json!({})),
        "no DestinationRule has it; use connectionPool and outlierDetection",
    );
    // A field in the wrong object.
    near(
        beside("maxConnections", json!(1)),
        "did you mean services.trafficPolicy.connectionPool.tcp.maxConnections?",
    );
    // There is no suggestion for a name that is similar to none.
    near(beside("colour", json!(1)), "remove it, or use one of: ");
}

/// Of equally similar fields, the one with the shortest path is suggested.
#[test]
fn of_equally_similar_fields_the_one_with_the_shortest_path_is_suggested() {
    for (name, near) in [
        ("name", "services.peers.name"),
        ("host", "services.host"),
        (
            "maxConections",
            "services.trafficPolicy.connectionPool.tcp.maxConnections",
        ),
    ] {
        let faults = parse(with(&format!("/{name}"), json!("a")).to_string().as_bytes());
        let fault = faults.expect_err("refused").to_string();
        let told = format!("{name}: unknown field; did you mean {near}? If not, ");
        assert!(fault.starts_with(&told), "{fault}");
    }
}

/// Faults that depend on an unknown role are not reported: in this case, that the server's service has no peer.
#[test]
fn an_unknown_role_is_reported_with_only_those_faults_that_all_roles_have() {
    let told = |whole: serde_json::Value| {
        let faults = parse(whole.to_string().as_bytes()).expect_err("refused");
        faults.lines().collect::<Vec<_>>()
    };
    let sever =
        json!({"version": 1, "cluster": "a", "role": "sever", "services": [{"host": "a.x"}]});
    let role = "role: must be client or server or edge, not sever";
    assert_eq!(told(sever), [role]);
    let edge = json!({"cluster": "a b", "role": "sever", "versoin": 1});
    let lines = told(edge);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let begin = [
        "cluster: must be ",
        role,
        "versoin: unknown field; did you mean version?",
        "version: is missing",
    ];
    for begin in begin {
        assert!(
            lines.iter().any(|line| line.starts_with(begin)),
            "{begin}: {lines:#?}"
        );
    }
    for role in [json!(1), json!(null)] {
        let lines = told(json!({"version": 1, "cluster": "a", "role": role, "services": [{}]}));
        assert_eq!(lines.len(), 1, "{lines:#?}");
    }
}

/// A field with its default value causes no warning.
#[test]
fn a_field_with_its_default_value_causes_no_warning() {
    silent(json!({
        "connectionPool": {
            "tcp": {"maxConnections": 1, "connectTimeout": "10s", "idleTimeout": "1h", "tcpKeepalive": {}},
            "http": {
                "http2MaxRequests": 1, "http1MaxPendingRequests": 0, "maxRequestsPerConnection": 0, "maxRetries": 0,
                "idleTimeout": "60m", "h2UpgradePolicy": "DEFAULT", "useClientProtocol": false, "maxConcurrentStreams": 0,
            },
        },
        "outlierDetection": {
            "consecutive5xxErrors": 5, "consecutiveGatewayErrors": 0, "interval": "10s", "baseEjectionTime": "30s",
            "maxEjectionPercent": 100, "outlierDetectionHttpErrorCodes": [], "consecutiveLocalOriginFailures": 0,
            "splitExternalLocalOriginErrors": false, "minHealthPercent": 0,
        },
        "loadBalancer": {"simple": "UNSPECIFIED", "localityLbSetting": {"enabled": null}},
        "tls": {"mode": "DISABLE", "subjectAltNames": []}, "portLevelSettings": [], "proxyProtocol": {"version": "V1"},
    }));
}

/// All mistakes are reported at once, each with its line and column if the text has several lines.
#[test]
fn all_mistakes_are_reported_at_once_with_line_and_column() {
    let text = r#"
{
  "version": 2, "cluster": "a b",
  "services": [
    {"host": "a.x", "whenful": "reject",
     "peers": [{"name": "g:\"[,", "host": "a.y"}, {}]},
    {"host": "b.x"}
  ]
}"#;
    let lines: Vec<String> = parse(text.as_bytes())
        .expect_err("refused")
        .lines()
        .collect();
    let begin = [
        "version (line 3, column 3): must be a whole number from 1 to 1, not 2",
        "cluster (line 3, column 17): must be 1 to 63 letters, ",
        "services[0].whenful (line 5, column 21): unknown field; did you mean whenFull?",
        "services[0].peers[0].name (line 6, column 17): must be 1 to 63 letters, ",
        "services[0].peers[1].name (line 6, column 51): is missing; ",
        "services[0].peers[1].host (line 6, column 51): is missing; ",
        // For a missing field it is the position of the object.
        "services[1].peers (line 7, column 5): is missing; add a list with at least one peer",
    ];
    assert_eq!(lines.len(), begin.len(), "{lines:#?}");
    for (line, begin) in lines.iter().zip(begin) {
        assert!(line.starts_with(begin), "{line}");
    }
    // For a text of a single line, as it comes from Istio, the path is enough.
    let single = text.replace('\n', " ");
    let first = parse(single.as_bytes())
        .expect_err("refused")
        .lines()
        .next();
    assert_eq!(
        first.as_deref(),
        Some("version: must be a whole number from 1 to 1, not 2")
    );
}

#[test]
fn twenty_mistakes_are_reported_and_further_ones_are_counted() {
    let mut whole = good();
    let service = whole["services"][0].clone();
    whole["services"] = (0..50)
        .map(|n| {
            let mut service = service.clone();
            service["whenFull"] = json!(n);
            service
        })
        .collect();
    let faults = parse(whole.to_string().as_bytes()).expect_err("refused");
    let lines: Vec<String> = faults.lines().collect();
    assert_eq!(lines.len(), fault::MOST_TOLD + 1);
    assert_eq!(
        lines[19],
        "services[19].whenFull: must be a string, not a number"
    );
    assert_eq!(lines[20], "configuration: and 30 more mistakes");
}

/// A warning that follows from a mistake is not reported: the service has a limit as soon as the field's name is corrected.
#[test]
fn a_warning_that_follows_from_a_mistake_is_not_reported() {
    let mut whole = good();
    whole["services"][0]["overflow"] = json!("eject");
    whole["services"][0]["trafficPolicy"] = json!({"conectionPool": {}, "outlierDetection": {}});
    let faults = parse(whole.to_string().as_bytes()).expect_err("refused");
    assert_eq!(faults.count(), 1, "{faults}");
}

#[test]
fn each_warning_is_a_line_of_its_own() {
    let policy = json!({
        "connectionPool": {"tcp": {"maxConnections": 1}, "http": {"maxRetries": 1}},
        "outlierDetection": {"consecutiveErrors": 1, "maxEjectionPercent": 50}, "tls": {"mode": "SIMPLE"},
    });
    let (_, warnings) = accepted(policy);
    let paths: Vec<&str> = warnings
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    let expected = [
        "outlierDetection.consecutiveErrors",
        "outlierDetection.maxEjectionPercent",
        "connectionPool.http.maxRetries",
        "tls",
    ];
    assert_eq!(paths, expected.map(|path| format!("{POLICY}.{path}")));
}

/// If a whole `spec` is pasted (`subsets`, `exportTo`, `workloadSelector`), the refusal says what to paste.
#[test]
fn a_whole_destination_rule_is_refused_once_with_what_to_paste() {
    let advice = "is of a whole DestinationRule; paste only what is in its spec.trafficPolicy, and of a subset's own trafficPolicy what is to hold for the service";
    let spec = json!({
        "host": "a", "exportTo": ["."], "workloadSelector": {}, "trafficPolicy": {},
        // The same advice for a limit in a subset.
        "subsets": [{"name": "v1", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}}}],
    });
    assert!(refused(spec.clone()).ends_with(advice));
    let whole = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {}, "spec": spec});
    assert!(refused(whole).ends_with(advice));
    for field in ["subsets", "exportTo", "workloadSelector"] {
        assert_eq!(
            refused(beside(field, json!([]))),
            format!("{field}: {advice}")
        );
    }
}
