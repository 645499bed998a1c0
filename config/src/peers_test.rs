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
        "services[0].peers[1].name: is that of peers[0] too; give each peer one of its own",
    );
    let mut same_host = peer("b");
    same_host["host"] = json!("A.istio.a.global");
    refused(
        &peers(json!([peer("a"), peer("c"), same_host])),
        "services[0].peers[2].host: is that of peers[0] too; give each peer one of its own",
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

/// Where each peer is: its host and its subset.
fn places(config: &Config) -> Vec<(&str, &str)> {
    let peers = config.services[0].peers.iter();
    peers.map(Peer::host_and_subset).collect()
}

#[test]
fn a_peer_is_a_host_or_a_subset_of_the_services_host_or_of_another() {
    let list = json!([
        peer("a"),
        {"name": "gke", "subset": "gke"},
        {"name": "eks", "host": "A.istio.SVC.cluster.local", "subset": "EKS"},
        {"name": "aks", "host": "a.istio.aks.global", "subset": "gke"},
        {"name": "aks-2", "host": "a.istio.aks.global"},
    ]);
    let config = read(&peers(list)).expect("a good configuration");
    let own = "a.istio.svc.cluster.local";
    let expected = [
        ("a.istio.a.global", ""),
        (own, "gke"),
        (own, "EKS"),
        ("a.istio.aks.global", "gke"),
        ("a.istio.aks.global", ""),
    ];
    assert_eq!(places(&config), expected);
}

#[test]
fn a_peer_needs_a_host_or_a_subset_of_a_service_that_has_a_host() {
    refused(
        &peers(json!([{"name": "gke"}])),
        "services[0].peers[0].host: is missing; add the ServiceEntry host whose endpoint is the peer's gateway, or the subset that is the peer",
    );
    let mut whole = peers(json!([{"name": "gke", "subset": "gke"}]));
    whole["services"][0]["host"] = json!("*");
    refused(
        &whole,
        "services[0].peers[0].host: must be the host of the peer's ServiceEntry, not the home service's own",
    );
    whole["services"][0]["peers"][0]["host"] = json!("a.istio.gke.global");
    let config = read(&whole).expect("it has a host");
    assert_eq!(places(&config), [("a.istio.gke.global", "gke")]);
}

/// The order of the peers makes no difference, nor what is between them.
#[test]
fn two_peers_are_not_the_same_subset_of_one_host() {
    refused(
        &peers(
            json!([{"name": "a", "subset": "s"}, {"name": "b", "subset": "t"}, {"name": "c", "subset": "s"}]),
        ),
        "services[0].peers[2].subset: is that of peers[0] too; give each peer one of its own",
    );
    // It is written in two ways.
    let host = "a.istio.svc.cluster.local";
    refused(
        &peers(json!([{"name": "a", "host": host, "subset": "s"}, {"name": "b", "subset": "s"}])),
        "services[0].peers[1].subset: is that of peers[0] too; give each peer one of its own",
    );
    // Two fields whose joined texts are equal are different places.
    let list = json!([{"name": "a", "host": "b.c", "subset": "a"}, {"name": "b", "host": "ab.c"}]);
    read(&peers(list)).expect("a good configuration");
}

/// Requests for the host's clusters are the other service's, whatever their subset.
#[test]
fn a_subset_of_another_services_host_is_refused() {
    for (host, of) in [
        ("b.istio.svc.cluster.local", "services[1].host"),
        ("b.istio.a.global", "services[1].peers[0].host"),
    ] {
        let first = json!({"name": "gke", "host": host, "subset": "gke"});
        let mut whole = peers(json!([first]));
        let other = json!({
            "host": "b.istio.svc.cluster.local",
            "peers": [{"name": "a", "host": "b.istio.a.global"}],
        });
        whole["services"]
            .as_array_mut()
            .expect("a list")
            .push(other);
        let faults = parse(whole.to_string().as_bytes()).expect_err("must be refused");
        let line = match of {
            "services[1].host" => format!(
                "services[0].peers[0].host: {host} is {of} too; give each service's peer a host of its own"
            ),
            _ => format!(
                "services[1].peers[0].host: {host} is services[0].peers[0].host too; give each service's peer a host of its own"
            ),
        };
        assert_eq!(faults.to_string(), line);
    }
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
