//! Which requests may be spilled, and what tells their sessions.

use super::tests::{read, refused, with};
use policy::Spill;
use policy::spill::{Condition, Session, Test};
use serde_json::{Value, json};

/// The `spill` of a service that has this one, and the warnings.
#[track_caller]
fn accepted(spill: Value) -> (Spill, Vec<String>) {
    let config = read(&with("/services/0/spill", spill)).expect("a good configuration");
    let spill = config.services[0].spill.as_deref();
    (spill.expect("it is there").clone(), config.warnings)
}

#[track_caller]
fn silent(spill: Value) -> Spill {
    let (spill, warnings) = accepted(spill);
    assert_eq!(warnings[1..], [""; 0], "but for that of the limits");
    spill
}

/// The only fault, without the path of the field.
#[track_caller]
fn fault(spill: Value) -> String {
    let fault = read(&with("/services/0/spill", spill)).expect_err("must be refused");
    let at = fault.strip_prefix("services[0].spill").expect("its path");
    at.trim_start_matches('.').to_owned()
}

fn condition(name: &str, test: Test, text: &str) -> Condition {
    Condition {
        entry: 0,
        name: name.to_owned(),
        test,
        text: text.to_owned(),
        not: false,
    }
}

#[test]
fn without_it_every_request_may_be_spilled_and_there_are_no_sessions() {
    let config = read(&super::tests::good()).expect("a good configuration");
    assert_eq!(config.services[0].spill, None);
    assert_eq!(silent(json!({})), Spill::default());
    let server = json!({"version": 1, "cluster": "c", "role": "server",
        "services": [{"host": "a.b", "spill": {}}]});
    refused(
        &server,
        "services[0].spill: is not for role: server; remove it",
    );
}

#[test]
fn an_entry_has_a_condition_for_each_field_and_header() {
    let spill = silent(json!({"match": [
        {
            "method": {"exact": "GET"},
            "uri": {"prefix": "/api"},
            "headers": {"X-Class": {"exact": "Batch"}, "x-any": {}},
            "withoutHeaders": {"x-tx": {"prefix": "t"}},
        },
        {"uri": {"exact": "/"}},
        {},
    ]}));
    let expected = [
        condition(":method", Test::Exact, "GET"),
        condition(":path", Test::Prefix, "/api"),
        condition("X-Class", Test::Exact, "Batch"),
        condition("x-any", Test::Present, ""),
        Condition {
            not: true,
            ..condition("x-tx", Test::Prefix, "t")
        },
        Condition {
            entry: 1,
            ..condition(":path", Test::Exact, "/")
        },
    ];
    assert_eq!(spill.conditions, expected);
    assert_eq!(spill.entries, 3);
}

#[test]
fn each_mistake_of_a_match_has_a_line() {
    let matching = |entry: Value| fault(json!({"match": [entry]}));
    assert_eq!(
        fault(json!({"match": []})),
        "match: is empty; add one, or remove match"
    );
    assert_eq!(
        fault(json!({"match": vec![json!({}); 65]})),
        "match[64]: is one too many; at most 64 entries"
    );
    assert_eq!(
        matching(json!({"uri": {"regex": "/a.*"}})),
        "match[0].uri.regex: would make the module much larger; use exact or prefix"
    );
    assert_eq!(
        matching(json!({"headers": {"x": {"exact": "a", "prefix": "b"}}})),
        ": match has exact and prefix of x; remove one"
    );
    for name in ["", ":path", "x y", "@request.auth.claims.sub"] {
        assert_eq!(
            matching(json!({"withoutHeaders": {name: {}}})),
            format!(": match has {name}, no header's name")
        );
    }
    for (field, near) in [
        ("scheme", ""),
        ("authority", ""),
        ("queryParams", ""),
        ("sourceLabels", ""),
        ("sourceNamespace", ""),
        ("gateways", ""),
        ("ignoreUriCase", ""),
        ("name", "did you mean services.peers.name? If not, "),
    ] {
        assert_eq!(
            matching(json!({field: {"exact": "a"}})),
            format!(
                "match[0].{field}: unknown field; {near}remove it, or use one of: method, uri, headers, withoutHeaders"
            )
        );
    }
    assert_eq!(
        matching(json!({"uri": "/api"})),
        "match[0].uri: must be an object, not a string"
    );
    assert_eq!(
        matching(json!({"url": {}})),
        "match[0].url: unknown field; did you mean uri? If not, remove it, or use one of: method, uri, headers, withoutHeaders"
    );
}

fn told_by(name: &str, is_cookie: bool) -> Option<Session> {
    let name = name.to_owned();
    Some(Session { name, is_cookie })
}

#[test]
fn a_session_is_told_by_a_header_or_by_a_cookie() {
    let spill = silent(json!({"consistentHash": {"httpHeaderName": "X-User"}}));
    assert_eq!(spill.session, told_by("X-User", false));
    let spill = silent(json!({"consistentHash": {"httpCookie": {"name": "User"}}}));
    assert_eq!(spill.session, told_by("User", true));
}

/// The filter sets no cookie, so what one is set with would not work.
#[test]
fn each_mistake_of_a_consistent_hash_has_a_line() {
    let hashing = |hash: Value| fault(json!({"consistentHash": hash}));
    let cookie = json!({"name": "x"});
    let with = |field: &str, value: Value| json!({"httpCookie": {"name": "x", field: value}});
    for hash in [
        json!({}),
        json!({"httpHeaderName": "x", "httpCookie": cookie}),
        json!({"httpHeaderName": "x", "useSourceIp": true}),
        json!({"useSourceIp": true}),
        json!({"httpQueryParameterName": "x"}),
        json!({"httpHeaderName": "x", "ringHash": {"minimumRingSize": 1}}),
        json!({"httpHeaderName": "x", "maglev": {}}),
        json!({"httpCookie": cookie, "minimumRingSize": 1024}),
        with("ttl", json!("0s")),
        with("path", json!("/")),
        with("attributes", json!([])),
        json!({"httpHeaderName": ""}),
        json!({"httpHeaderName": ":path"}),
        json!({"httpCookie": {"name": "a;b"}}),
    ] {
        assert_eq!(
            hashing(hash),
            ": consistentHash wants httpHeaderName or httpCookie.name alone: the filter sets no cookie and has no ring"
        );
    }
    assert_eq!(
        hashing(json!({"httpHeaderName": 1})),
        "consistentHash.httpHeaderName: must be a string, not a number"
    );
    assert_eq!(
        hashing(json!({"httpCookie": {}})),
        "consistentHash.httpCookie.name: is missing; add the cookie's name"
    );
    assert_eq!(
        hashing(json!({"httpHeadername": "x"})),
        "consistentHash.httpHeadername: unknown field; did you mean httpHeaderName? If not, remove it, or use one of: httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName, ringHash, maglev, minimumRingSize"
    );
}
