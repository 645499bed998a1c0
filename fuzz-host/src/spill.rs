//! Which requests may be spilled and where the sessions go, in words of the host's own, and what must be so of each decision.

use std::collections::BTreeMap;

use policy::names::{HOME, REJECTED};
use serde_json::{Value, json};

use crate::fault::Family;
use crate::rng::Rng;
use crate::stream::Headers;
use crate::world::World;

const METHODS: &[&str] = &["GET", "GET", "HEAD", "POST", "get", ""];
const PATHS: &[&str] = &["/", "/api", "/api/a?b=c", "/apis#x", "/?/api", "*", ""];
const USERS: &[&[u8]] = &[b"a", b"b", b"c", b"", b"\xff\xfe", b"a,b"];
const COOKIES: &[&[u8]] = &[
    b"user=a",
    b"x=1; user=b",
    b"user=",
    b"; ;user=c;=",
    b"\xff=1",
];
const FAMILIES: [Family; 7] = [
    Family::Count,
    Family::Metric,
    Family::Shared,
    Family::Header,
    Family::Property,
    Family::Clock,
    Family::Other,
];

/// What all services of a case say: mostly nothing.
pub fn draw(rng: &mut Rng) -> Value {
    let mut spill = json!({});
    if rng.chance(300) {
        let entries = (0..1 + rng.below(3)).map(|_| entry(rng));
        spill["match"] = entries.collect();
    }
    if rng.chance(300) {
        spill["consistentHash"] = rng.pick(&[
            json!({"httpHeaderName": "X-User"}),
            json!({"httpCookie": {"name": "user"}}),
        ]);
    }
    spill
}

fn entry(rng: &mut Rng) -> Value {
    let mut entry = json!({});
    if rng.chance(600) {
        entry["method"] = json!({"exact": rng.pick(&["GET", "POST"])});
    }
    if rng.chance(600) {
        entry["uri"] = rng.pick(&[json!({"prefix": "/api"}), json!({"exact": "/"})]);
    }
    for field in ["headers", "withoutHeaders"] {
        if rng.chance(300) {
            let test = rng.pick(&[json!({}), json!({"exact": "a"}), json!({"prefix": ""})]);
            entry[field] = json!({"x-user": test});
        }
    }
    entry
}

/// The headers of a request that the above may look at.
pub fn headers(rng: &mut Rng) -> Headers {
    let mut headers = vec![
        (b":method".to_vec(), rng.pick(METHODS).into()),
        (b":path".to_vec(), rng.pick(PATHS).into()),
    ];
    for (name, values) in [("x-user", USERS), ("cookie", COOKIES)] {
        for _ in 0..rng.pick(&[0, 1, 1, 1, 2]) {
            headers.push((name.into(), rng.pick(values).to_vec()));
        }
    }
    headers
}

/// Headers as the ABI has them.
pub fn encoded(headers: &Headers) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = number(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend([number(name.len()), number(value.len())].as_flattened());
    }
    for (name, value) in headers {
        bytes.extend([name, &[0][..], value, &[0]].concat());
    }
    bytes
}

fn values<'a>(headers: &'a Headers, name: &str) -> Vec<&'a [u8]> {
    let of = headers.iter().filter(|(other, _)| other == name.as_bytes());
    of.map(|(_, value)| &**value).collect()
}

/// Whether a request with these headers may be spilled.
fn may(spill: &Value, headers: &Headers) -> bool {
    let compare =
        |test: &Value, value: &[u8]| match (test["exact"].as_str(), test["prefix"].as_str()) {
            (Some(text), _) => value == text.as_bytes(),
            (_, Some(text)) => value.starts_with(text.as_bytes()),
            _ => true,
        };
    let any = |test: &Value, values: &[&[u8]]| values.iter().any(|value| compare(test, value));
    let holds = |entry: &Value| {
        let path = values(headers, ":path");
        let path = path.iter().map(|path| {
            let end = path.iter().position(|byte| b"?#".contains(byte));
            &path[..end.unwrap_or(path.len())]
        });
        let path: Vec<&[u8]> = path.collect();
        let user = values(headers, "x-user");
        let without = &entry["withoutHeaders"]["x-user"];
        let is_without = match without.as_object() {
            Some(test) if user.is_empty() => test.is_empty() || !compare(without, b""),
            Some(_) => !any(without, &user),
            None => true,
        };
        let is = |test: &Value, values: &[&[u8]]| test.is_null() || any(test, values);
        is(&entry["method"], &values(headers, ":method"))
            && is(&entry["uri"], &path)
            && is(&entry["headers"]["x-user"], &user)
            && is_without
    };
    let entries = spill["match"].as_array();
    entries.is_none_or(|entries| entries.iter().any(holds))
}

/// The session of a request with these headers.
fn session(spill: &Value, headers: &Headers) -> Option<Vec<u8>> {
    let hash = spill["consistentHash"].as_object()?;
    let all: Vec<&[u8]> = if hash.contains_key("httpHeaderName") {
        values(headers, "x-user")
    } else {
        let cookies = values(headers, "cookie");
        let named = cookies.iter().filter_map(|cookies| {
            let mut cookies = cookies.split(|byte| *byte == b';');
            cookies.find_map(|cookie| cookie.trim_ascii_start().strip_prefix(b"user="))
        });
        named.collect()
    };
    all.into_iter()
        .find(|value| !value.is_empty())
        .map(<[u8]>::to_vec)
}

/// What is known of a request before the filter sees it.
#[derive(Debug)]
pub struct Before {
    headers: Headers,
    decided: bool,
    declined: u64,
}

/// Where the requests of a session went, by configuration.
pub type Sessions = BTreeMap<(Vec<u8>, Vec<u8>), String>;

fn declined(world: &World) -> u64 {
    let all = world.metrics.all.iter();
    let of = all.filter(|metric| metric.name.ends_with(";peer_declined"));
    of.map(|metric| metric.value).sum()
}

/// What is known of the request that the VM `me` is called for.
pub fn before(world: &mut World, me: usize) -> Option<Before> {
    let declined = declined(world);
    let stream = world.vms[me].stream()?;
    Some(Before {
        headers: stream.maps[0].clone(),
        decided: stream.said.is_some(),
        declined,
    })
}

/// What is wrong with what was decided, if anything is.
pub fn after(world: &mut World, me: usize, before: &Before) -> Option<String> {
    if before.decided || !world.same_spill || world.vms[me].misled {
        return None;
    }
    let vm = &mut world.vms[me];
    let stream = vm.stream()?;
    let (said, root) = (stream.said.clone()?, stream.root);
    let said = String::from_utf8_lossy(&said).into_owned();
    let (destination, reason) = said.split_once("; reason=")?;
    let may = may(&world.spill, &before.headers);
    let leaves = destination != HOME;
    if (leaves && !may) || (reason == "unmatched" && may) {
        return Some(format!("{said} of a request that may be spilled: {may}"));
    }
    let session = session(&world.spill, &before.headers)?;
    if !leaves || destination == REJECTED || before.declined != declined(world) {
        return None;
    }
    // Where nothing goes wrong, it is known which configuration runs.
    let well = FAMILIES.iter().all(|family| world.faults.spares(*family));
    if !well || world.metrics.all.iter().any(|metric| metric.dropped) {
        return None;
    }
    let roots = &world.vms[me].roots;
    let config = &roots.iter().find(|other| other.id == root)?.runs.1;
    let [_] = config::parse(config).ok()?.services[..] else {
        return None;
    };
    let key = (config.to_vec(), session);
    let first = world
        .sessions
        .entry(key)
        .or_insert_with(|| destination.to_owned());
    (first != destination).then(|| format!("{said}, and a request of its session went to {first}"))
}
