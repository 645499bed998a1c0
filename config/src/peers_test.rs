//! Any number of peers, and what each of them may say.

use super::tests::{good, read, refused, with};
use super::*;
use policy::select::MOST_PEERS;
use serde_json::{Value, json};

/// A configuration whose service has these peers.
fn peers(peers: Value) -> Value {
    with("/services/0/peers", peers)
}

fn peer(name: &str) -> Value {
    json!({"name": name, "host": format!("a.istio.{name}.global")})
}

#[test]
fn an_absent_field_of_a_peer_has_its_default() {
    let config = read(&good()).expect("a good configuration");
    let [peer] = &config.services[0].peers[..] else {
        panic!("it has one peer");
    };
    let expected = Candidate {
        priority: 0,
        weight: 1,
        hash: policy::notice::hash(b"gke"),
        open: true,
        limit: None,
        detects: false,
    };
    assert_eq!((peer.candidate, peer.detection), (expected, None));
}

#[test]
fn as_many_peers_as_there_may_be_keep_their_order_and_what_each_says() {
    let names: Vec<String> = (0..MOST_PEERS).map(|n| format!("p{n}")).collect();
    let list: Vec<Value> = names
        .iter()
        .zip(1..)
        .map(|(name, n)| {
            let mut peer = peer(name);
            peer["priority"] = json!(n % 3);
            peer["weight"] = json!(n);
            peer["trafficPolicy"] = json!({
                "connectionPool": {"http": {"http2MaxRequests": n}},
                "outlierDetection": {"consecutiveGatewayErrors": n},
            });
            peer
        })
        .collect();
    let config = read(&peers(json!(list))).expect("a good configuration");
    for ((peer, name), n) in config.services[0].peers.iter().zip(&names).zip(1..) {
        let Candidate {
            priority,
            weight,
            hash,
            limit,
            ..
        } = peer.candidate;
        assert_eq!((&peer.name, priority, weight), (name, n % 3, n));
        assert_eq!(
            hash,
            policy::notice::hash(name.as_bytes()),
            "it depends on the name alone"
        );
        assert_eq!(limit, Some(n));
        let detection = peer.detection.expect("it is configured");
        assert_eq!(detection.consecutive_gateway, n);
        assert_eq!((detection.max_percent, detection.overflow), (100, false));
    }
}

#[test]
fn a_service_spills_as_long_as_one_peer_is_open() {
    let drained = |names: &[&str]| {
        let list = ["a", "b"].map(|name| {
            let mut peer = peer(name);
            peer["mode"] = json!(if names.contains(&name) {
                "drain"
            } else {
                "enforce"
            });
            peer
        });
        let config = read(&peers(json!(list))).expect("a good configuration");
        let service = &config.services[0];
        let open: Vec<bool> = service
            .peers
            .iter()
            .map(|peer| peer.candidate.open)
            .collect();
        (service.rule.peer_open, open)
    };
    assert_eq!(drained(&[]), (true, vec![true, true]));
    assert_eq!(drained(&["a"]), (true, vec![false, true]));
    assert_eq!(drained(&["a", "b"]), (false, vec![false, false]));
}

#[test]
fn two_peers_have_neither_the_same_name_nor_the_same_host() {
    let mut same_name = peer("b");
    same_name["name"] = json!("a");
    refused(
        &peers(json!([peer("a"), same_name])),
        "services[0].peers[1].name: a is peers[0].name too; give each peer a name of its own",
    );
    let mut same_host = peer("b");
    same_host["host"] = json!("A.istio.a.global");
    refused(
        &peers(json!([peer("a"), peer("c"), same_host])),
        "services[0].peers[2].host: a.istio.a.global is services[0].peers[0].host too; give each service's peer a host of its own",
    );
    // Nor with a peer of another service.
    let mut whole = peers(json!([peer("a"), peer("b")]));
    let other = json!({"host": "b.istio.svc.cluster.local", "peers": [peer("c"), peer("b")]});
    whole["services"]
        .as_array_mut()
        .expect("a list")
        .push(other);
    refused(
        &whole,
        "services[1].peers[1].host: a.istio.b.global is services[0].peers[1].host too; give each service's peer a host of its own",
    );
}

#[test]
fn each_mistake_of_a_peer_names_that_peer() {
    let with = |field: &str, value: Value| {
        let mut second = peer("b");
        second[field] = value;
        peers(json!([peer("a"), second]))
    };
    for (field, value, line) in [
        (
            "name",
            json!("iotcloudserve"),
            "name: must be another cluster's name, not our own, iotcloudserve",
        ),
        (
            "host",
            json!("a.istio.svc.cluster.local"),
            "host: must be the host of the peer's ServiceEntry, not the home service's own",
        ),
        (
            "weight",
            json!(0),
            "weight: must be a whole number from 1 to 1000, not 0 (to send no new requests to a peer, use mode: drain)",
        ),
        (
            "weight",
            json!(1001),
            "weight: must be a whole number from 1 to 1000, not 1001",
        ),
        (
            "priority",
            json!(129),
            "priority: must be a whole number from 0 to 128, not 129",
        ),
        (
            "priority",
            json!(-1),
            "priority: must be a whole number from 0 to 128, not -1",
        ),
        (
            "trafficPolicy",
            json!({"outlierDetection": {"maxEjectionPercent": 0}}),
            "trafficPolicy.outlierDetection.maxEjectionPercent: must be a whole number from 1 to 100, not 0 (Istio reads 0 as not set, which is Envoy's 10; to divert nothing, use mode: observe)",
        ),
    ] {
        refused(&with(field, value), &format!("services[0].peers[1].{line}"));
    }
}

#[test]
fn the_ejection_percentage_of_a_peer_has_no_meaning_and_the_log_says_so() {
    let mut whole = good();
    let detection = json!({"outlierDetection": {"maxEjectionPercent": 50}});
    whole["services"][0]["peers"][0]["trafficPolicy"] = detection;
    whole["services"][0]["trafficPolicy"] = json!({"outlierDetection": {}});
    let config = read(&whole).expect("it is accepted");
    assert_eq!(
        config.warnings,
        [
            "services[0].peers[0].trafficPolicy.outlierDetection.maxEjectionPercent: has no meaning for a peer: one that is ejected gets no requests but its probe; remove it"
        ]
    );
}
