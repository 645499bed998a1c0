use super::*;
use crate::declaration::Word;
use serde_json::{Value, json};

pub fn good() -> Value {
    json!({
        "version": 1, "cluster": "iotcloudserve", "role": "client",
        "services": [{
            "host": "a.istio.svc.cluster.local",
            "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}, "http": {"http2MaxRequests": 3}}},
            "peers": [{"name": "gke", "host": "a.istio.gke.global"}],
        }],
    })
}

pub fn read(value: &Value) -> Result<Config, String> {
    parse(value.to_string().as_bytes()).map_err(|fault| fault.to_string())
}

/// The configuration `good`, in which the value at a JSON pointer is replaced or added.
pub fn with(pointer: &str, value: Value) -> Value {
    let mut whole = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = whole.pointer_mut(parent).expect("a parent");
    match parent {
        Value::Array(list) => list.push(value),
        _ => parent[field] = value,
    }
    whole
}

#[track_caller]
pub fn refused(value: &Value, line: &str) {
    assert_eq!(read(value).expect_err("must be refused"), line);
}

#[test]
fn an_absent_field_has_its_default() {
    let config = read(&good()).expect("a good configuration");
    let top = (config.role, config.mode, config.debug_header);
    assert_eq!(top, (Role::Client, Mode::Enforce, false));
    assert_eq!(config.trust_domains, [""; 0]);
    let service = &config.services[0];
    assert_eq!((service.mode, service.routing), (Mode::Enforce, None));
    assert_eq!(
        service.rule,
        Rule {
            limit: Some(1),
            evacuate: false,
            peer_open: true,
            reject_when_full: false
        }
    );
}

#[test]
fn the_limit_is_the_smaller_of_the_two() {
    let limit = |tcp: Option<u32>, http: Option<u32>| {
        let mut policy = json!({"connectionPool": {"tcp": {}, "http": {}}});
        if let Some(n) = tcp {
            policy["connectionPool"]["tcp"]["maxConnections"] = n.into();
        }
        if let Some(n) = http {
            policy["connectionPool"]["http"]["http2MaxRequests"] = n.into();
        }
        read(&with("/services/0/trafficPolicy", policy))
            .expect("good")
            .services[0]
            .rule
            .limit
    };
    assert_eq!(limit(Some(5), Some(2)), Some(2));
    assert_eq!(limit(Some(2), Some(5)), Some(2));
    assert_eq!(limit(None, Some(5)), Some(5));
    assert_eq!(limit(Some(2147483647), None), Some(2147483647));
    assert_eq!(limit(None, None), None);
}

#[test]
fn a_pasted_traffic_policy_is_accepted_with_warnings_about_fields_that_are_not_acted_on() {
    let pasted = json!({
        "connectionPool": {
            "tcp": {"maxConnections": 1},
            "http": {"http2MaxRequests": 1, "maxRequestsPerConnection": 1, "http1MaxPendingRequests": 1}},
        "outlierDetection": {"consecutiveErrors": 1, "interval": "1s", "baseEjectionTime": "1m", "maxEjectionPercent": 100},
        "tls": {"mode": "ISTIO_MUTUAL"},
    });
    let warnings = read(&with("/services/0/trafficPolicy", pasted))
        .expect("good")
        .warnings;
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    let path = "services[0].trafficPolicy.connectionPool.http.maxRequestsPerConnection";
    assert!(
        warnings.contains(&format!(
            "{path}: accepted, and not acted on by this filter"
        )),
        "{warnings:?}"
    );
}

#[test]
fn the_mode_of_the_plugin_is_the_default_of_its_services() {
    let mut whole = with("/mode", json!("observe"));
    assert_eq!(read(&whole).expect("good").services[0].mode, Mode::Observe);
    whole["services"][0]["mode"] = json!("evacuate");
    let service = read(&whole).expect("good").services[0].clone();
    assert_eq!((service.mode, service.rule.evacuate), (Mode::Enforce, true));
}

#[test]
fn each_fault_names_the_path_and_the_fix() {
    refused(
        &with("/versoin", json!(1)),
        "versoin: unknown field; did you mean version? If not, remove it, or use one of: version, cluster, role, mode, debugHeader, trustDomains, services",
    );
    refused(
        &with("/version", json!(2)),
        "version: must be a whole number from 1 to 1, not 2",
    );
    refused(
        &with("/version", json!("1")),
        "version: must be a whole number from 1 to 1, not a string",
    );
    refused(
        &with("/role", json!("both")),
        "role: must be client or server or edge, not both",
    );
    refused(
        &with("/mode", json!("evacuate")),
        "mode: must be enforce or observe or off, not evacuate",
    );
    refused(
        &with("/cluster", json!("a;b")),
        "cluster: must be 1 to 63 letters, digits, '-', '.' or '_', not a;b",
    );
    refused(
        &with("/services", json!([])),
        "services: is empty; add a service, or remove the plugin",
    );
    refused(
        &with("/services", json!({})),
        "services: must be a list, not an object",
    );
    refused(
        &with("/services/-", good()["services"][0].clone()),
        "services[1]: host a.istio.svc.cluster.local is there twice; merge the two services",
    );
    refused(
        &with("/services/0/overflow", json!("eject")),
        "services[0].overflow: eject wants a limit to overflow and errors that eject; add trafficPolicy.connectionPool and trafficPolicy.outlierDetection, or use surplus",
    );
    refused(
        &with("/services/0/host", json!("a:80")),
        "services[0].host: must be a host name without a port, not a:80",
    );
    refused(
        &with("/services/0/peers", json!([])),
        "services[0].peers: is empty; add a peer that takes the surplus",
    );
    refused(
        &with(
            "/services/0/peers",
            json!(vec![json!({"name": "gke", "host": "a.x"}); 65]),
        ),
        "services[0].peers[64]: is one too many; at most 64 peers",
    );
    refused(
        &with("/services/0/peers/0/windows", json!(1)),
        "services[0].peers[0].windows: unknown field; remove it, or use one of: name, host, subset, mode, priority, weight, trafficPolicy",
    );
    refused(
        &with("/services/0/peers/0/name", json!("home")),
        "services[0].peers[0].name: home is a word of the metrics; give the peer another name",
    );
    refused(
        &with("/services/0/peers/0/name", json!("iotcloudserve")),
        "services[0].peers[0].name: must be another cluster's name, not our own, iotcloudserve",
    );
    refused(
        &with(
            "/services/0/peers/0/host",
            json!("A.istio.svc.cluster.local"),
        ),
        "services[0].peers[0].host: must be the host of the peer's ServiceEntry, not the home service's own",
    );
    refused(
        &json!({"cluster": "a"}),
        "version: is missing; add version: 1\nservices: is missing; add a list with at least one service",
    );
    // Without a role it is the configuration of a client.
    refused(
        &json!({"version": 1, "cluster": "a", "services": [{"host": "*"}]}),
        "services[0].peers: is missing; add a list with at least one peer",
    );
    refused(&json!([]), "configuration: must be an object, not a list");
    let mut no_host = good();
    no_host["services"][0]
        .as_object_mut()
        .expect("object")
        .remove("host");
    refused(
        &no_host,
        "services[0].host: is missing; add the service's host, or \"*\"",
    );
}

/// A configuration for the role server, in which the services come before the role.
fn server(service: Value) -> Value {
    json!({"services": [service], "version": 1, "cluster": "iotcloudserve", "role": "server"})
}

#[test]
fn a_service_of_a_server_needs_only_a_host() {
    for host in ["a.istio.svc.cluster.local", "*"] {
        let config = read(&server(json!({"host": host}))).expect("good");
        let service = &config.services[0];
        assert_eq!((config.role, service.host.as_str()), (Role::Server, host));
        assert_eq!((service.rule, &service.peers[..]), (Rule::SERVER, &[][..]));
    }
    for &mode in Mode::ALL {
        let word = mode.word();
        let config = read(&server(json!({"host": "*", "mode": word}))).expect("good");
        assert_eq!(config.services[0].mode, mode);
    }
}

#[test]
fn a_field_that_a_server_does_not_have_is_refused_with_any_value() {
    let client = &good()["services"][0];
    for field in ["peers", "trafficPolicy", "overflow", "whenFull", "routing"] {
        for value in [client[field].clone(), json!([]), json!("home")] {
            refused(
                &server(json!({"host": "*", field: value})),
                &format!("services[0].{field}: is not for role: server; remove it"),
            );
        }
    }
    refused(
        &server(json!({"host": "*", "mode": "evacuate"})),
        "services[0].mode: must be enforce or observe or off, not evacuate",
    );
    refused(
        &server(json!({"host": "*", "limit": 1})),
        "services[0].limit: unknown field; remove it, or use one of: host, mode",
    );
}

fn edge() -> Value {
    json!({"version": 1, "cluster": "iotcloudserve", "role": "edge"})
}

#[test]
fn an_edge_refuses_services_and_every_field_that_would_have_no_effect() {
    let config = read(&edge()).expect("good");
    assert_eq!((config.role, config.mode), (Role::Edge, Mode::Enforce));
    assert!(config.services.is_empty());
    for &mode in Mode::ALL {
        let word = mode.word();
        let mut whole = edge();
        whole["mode"] = word.into();
        whole["trustDomains"] = json!(["elsewhere.example"]);
        let config = read(&whole).expect("good");
        assert_eq!((config.mode, config.trust_domains.len()), (mode, 1));
    }
    for field in ["services", "debugHeader"] {
        for value in [good()["services"].clone(), json!([]), json!(false)] {
            let mut whole = edge();
            whole[field] = value;
            refused(
                &whole,
                &format!("{field}: is not for role: edge; remove it"),
            );
        }
    }
}

#[test]
fn the_role_can_be_read_from_a_configuration_with_mistakes() {
    let of = |value: Value| role(value.to_string().as_bytes());
    for known in Role::ALL {
        let whole = json!({"services": 1, "role": known.word(), "version": "x"});
        assert_eq!(of(whole), Some(known));
    }
    assert_eq!(
        of(json!({"services": 1})),
        Some(Role::Client),
        "the default"
    );
    for unreadable in [json!({"role": "both"}), json!({"role": 1}), json!([])] {
        assert_eq!(of(unreadable), None);
    }
    assert_eq!(role(b"{\"role\": \"server\""), None);
    assert_eq!(role(b""), None);
}

#[test]
fn a_star_must_be_the_only_service() {
    let mut whole = with("/services/-", good()["services"][0].clone());
    whole["services"][0]["host"] = json!("*");
    refused(
        &whole,
        "services: has \"*\" beside other services; \"*\" may only stand alone",
    );
}

#[test]
fn a_number_is_accepted_only_within_its_range() {
    let max = "services[0].trafficPolicy.connectionPool.tcp.maxConnections";
    for (n, ok) in [
        ("1", true),
        ("1.0", true),
        ("1e3", true),
        ("2147483647", true),
        ("0", false),
        ("-1", false),
        ("1.5", false),
        ("2147483648", false),
        ("1e300", false),
        ("18446744073709551616", false),
    ] {
        let text = good()
            .to_string()
            .replace("\"maxConnections\":1", &format!("\"maxConnections\":{n}"));
        let result = parse(text.as_bytes());
        assert_eq!(result.is_ok(), ok, "{n}: {result:?}");
        if let Err(fault) = result {
            let paths: Vec<&str> = fault.told().map(|fault| &*fault.path).collect();
            assert_eq!(paths, [max]);
        }
    }
}

#[test]
fn a_field_that_does_not_exist_in_a_destination_rule_is_refused() {
    for (pointer, path, near) in [
        (
            "/services/0/trafficPolicy/conectionPool",
            "services[0].trafficPolicy.conectionPool",
            "did you mean connectionPool? If not, ",
        ),
        (
            "/services/0/trafficPolicy/connectionPool/udp",
            "services[0].trafficPolicy.connectionPool.udp",
            "",
        ),
        (
            "/services/0/trafficPolicy/connectionPool/tcp/maxConnection",
            "services[0].trafficPolicy.connectionPool.tcp.maxConnection",
            "did you mean maxConnections? If not, ",
        ),
    ] {
        let line = read(&with(pointer, json!({}))).expect_err("must be refused");
        assert!(
            line.starts_with(&format!(
                "{path}: unknown field; {near}remove it, or use one of: "
            )),
            "{line}"
        );
    }
}

/// Users could not know which of the two values is used.
#[test]
fn a_field_that_occurs_twice_is_refused_in_every_object() {
    for (once, path) in [
        ("\"cluster\":", "cluster"),
        (
            "\"host\":\"a.istio.gke.global\",",
            "services[0].peers[0].host",
        ),
        (
            "\"maxConnections\":1",
            "services[0].trafficPolicy.connectionPool.tcp.maxConnections",
        ),
    ] {
        let again = match once.ends_with(':') {
            true => format!("{once}\"again\",{once}"),
            false => format!("{once},{once}").replace(",,", ","),
        };
        let text = good().to_string();
        assert_eq!(text.matches(once).count(), 1, "{text}");
        let faults = parse(text.replace(once, &again).as_bytes()).expect_err("must be refused");
        assert_eq!(
            faults.to_string(),
            format!("{path}: is there twice; remove one of them")
        );
    }
}
