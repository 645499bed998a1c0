//! Configurations that users can write, and that they should not.

use config::Role;
use serde_json::{Map, Value, json};

use crate::rng::Rng;
use crate::values::{self, CLUSTERS, HOSTS};

/// A configuration: three of four are good ones.
/// Its services say this of spilling.
pub fn draw(rng: &mut Rng, spill: &Value) -> Vec<u8> {
    match rng.below(16) {
        0 => {
            let good = good(rng, spill).to_string().into_bytes();
            values::bent(rng, good)
        }
        1 => values::garbage(rng),
        2 => wrong(rng, spill).to_string().into_bytes(),
        3 => nested(rng),
        _ => good(rng, spill).to_string().into_bytes(),
    }
}

/// Whether the filter may run this configuration, and its requests would be told apart in another way than `spill` says.
pub fn differs(config: &[u8], spill: &Value) -> bool {
    let Ok(read) = config::parse(config) else {
        return false;
    };
    let whole: Value = serde_json::from_slice(config).unwrap_or_default();
    let mut services = whole["services"].as_array().into_iter().flatten();
    read.role == Role::Client && services.any(|service| service["spill"] != *spill)
}

fn good(rng: &mut Rng, spill: &Value) -> Value {
    if rng.chance(60) {
        return edge(rng);
    }
    let server = rng.chance(150);
    let mut config = json!({
        "version": 1,
        "cluster": CLUSTERS[0],
        "mode": rng.pick(&["enforce", "enforce", "enforce", "enforce", "observe", "off"]),
        "debugHeader": rng.chance(500),
    });
    if server || rng.chance(200) {
        config["role"] = json!(if server { "server" } else { "client" });
    }
    if rng.chance(300) {
        config["trustDomains"] = json!(["cluster.local", "gke.example"]);
    }
    let services: Vec<Value> = if rng.chance(250) {
        vec![service(rng, server, "*", "peer.gke.global")]
    } else {
        let (first, count) = (rng.pick(&[0, 0, 1, 2]), 1 + rng.below(HOSTS.len()));
        (first..first + count)
            .map(|i| HOSTS[i % HOSTS.len()])
            .map(|(host, peer)| service(rng, server, host, peer))
            .collect()
    };
    config["services"] = json!(services);
    if !server {
        let services = config["services"].as_array_mut().into_iter().flatten();
        services.for_each(|service| service["spill"] = spill.clone());
    }
    config
}

fn edge(rng: &mut Rng) -> Value {
    let mode = rng.pick(&["enforce", "enforce", "observe", "off"]);
    json!({"version": 1, "cluster": CLUSTERS[0], "role": "edge", "mode": mode})
}

fn service(rng: &mut Rng, server: bool, host: &str, peer: &str) -> Value {
    let mut service = json!({ "host": host });
    if rng.chance(200) {
        service["mode"] = json!(rng.pick(&["enforce", "observe", "off"]));
    }
    if server {
        return service;
    }
    if rng.chance(100) {
        service["mode"] = json!("evacuate");
    }
    if rng.chance(400) {
        service["routing"] = json!(rng.pick(&["authority", "header"]));
    }
    if rng.chance(300) {
        service["whenFull"] = json!(rng.pick(&["home", "reject"]));
    }
    let mut policy = Map::new();
    let limited = rng.chance(800);
    if limited {
        let limit = rng.pick(&[1, 1, 2, 3, 100, i32::MAX]);
        let pool = match rng.below(3) {
            0 => json!({"tcp": {"maxConnections": limit}}),
            1 => json!({"http": {"http2MaxRequests": limit}}),
            _ => {
                json!({"tcp": {"maxConnections": limit}, "http": {"http2MaxRequests": 2, "maxRetries": 3}})
            }
        };
        policy.insert("connectionPool".to_owned(), pool);
    }
    let detects = rng.chance(600);
    if detects {
        policy.insert("outlierDetection".to_owned(), detection(rng));
        if limited && rng.chance(300) {
            service["overflow"] = json!("eject");
        }
    }
    service["trafficPolicy"] = Value::Object(policy);
    let others = [CLUSTERS[1], "eks", "on-prem"];
    // Often in another order, as after a change.
    let (first, count) = (rng.below(others.len()), 1 + rng.below(others.len()));
    let names: Vec<&str> = match rng.chance(500) {
        true => vec![others[0]],
        false => others.into_iter().cycle().skip(first).take(count).collect(),
    };
    let peers = names.into_iter().map(|name| {
        let theirs = match name == others[0] {
            true => peer.to_owned(),
            false => format!("{name}.{peer}"),
        };
        let fields = match rng.below(8) {
            0 | 1 if host != "*" => json!({"name": name, "subset": name}),
            2 => json!({"name": name, "host": theirs, "subset": name}),
            _ => json!({"name": name, "host": theirs}),
        };
        self::peer(rng, fields)
    });
    service["peers"] = peers.collect();
    service
}

/// A peer with some of what it may say.
fn peer(rng: &mut Rng, mut peer: Value) -> Value {
    if rng.chance(150) {
        peer["mode"] = json!("drain");
    }
    if rng.chance(300) {
        peer["priority"] = json!(rng.pick(&[0, 1, 128]));
    }
    if rng.chance(300) {
        peer["weight"] = json!(rng.pick(&[1, 2, 1000]));
    }
    let mut policy = Map::new();
    if rng.chance(400) {
        let limit = rng.pick(&[1, 1, 2, i32::MAX]);
        policy.insert(
            "connectionPool".to_owned(),
            json!({"http": {"http2MaxRequests": limit}}),
        );
    }
    if rng.chance(400) {
        policy.insert("outlierDetection".to_owned(), detection(rng));
    }
    if !policy.is_empty() {
        peer["trafficPolicy"] = Value::Object(policy);
    }
    peer
}

fn detection(rng: &mut Rng) -> Value {
    let mut detection = json!({
        "consecutive5xxErrors": rng.pick(&[1, 1, 1, 2, 3, i32::MAX]),
        "interval": rng.pick(&["1ms", "50ms", "500ms", "10s", "1h"]),
        "baseEjectionTime": rng.pick(&["1ms", "1ms", "100ms", "1s", "1000h"]),
    });
    if rng.chance(300) {
        detection["consecutiveGatewayErrors"] = json!(rng.pick(&[0, 1, 2]));
    }
    if rng.chance(200) {
        detection["maxEjectionPercent"] = json!(rng.pick(&[1, 50, 99, 100]));
    }
    detection
}

/// A good configuration with one field of a wrong kind, one too many, or one missing.
fn wrong(rng: &mut Rng, spill: &Value) -> Value {
    let mut config = good(rng, spill);
    let value = rng.pick(&[
        json!(null),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!("ü".repeat(100)),
        json!([]),
        json!({}),
    ]);
    let mut at = &mut config;
    // As deep as chance will have it.
    loop {
        let deeper = match at {
            Value::Object(fields) if !fields.is_empty() => {
                let nth = rng.below(fields.len());
                fields.values_mut().nth(nth)
            }
            Value::Array(list) if !list.is_empty() => {
                let nth = rng.below(list.len());
                list.get_mut(nth)
            }
            _ => return config,
        };
        let Some(deeper) = deeper else { return config };
        at = deeper;
        if rng.chance(400) {
            break;
        }
    }
    match at {
        Value::Object(fields) if rng.chance(500) => {
            let nth = rng.below(fields.len());
            let name = fields.keys().nth(nth).cloned();
            if let Some(name) = name.filter(|_| rng.chance(500)) {
                fields.remove(&name);
            } else {
                fields.insert("x\u{1F600}".to_owned(), value);
            }
        }
        _ => *at = value,
    }
    config
}

/// Deeper than a parser that recurses could bear without a bound.
fn nested(rng: &mut Rng) -> Vec<u8> {
    let depth = 1 + rng.below(3000);
    let open: &[u8] = rng.pick(&[b"[".as_slice(), b"{\"a\":"]);
    open.repeat(depth)
}
