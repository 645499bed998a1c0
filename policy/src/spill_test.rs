use super::*;
use crate::destination::PeerId;
use crate::select::{By, Candidate, Select};

fn condition(name: &str, (test, text): (Test, &str)) -> Condition {
    Condition {
        entry: 0,
        name: name.to_owned(),
        test,
        text: text.to_owned(),
        not: false,
    }
}

fn not(name: &str, test: (Test, &str)) -> Condition {
    Condition {
        not: true,
        ..condition(name, test)
    }
}

const PRESENT: (Test, &str) = (Test::Present, "");

fn exact(text: &str) -> (Test, &str) {
    (Test::Exact, text)
}

fn prefix(text: &str) -> (Test, &str) {
    (Test::Prefix, text)
}

/// Headers as Envoy encodes them.
fn encoded(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let number = |n: usize| (n as u32).to_le_bytes();
    let mut bytes = number(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for text in headers
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), value])
    {
        bytes.extend(text);
        bytes.push(0);
    }
    bytes
}

/// Whether a request with these headers may be spilled if these entries are configured.
fn may(any_of: &[Vec<Condition>], headers: &[(&str, &[u8])]) -> bool {
    let entries = (0..).zip(any_of);
    let conditions = entries.clone().flat_map(|(entry, conditions)| {
        let of = move |condition: &Condition| Condition {
            entry,
            ..condition.clone()
        };
        conditions.iter().map(of)
    });
    let spill = Spill {
        entries: any_of.len() as u32,
        conditions: conditions.collect(),
        session: None,
    };
    spill.may(Headers(&encoded(headers)))
}

#[test]
fn without_an_entry_every_request_may_be_spilled() {
    assert!(Spill::default().may(Headers(&[])));
    assert!(may(&[], &[("x", b"")]));
}

#[test]
fn one_entry_of_which_all_conditions_hold_is_enough() {
    let entries = [
        vec![
            condition(METHOD, exact("GET")),
            condition(PATH, prefix("/api")),
        ],
        vec![condition("x-class", exact("batch"))],
    ];
    let request = |method: &'static str, path: &'static str| -> Vec<(&str, &[u8])> {
        vec![(METHOD, method.as_bytes()), (PATH, path.as_bytes())]
    };
    assert!(may(&entries, &request("GET", "/api/a?b=c")));
    assert!(!may(&entries, &request("POST", "/api/a")));
    assert!(!may(&entries, &request("GET", "/ap?/api")));
    let mut batch = request("POST", "/");
    batch.push(("x-class", b"batch"));
    assert!(may(&entries, &batch));
    assert!(may(&[entries[0].clone(), Vec::new()], &[]), "no condition");
    let all: Vec<_> = (0..MOST_ENTRIES)
        .map(|n| vec![condition("x", exact(&n.to_string()))])
        .collect();
    assert!(may(&all, &[("x", b"0")]) && may(&all, &[("x", b"63")]));
    assert!(!may(&all, &[("x", b"64")]) && !may(&all, &[]));
}

#[test]
fn a_path_is_compared_without_its_query_and_a_header_with_all_that_it_has() {
    let path = |test| [vec![condition(PATH, test)]];
    for (value, is_so) in [
        ("/a", true),
        ("/a?", true),
        ("/a?b=/c", true),
        ("/a#b", true),
        ("/a/", false),
        ("/A", false),
        ("/", false),
        ("", false),
    ] {
        assert_eq!(may(&path(exact("/a")), &[(PATH, value.as_bytes())]), is_so);
    }
    let header = [vec![condition("x", exact("a"))]];
    assert!(!may(&header, &[("x", b"a?b")]));
    assert!(
        !may(&path(exact("/a?b")), &[(PATH, b"/a?b")]),
        "as in Envoy"
    );
}

/// As Istio translates it: a header that must not match counts as empty if it is absent.
#[test]
fn an_absent_header_matches_nothing_and_is_empty_where_it_must_not_match() {
    let one = |condition: Condition, headers: &[(&str, &[u8])]| may(&[vec![condition]], headers);
    assert!(!one(condition("x", PRESENT), &[]));
    assert!(one(condition("x", PRESENT), &[("x", b"")]));
    assert!(!one(condition("x", exact("")), &[]));
    assert!(!one(condition("x", prefix("")), &[]));
    assert!(one(condition("x", prefix("")), &[("x", b"\xff")]));
    assert!(one(not("x", PRESENT), &[]));
    assert!(!one(not("x", PRESENT), &[("x", b"")]));
    assert!(one(not("x", exact("a")), &[]));
    assert!(!one(not("x", exact("a")), &[("x", b"a")]));
    assert!(!one(not("x", prefix("")), &[]));
}

/// As Envoy does since 1.39. Before, it compared them joined by commas.
#[test]
fn each_of_several_values_of_a_header_is_compared() {
    let headers: &[(&str, &[u8])] = &[("x", b"a"), ("y", b"c"), ("x", b"b")];
    let one = |condition: Condition| may(&[vec![condition]], headers);
    for value in ["a", "b"] {
        assert!(one(condition("x", exact(value))) && !one(not("X", exact(value))));
    }
    for value in ["a,b", "c", ""] {
        assert!(!one(condition("X", exact(value))) && one(not("x", exact(value))));
    }
}

#[test]
fn a_value_that_is_no_text_is_compared_as_bytes() {
    let entry = [vec![condition("x", exact("\u{fffd}"))]];
    assert!(!may(&entry, &[("x", b"\xff")]));
    assert!(may(&entry, &[("x", "\u{fffd}".as_bytes())]));
}

fn header() -> Session {
    Session {
        name: "x-user".to_owned(),
        is_cookie: false,
    }
}

fn a_cookie() -> Session {
    Session {
        name: "user".to_owned(),
        is_cookie: true,
    }
}

/// The session of a request with this one header.
fn session(of: Session, header: (&str, &[u8])) -> Option<u64> {
    of.of(Headers(&encoded(&[header])))
}

fn user(value: &[u8]) -> Option<u64> {
    session(header(), ("x-user", value))
}

fn cookies(value: &[u8]) -> Option<u64> {
    session(a_cookie(), ("cookie", value))
}

/// Another hash would move every session at an upgrade.
#[test]
fn the_session_of_a_value_is_its_hash_by_fnv_1a() {
    assert_eq!(user(b"a"), Some(0xaf63_dc4c_8601_ec8c));
    assert_eq!(user(b"foobar"), Some(0x8594_4171_f739_67e8));
    assert_eq!(cookies(b"user=a"), user(b"a"));
    assert_eq!(user(b""), None);
    assert!(user(b"\xff\xfe").is_some());
    assert_eq!(session(header(), ("x-users", b"a")), None);
    assert_eq!(session(a_cookie(), ("user", b"a")), None);
}

#[test]
fn a_cookie_is_found_by_its_whole_name_wherever_it_is() {
    for text in [
        "user=a",
        "x=1; user=a",
        "x=1;user=a;user=b",
        "users=b; xuser=c; user=a; y=\"2\"",
        "user; ; =; user=a",
    ] {
        assert_eq!(cookies(text.as_bytes()), user(b"a"), "{text}");
    }
    for text in ["", "user", "user=", "User=a", "users=a", "x=user=a"] {
        assert_eq!(cookies(text.as_bytes()), None, "{text}");
    }
    assert_eq!(cookies(b"user=a=b"), user(b"a=b"));
    assert_eq!(cookies(b"user=\"a\""), user(b"\"a\""));
    let two = encoded(&[("cookie", b"x=1"), ("cookie", b"user=a")]);
    assert_eq!(a_cookie().of(Headers(&two)), user(b"a"));
}

fn peers(names: &[(&str, u32)]) -> Vec<Candidate> {
    let peer = |(name, weight): &(&str, u32)| Candidate {
        priority: 0,
        weight: *weight,
        hash: notice::hash(name.as_bytes()),
        open: true,
        limit: None,
        detects: false,
    };
    names.iter().map(peer).collect()
}

/// Values that differ little, which a poor hash would not spread.
#[test]
fn sessions_of_values_like_those_of_users_are_spread_over_the_peers_by_weight() {
    let values: [fn(u32) -> String; 4] = [
        |n| n.to_string(),
        |n| format!("user-{n:06}"),
        |n| format!("{n:08x}-0000-4000-8000-000000000000"),
        |n| format!("u{n}@example.com"),
    ];
    let names = [
        &[("gke", 1), ("eks", 1), ("aks", 1)][..],
        &[("p1", 1), ("p2", 1), ("p3", 2), ("p4", 4)],
        &[("a", 9), ("b", 1)],
    ];
    for (value, names) in values
        .iter()
        .flat_map(|value| names.map(|names| (value, names)))
    {
        let peers = peers(names);
        let mut taken = vec![0.0; peers.len()];
        for n in 0..10_000 {
            let session = user(value(n).as_bytes()).expect("a session");
            let first = Select::default().next(&peers, By::Session(session));
            taken[first.map_or(0, PeerId::index)] += 0.01;
        }
        let total: u32 = names.iter().map(|(_, weight)| weight).sum();
        for ((_, weight), share) in names.iter().zip(&taken) {
            let due = 100.0 * f64::from(*weight) / f64::from(total);
            assert!(
                (share - due).abs() <= 2.0,
                "{}: {names:?} {taken:?}",
                value(1)
            );
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const NAMES: [&str; 4] = [METHOD, PATH, "x", "y"];

    fn conditions() -> impl Strategy<Value = Condition> {
        let test = select(vec![Test::Present, Test::Exact, Test::Prefix]);
        let parts = (select(&NAMES[..]), test, "[/aA?]{0,3}", any::<bool>());
        parts.prop_map(|(name, test, text, not)| Condition {
            not,
            ..condition(name, (test, &text))
        })
    }

    /// The same in other words.
    fn model(condition: &Condition, values: &[Vec<u8>]) -> bool {
        let compare = |value: &Vec<u8>| {
            let mut value = value.clone();
            let query = value.iter().position(|byte| *byte == b'?' || *byte == b'#');
            if let Some(query) = query.filter(|_| condition.name == ":path") {
                value.truncate(query);
            }
            let text = condition.text.as_bytes();
            match condition.test {
                Test::Present => true,
                Test::Exact => value == text,
                Test::Prefix => value.starts_with(text),
            }
        };
        match (condition.not, condition.test) {
            (true, Test::Present) => values.is_empty(),
            (true, _) if values.is_empty() => !compare(&Vec::new()),
            (not, _) => values.iter().any(compare) != not,
        }
    }

    fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
        vec(
            (select(&NAMES[..]), vec(select(&b"/aA?#\xff"[..]), 0..4)),
            0..6,
        )
    }

    proptest! {
        #[test]
        fn requests_are_told_apart_as_a_simple_model_does(
            entries in vec(vec(conditions(), 0..4), 1..4),
            headers in headers(),
        ) {
            let of = |name: &str| -> Vec<Vec<u8>> {
                let of = headers.iter().filter(|(other, _)| *other == name);
                of.map(|(_, value)| value.clone()).collect()
            };
            let expected = entries.iter().any(|entry| entry.iter().all(|c| model(c, &of(&c.name))));
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            prop_assert_eq!(may(&entries, &headers), expected);
        }

        /// Not even if its numbers are wrong.
        #[test]
        fn any_bytes_are_headers(
            headers in headers(),
            changed in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            end in any::<prop::sample::Index>(),
            condition in conditions(),
        ) {
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let mut bytes = encoded(&headers);
            for (at, to) in changed {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes.truncate(end.index(bytes.len() + 1));
            condition.holds(Headers(&bytes));
            header().of(Headers(&bytes));
            a_cookie().of(Headers(&bytes));
        }

        #[test]
        fn any_bytes_are_a_cookie_header(value in vec(any::<u8>(), 0..40), name in "[a-z]{1,9}") {
            let found = [&value[..], b"; user=", name.as_bytes()].concat();
            let first = value.windows(4).any(|part| part == b"user");
            prop_assert!(first || cookies(&found) == user(name.as_bytes()));
        }
    }
}
