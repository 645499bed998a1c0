//! The rules that the JSON Schema cannot say.

use super::*;

#[test]
fn each_rule_outside_of_the_schema_refuses_what_the_schema_accepts() {
    let service =
        |host: &str, peer: &str| json!({"host": host, "peers": [{"name": "gke", "host": peer}]});
    let whole = |list: Value| json!({"version": 1, "cluster": "home-cluster", "services": list});
    let of_two = |host, peer| whole(json!([service("a.x", "a.y"), service(host, peer)]));
    let with = |field: &str, value: Value| {
        let mut service = service("a.x", "a.y");
        service[field] = value;
        whole(json!([service]))
    };
    let interval = |interval: &str| {
        with(
            "trafficPolicy",
            json!({"outlierDetection": {"interval": interval}}),
        )
    };
    let matching = |entry: Value| with("spill", json!({"match": [entry]}));
    let two = json!({"uri": {"exact": "/", "prefix": "/"}});
    let session = with("spill", json!({"consistentHash": {}}));
    let mut own = service("a.x", "a.y");
    own["peers"][0]["name"] = json!("home-cluster");
    let peers = |list: Value| {
        let mut service = service("a.x", "a.y");
        service["peers"] = list;
        whole(json!([service]))
    };
    let cases = [
        (
            "peers alike",
            peers(json!([{"name": "a", "subset": "s"}, {"name": "b", "subset": "s"}])),
        ),
        ("host twice", of_two("A.x", "b.y")),
        ("star alone", of_two("*", "b.y")),
        ("host of two", of_two("b.x", "a.y")),
        ("host of the peer", whole(json!([service("a.x", "a.x")]))),
        ("name of the peer", whole(json!([own]))),
        ("overflow", with("overflow", json!("eject"))),
        ("minErrorPercent", with("minErrorPercent", json!(1))),
        ("exact and prefix", matching(two)),
        ("header's name", matching(json!({"headers": {":a": {}}}))),
        ("header or cookie", session),
        ("least duration", interval("0s")),
        ("whole milliseconds", interval("1.5ms")),
        ("longest duration", interval("9999999h")),
    ];
    for (name, value) in &cases {
        let (valid, ruled, others) = both(value);
        let rule = RULES.iter().find(|rule| rule.name == *name).expect(name);
        assert!(valid, "{name}");
        assert!(others.is_empty(), "{name}: {others:?}");
        assert!(
            ruled.len() == 1 && ruled[0].contains(rule.fault),
            "{name}: {ruled:?}"
        );
    }
    // Two rules cannot be broken by a JSON value, only by a text.
    for rule in RULES
        .iter()
        .filter(|rule| !cases.iter().any(|(name, _)| *name == rule.name))
    {
        assert!(
            ["field twice", "size"].contains(&rule.name),
            "{}",
            rule.name
        );
    }
}
