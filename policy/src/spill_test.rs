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
    let mut spill = Spill {
        entries: any_of.len() as u32,
        conditions: conditions.collect(),
        session: None,
    };
    let value = |name: &str| {
        let value = headers.iter().find(|(other, _)| *other == name);
        value.map(|(_, value)| value.to_vec())
    };
    let may = spill.may(&mut |name| value(name));
    // In the order of a configuration each name is read once.
    spill.conditions.sort_by(|a, b| a.name.cmp(&b.name));
    let mut asked = Vec::new();
    let sorted = spill.may(&mut |name| {
        assert!(!asked.contains(&name.to_owned()), "{name} is read twice");
        asked.push(name.to_owned());
        value(name)
    });
    assert_eq!(may, sorted, "the order does not matter");
    may
}

#[test]
fn without_an_entry_every_request_may_be_spilled_and_nothing_is_read() {
    let read = &mut |name: &str| panic!("{name} is read");
    assert!(Spill::default().may(read));
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

/// Another hash would move every session at an upgrade.
#[test]
fn the_session_of_a_value_is_its_hash_by_fnv_1a() {
    assert_eq!(header().of(b"a"), Some(0xaf63_dc4c_8601_ec8c));
    assert_eq!(header().of(b"foobar"), Some(0x8594_4171_f739_67e8));
    assert_eq!(a_cookie().of(b"user=a"), header().of(b"a"));
    assert_eq!(header().of(b""), None);
    assert!(header().of(b"\xff\xfe").is_some());
    let names = [header(), a_cookie()].map(|session| session.header().to_owned());
    assert_eq!(names, ["x-user", "cookie"]);
}

#[test]
fn a_cookie_is_found_by_its_whole_name_wherever_it_is() {
    for cookies in [
        "user=a",
        "x=1; user=a",
        "x=1;user=a;user=b",
        "users=b; xuser=c; user=a; y=\"2\"",
        "user; ; =; user=a",
    ] {
        assert_eq!(
            a_cookie().of(cookies.as_bytes()),
            header().of(b"a"),
            "{cookies}"
        );
    }
    for cookies in ["", "user", "user=", "User=a", "users=a", "x=user=a"] {
        assert_eq!(a_cookie().of(cookies.as_bytes()), None, "{cookies}");
    }
    assert_eq!(a_cookie().of(b"user=a=b"), header().of(b"a=b"));
    assert_eq!(a_cookie().of(b"user=\"a\""), header().of(b"\"a\""));
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
            let session = header().of(value(n).as_bytes()).expect("a session");
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
    fn model(condition: &Condition, value: Option<&Vec<u8>>) -> bool {
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
        match (condition.not, condition.test, value) {
            (true, Test::Present, value) => value.is_none(),
            (true, _, value) => !compare(value.unwrap_or(&Vec::new())),
            (false, _, value) => value.is_some_and(compare),
        }
    }

    proptest! {
        #[test]
        fn requests_are_told_apart_as_a_simple_model_does(
            entries in vec(vec(conditions(), 0..4), 1..4),
            values in [(); 4].map(|()| proptest::option::of(vec(select(&b"/aA?#\xff"[..]), 0..4))),
        ) {
            let of = |name: &str| NAMES.iter().position(|other| *other == name).and_then(|nth| values[nth].as_ref());
            let expected = entries.iter().any(|entry| entry.iter().all(|c| model(c, of(&c.name))));
            let headers: Vec<(&str, &[u8])> = NAMES.iter().zip(&values)
                .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
                .collect();
            prop_assert_eq!(may(&entries, &headers), expected);
        }

        #[test]
        fn any_bytes_are_a_cookie_header(value in vec(any::<u8>(), 0..40), user in "[a-z]{1,9}") {
            a_cookie().of(&value);
            let found = [&value[..], b"; user=", user.as_bytes()].concat();
            let first = value.windows(4).any(|part| part == b"user");
            prop_assert!(first || a_cookie().of(&found) == header().of(user.as_bytes()));
        }
    }
}
