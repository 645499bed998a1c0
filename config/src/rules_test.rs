//! What Istio does with a DestinationRule, and what this filter does. The cases are from real DestinationRules, which Istio
//! and the filter read differently. Each test begins with a row: what is written, what Istio does, and what the filter
//! does. Istio's behaviour is that of its CRD, of its webhook (`pkg/config/validation`), and of the clusters that istiod
//! makes (`pilot/pkg/networking/core/cluster_traffic_policy.go`), in the version that `istio-test/go/istio/go.mod` pins.

use super::tests::with;
use super::*;
use policy::response::Codes;
use serde_json::{Value, json};

pub const POLICY: &str = "services[0].trafficPolicy";

/// Reads a service with this `trafficPolicy`: the service and the warnings, or the faults.
pub fn read(policy: Value) -> Result<(Service, Vec<String>), Vec<String>> {
    let whole = with("/services/0/trafficPolicy", policy).to_string();
    let config = parse(whole.as_bytes()).map_err(|faults| faults.lines().collect::<Vec<_>>())?;
    Ok((config.services[0].clone(), config.warnings))
}

#[track_caller]
pub fn accepted(policy: Value) -> (Service, Vec<String>) {
    read(policy.clone()).unwrap_or_else(|faults| panic!("{policy} is refused: {faults:?}"))
}

/// The only warning, without the path of the policy.
#[track_caller]
pub fn warned(policy: Value) -> String {
    let (_, warnings) = accepted(policy);
    let [warning] = &warnings[..] else {
        panic!("not one warning: {warnings:?}");
    };
    let at = warning.strip_prefix(POLICY).expect("its path");
    at.trim_start_matches('.').to_owned()
}

#[track_caller]
pub fn silent(policy: Value) -> Service {
    let (service, warnings) = accepted(policy);
    assert_eq!(warnings, [""; 0]);
    service
}

/// The only fault, without the path of the policy.
#[track_caller]
pub fn refused(policy: Value) -> String {
    let faults = read(policy.clone()).expect_err(&policy.to_string());
    let [fault] = &faults[..] else {
        panic!("not one fault: {faults:?}");
    };
    let at = fault.strip_prefix(POLICY).expect("its path");
    at.trim_start_matches('.').to_owned()
}

pub fn outlier(field: &str, value: Value) -> Value {
    json!({"outlierDetection": {field: value}})
}

pub fn tcp(field: &str, value: Value) -> Value {
    json!({"connectionPool": {"tcp": {"maxConnections": 1, field: value}}})
}

pub fn http(field: &str, value: Value) -> Value {
    json!({"connectionPool": {"http": {"http2MaxRequests": 1, field: value}}})
}

/// A policy with this field and with a limit, so that there is no warning about a missing limit.
pub fn beside(field: &str, value: Value) -> Value {
    json!({"connectionPool": {"tcp": {"maxConnections": 1}}, field: value})
}

/// | `maxEjectionPercent: 50` | at most half of the *hosts* are ejected | warning: here it is a share of the requests |
#[test]
fn a_max_ejection_percent_below_100_is_warned_of_as_a_share_of_the_requests() {
    assert_eq!(
        warned(outlier("maxEjectionPercent", json!(50))),
        "outlierDetection.maxEjectionPercent: here 50 is a share of the requests (in Istio of the hosts), so the others still go to a home that fails; 100, the default, diverts all"
    );
    silent(outlier("maxEjectionPercent", json!(100)));
}

/// | `maxEjectionPercent: 0` | not set: Envoy's 10 | it is refused, and the message names `mode: observe` |
#[test]
fn a_max_ejection_percent_of_0_is_refused_with_advice_to_use_mode_observe() {
    assert_eq!(
        refused(outlier("maxEjectionPercent", json!(0))),
        "outlierDetection.maxEjectionPercent: must be a whole number from 1 to 100, not 0 (Istio reads 0 as not set, which is Envoy's 10; to divert nothing, use mode: observe)"
    );
}

/// | `consecutiveErrors: 1` | ignored since 1.7; in 1.1 to 1.6 gateway errors alone | it is taken as
/// `consecutive5xxErrors`, and the warning says what Istio did |
#[test]
fn consecutive_errors_is_used_with_a_warning_that_says_what_istio_does() {
    let policy = outlier("consecutiveErrors", json!(1));
    let (service, _) = accepted(policy.clone());
    assert_eq!(service.detection.map(|d| d.consecutive_5xx), Some(1));
    assert_eq!(
        warned(policy),
        "outlierDetection.consecutiveErrors: taken as consecutive5xxErrors: 1; Istio ignores it since 1.7, and took it for gateway errors alone from 1.1 to 1.6"
    );
}

/// | `consecutiveErrors: 0` | default 5 | the same as absent |
#[test]
fn consecutive_errors_of_0_is_the_same_as_absent() {
    let service = silent(outlier("consecutiveErrors", json!(0)));
    assert_eq!(service.detection.map(|d| d.consecutive_5xx), Some(5));
}

/// | `http: {http2KeepAlive: {interval: 30s, timeout: 5s}}` | accepted since 1.31 | accepted |
#[test]
fn http2_keep_alive_is_accepted() {
    let keep_alive = json!({"interval": "30s", "timeout": "5s"});
    assert_eq!(
        warned(http("http2KeepAlive", keep_alive)),
        "connectionPool.http.http2KeepAlive: accepted, and not acted on by this filter"
    );
    // The webhook requires both.
    assert_eq!(
        refused(http("http2KeepAlive", json!({"interval": "30s"}))),
        "connectionPool.http.http2KeepAlive.timeout: is missing; add a duration such as 5s"
    );
}

/// | `outlierDetection: {outlierDetectionHttpErrorCodes: [429]}` | only these codes are errors | the same |
#[test]
fn outlier_detection_http_error_codes_are_acted_on() {
    let service = silent(outlier("outlierDetectionHttpErrorCodes", json!([429])));
    let codes = service.detection.and_then(|d| d.codes);
    assert_eq!(codes, Some(Codes::default().with(429)));
}

/// | `portLevelSettings: [{port: {number: 80}, connectionPool: …}]` only | holds for that port | refused with the reason |
#[test]
fn a_limit_of_one_port_is_refused_with_the_reason() {
    let pool = json!({"tcp": {"maxConnections": 1}});
    let settings = [("connectionPool", pool), ("outlierDetection", json!({}))];
    for (field, value) in settings {
        let ports = json!({"portLevelSettings": [{"port": {"number": 80}, field: value}]});
        assert_eq!(
            refused(ports),
            format!(
                "portLevelSettings[0].{field}: is not taken for one port: here a service has one limit and one detection for all its ports; put it in trafficPolicy itself"
            )
        );
    }
}

/// | a limit, and `portLevelSettings` for a port with `tls` alone | no limit for that port | the limit holds, and the
/// warning has the reason |
#[test]
fn a_limit_holds_for_a_port_with_settings_of_its_own_with_a_warning() {
    let ports = json!([{"port": {"number": 443}, "tls": {"mode": "SIMPLE"}}]);
    let policy = beside("portLevelSettings", ports.clone());
    let (service, _) = accepted(policy.clone());
    assert_eq!(service.rule.limit, Some(1));
    assert_eq!(
        warned(policy),
        "portLevelSettings[0]: not acted on: what trafficPolicy says on top holds for this port too; in Istio a port that is listed here inherits nothing of it"
    );
    // Without a limit and a detection, the port inherits nothing in Istio either.
    let (_, warnings) = accepted(json!({"portLevelSettings": ports}));
    let ignored =
        format!("{POLICY}.portLevelSettings[0]: accepted, and not acted on by this filter");
    assert!(warnings.contains(&ignored), "{warnings:?}");
    let no_port = beside("portLevelSettings", json!([{"tls": {}}]));
    assert_eq!(
        refused(no_port),
        "portLevelSettings[0].port: is missing; add port: {number: …}"
    );
}

/// | `maxConnections: 0`, `http2MaxRequests: 0` | not set: no limit | refused, and the message says how Istio reads it |
#[test]
fn a_limit_of_0_is_refused_with_what_it_means_in_istio() {
    for (place, field) in [("tcp", "maxConnections"), ("http", "http2MaxRequests")] {
        assert_eq!(
            refused(json!({"connectionPool": {place: {field: 0}}})),
            format!(
                "connectionPool.{place}.{field}: must be a whole number from 1 to 2147483647, not 0 (Istio reads 0 as no limit, which here is to leave it out; to send everything to a peer, use mode: evacuate, and to send nothing to one, mode: drain)"
            )
        );
    }
}

/// | `maxConnections: 100, http2MaxRequests: 1000` | on HTTP/2 1000 requests, on HTTP/1.1 100 connections | the smaller
/// one, and the warning says so |
#[test]
fn of_two_different_limits_the_smaller_holds_with_a_warning() {
    let both = |tcp: u32, http: u32| json!({"connectionPool": {"tcp": {"maxConnections": tcp}, "http": {"http2MaxRequests": http}}});
    for (tcp, http, least) in [(100, 1000, 100), (1000, 100, 100)] {
        let (service, _) = accepted(both(tcp, http));
        assert_eq!(service.rule.limit, Some(least));
        assert_eq!(
            warned(both(tcp, http)),
            format!(
                "connectionPool: the limit is {least}, the smaller of maxConnections {tcp} and http2MaxRequests {http}: here both count requests in flight, of any protocol; in Istio one is for HTTP/1.1 and the other for HTTP/2"
            )
        );
    }
    silent(both(7, 7));
}

/// | `consecutive5xxErrors: null` (and the other two UInt32Values) | default | accepted |
#[test]
fn null_is_the_same_as_absent_if_the_crd_accepts_it_and_is_refused_otherwise() {
    let absent = silent(json!({"outlierDetection": {}}));
    for field in [
        "consecutive5xxErrors",
        "consecutiveGatewayErrors",
        "consecutiveLocalOriginFailures",
    ] {
        assert_eq!(silent(outlier(field, json!(null))), absent, "{field}");
    }
    assert_eq!(
        refused(tcp("maxConnections", json!(null))),
        "connectionPool.tcp.maxConnections: must be a whole number from 1 to 2147483647, not null"
    );
    silent(beside(
        "loadBalancer",
        json!({"localityLbSetting": {"enabled": null}}),
    ));
    for (field, value) in [("outlierDetection", json!(null)), ("tls", json!(null))] {
        assert!(refused(beside(field, value)).ends_with(": must be an object, not null"));
    }
}

/// | `host: reviews` (102 of 179 rules have short hosts) | resolved in the rule's namespace | warning: the full name is
/// needed |
#[test]
fn a_short_host_is_warned_of_if_istio_names_the_clusters() {
    let short = |host: &str, role: &str, node: &str| {
        let mut whole = with("/services/0/host", json!(host));
        if role == "server" {
            whole = json!({"version": 1, "cluster": "a", "role": "server", "services": [{"host": host}]});
        }
        let config = parse(whole.to_string().as_bytes()).expect("good");
        hosts::short(&config, node)
    };
    let node = "sidecar~10.1.2.3~client-7.shop~shop.svc.cluster.local";
    for (host, full) in [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("Reviews.shop", "reviews.shop.svc.cluster.local"),
        ("reviews.other.svc", "reviews.other.svc.cluster.local"),
    ] {
        let host = host.to_ascii_lowercase();
        assert_eq!(
            short(&host, "client", node),
            [format!(
                "services[0].host: {host} is a short name, which no request is for: Istio names a service in full; use {full}, or its name in another namespace"
            )]
        );
        // Clients in the namespace use the short name.
        assert_eq!(short(&host, "server", node), [""; 0]);
        // The clusters of an Envoy without Istio have such names.
        for plain in ["", "envoy", "a~b", "router~1~2~3"] {
            assert_eq!(short(&host, "client", plain), [""; 0], "{plain}");
        }
    }
    // The host of a ServiceEntry may have two labels, and every full name has another end.
    for full in [
        "*",
        "example.com",
        "a.istio.svc.cluster.local",
        "reviews.other",
        "a.b.c.svc",
    ] {
        assert_eq!(short(full, "client", node), [""; 0], "{full}");
    }
}

/// | `loadBalancer: {simpel: X}`, `portLevelSettings: [{conectionPool: …}]`, `tls: []` | refused | refused |
#[test]
fn a_mistake_in_a_field_that_is_only_checked_is_refused() {
    for (policy, path, near) in [
        (
            beside("loadBalancer", json!({"simpel": "RANDOM"})),
            "loadBalancer.simpel",
            "simple",
        ),
        (
            beside(
                "portLevelSettings",
                json!([{"port": {}, "conectionPool": {}}]),
            ),
            "portLevelSettings[0].conectionPool",
            "connectionPool",
        ),
        (
            beside(
                "tunnel",
                json!({"targetHost": "a", "targetPort": 1, "protcol": "POST"}),
            ),
            "tunnel.protcol",
            "protocol",
        ),
        (
            beside("proxyProtocol", json!({"versoin": "V1"})),
            "proxyProtocol.versoin",
            "version",
        ),
        (
            beside("retryBudget", json!({"percnt": 1})),
            "retryBudget.percnt",
            "percent",
        ),
        (
            tcp("tcpKeepalive", json!({"probs": 1})),
            "connectionPool.tcp.tcpKeepalive.probs",
            "probes",
        ),
    ] {
        let fault = refused(policy);
        assert!(
            fault.starts_with(&format!(
                "{path}: unknown field; did you mean {near}? If not, remove it, or use one of: "
            )),
            "{fault}"
        );
    }
    assert_eq!(
        refused(beside("tls", json!([]))),
        "tls: must be an object, not a list"
    );
    assert_eq!(
        refused(beside("tls", json!({"mode": "MUTAL"}))),
        "tls.mode: must be DISABLE or SIMPLE or MUTUAL or ISTIO_MUTUAL, not MUTAL"
    );
}

/// | `.5s`, `+1s`, `10000μs` (U+03BC), `9000h` | valid Go durations | accepted |
#[test]
fn a_duration_in_the_format_of_go_is_accepted() {
    for (text, millis) in [
        (".5s", 500),
        ("+1s", 1000),
        ("10000\u{3bc}s", 10),
        ("9000h", duration::LONGEST),
    ] {
        let service = silent(outlier("interval", json!(text)));
        assert_eq!(
            service.detection.map(|d| d.interval.0),
            Some(millis),
            "{text}"
        );
    }
}

/// | `consecutive5xxErrors: 4294967295` | valid | accepted |
#[test]
fn a_threshold_may_be_any_uint32() {
    let service = silent(outlier("consecutive5xxErrors", json!(u32::MAX)));
    assert_eq!(service.detection.map(|d| d.consecutive_5xx), Some(u32::MAX));
}

/// | `h2UpgradePolicy: NONSENSE`, `minHealthPercent: 101`, `idleTimeout: 0s`, `interval: 1.5ms` | refused | refused |
#[test]
fn a_value_that_istio_refuses_is_refused() {
    for (policy, fault) in [
        (
            http("h2UpgradePolicy", json!("NONSENSE")),
            "connectionPool.http.h2UpgradePolicy: must be DEFAULT or DO_NOT_UPGRADE or UPGRADE, not NONSENSE",
        ),
        (
            outlier("minHealthPercent", json!(101)),
            "outlierDetection.minHealthPercent: must be a whole number from 0 to 100, not 101",
        ),
        (
            http("idleTimeout", json!("0s")),
            "connectionPool.http.idleTimeout: must be at least 1ms",
        ),
        (
            outlier("interval", json!("1.5ms")),
            "outlierDetection.interval: must be whole milliseconds, not 1.5ms",
        ),
    ] {
        assert_eq!(refused(policy), fault);
    }
    // The `idleTimeout` of TCP may be 0, which means without end.
    assert_eq!(accepted(tcp("idleTimeout", json!("0s"))).1.len(), 1);
}

/// | `"100"`, snake_case | the CRD refuses both | refused |
#[test]
fn numbers_in_quotes_and_snake_case_are_refused() {
    assert_eq!(
        refused(tcp("maxConnections", json!("100"))),
        "connectionPool.tcp.maxConnections: must be a whole number from 1 to 2147483647, not a string"
    );
    for (snake, camel) in [
        ("connection_pool", "connectionPool"),
        ("outlier-detection", "outlierDetection"),
    ] {
        let fault = refused(beside(snake, json!({})));
        assert!(fault.contains(&format!("did you mean {camel}?")), "{fault}");
    }
}
