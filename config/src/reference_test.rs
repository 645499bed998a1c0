//! The committed page and schema are made from the declaration, and the schema accepts what the reader accepts.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::declaration::List;
use crate::parse;

fn committed(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(path).expect("`cargo xtask config` writes it")
}

#[test]
fn the_committed_page_and_schema_are_what_the_declaration_gives() {
    let schema = format!("{:#}\n", schema());
    assert!(
        committed("configuration.schema.json") == schema,
        "run `cargo xtask config`"
    );
    assert!(
        committed("configuration.md") == page(),
        "run `cargo xtask config`"
    );
}

/// Every object is on the page once, every link has its heading, and every field has a line about it.
#[test]
fn the_page_has_every_object_once_and_a_sentence_for_every_field() {
    let page = page();
    let mut objects = Vec::new();
    collect(&plugin::OBJECT, false, &mut objects);
    for (object, _) in objects {
        let heading = format!("\n### {}\n", title(object));
        assert_eq!(page.matches(&heading).count(), 1, "{heading}");
        for field in object.fields {
            assert!(
                !field.doc.trim().is_empty(),
                "{}.{}",
                object.title,
                field.name
            );
            let found = object.fields.iter().filter(|other| {
                other.name == field.name
                    && Role::ALL
                        .iter()
                        .any(|r| other.is_for(*r) && field.is_for(*r))
            });
            assert_eq!(
                found.count(),
                1,
                "{}.{} is there twice",
                object.title,
                field.name
            );
        }
        // The reader has a bit for each field in a u32.
        assert!(object.fields.len() <= 32, "{}", object.title);
    }
}

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema = schema();
    jsonschema::draft202012::meta::validate(&schema).expect("a schema");
    jsonschema::draft202012::new(&schema).expect("a schema")
});

/// Whether the schema accepts the value, and the reader's faults: first those that break a rule outside of the schema, then
/// the others.
fn both(value: &Value) -> (bool, Vec<String>, Vec<String>) {
    let (ruled, others) = match parse(value.to_string().as_bytes()) {
        Ok(_) => (Vec::new(), Vec::new()),
        Err(faults) => faults
            .lines()
            .partition(|line| RULES.iter().any(|rule| line.contains(rule.fault))),
    };
    (VALIDATOR.is_valid(value), ruled, others)
}

fn agree(value: &Value) -> Result<(), TestCaseError> {
    let (valid, ruled, others) = both(value);
    if valid {
        prop_assert!(
            others.is_empty(),
            "the schema takes {value}, the reader says {others:?}"
        );
    } else {
        let refused = !others.is_empty() || !ruled.is_empty();
        prop_assert!(refused, "the reader takes {value}, the schema does not");
    }
    Ok(())
}

fn values(kind: &Kind, role: Role) -> BoxedStrategy<Value> {
    match *kind {
        Kind::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Text => "\\PC{0,6}".prop_map(Value::from).boxed(),
        Kind::Whole(&(min, max)) => prop_oneof![Just(min), Just(max), min..=max]
            .prop_map(Value::from)
            .boxed(),
        Kind::Number(max) => (0.0..=f64::from(max)).prop_map(Value::from).boxed(),
        Kind::Duration(_) => {
            let good = vec![
                "1s",
                "1m30s",
                ".5s",
                "+1s",
                "250ms",
                "9000h",
                "5.s",
                "10000\u{3bc}s",
                "1h1ms",
            ];
            select(good).prop_map(Value::from).boxed()
        }
        Kind::Name(_) => "[A-Za-z0-9._-]{1,63}".prop_map(Value::from).boxed(),
        Kind::Host => "[a-z0-9_-][A-Za-z0-9._-]{0,20}"
            .prop_map(Value::from)
            .boxed(),
        Kind::HostOrStar => {
            prop_oneof![1 => Just("*".to_owned()), 9 => "[a-z][A-Za-z0-9._-]{0,250}"]
                .prop_map(Value::from)
                .boxed()
        }
        Kind::Words(words) => select(*words).prop_map(Value::from).boxed(),
        Kind::Object(object) => objects(object, role),
        Kind::List(&List {
            ref of,
            most,
            empty,
            ..
        }) => {
            let least = usize::from(!empty.is_empty());
            prop::collection::vec(values(of, role), least..=most.min(2))
                .prop_map(Value::from)
                .boxed()
        }
        Kind::Map(kind) => prop::collection::btree_map("[a-z]{1,3}", values(kind, role), 0..3)
            .prop_map(Value::from_iter)
            .boxed(),
        Kind::Refused => Just(Value::Null).boxed(),
    }
}

fn objects(object: &'static Object, role: Role) -> BoxedStrategy<Value> {
    let fields = object
        .fields
        .iter()
        .filter(|field| field.is_for(role) && !matches!(field.kind, Kind::Refused));
    let field = |field: &'static Field| {
        let value = match field.name {
            // This field is the role itself.
            "role" => Just(Value::from(role.word())).boxed(),
            _ => values(&field.kind, role),
        };
        let null = u32::from(field.is_nullable());
        let value = prop_oneof![9 => value, null => Just(Value::Null)];
        let there = field.is_required() || field.name == "role";
        let there = prop::bool::weighted(0.3).prop_map(move |some| some || there);
        (there, value)
            .prop_map(|(there, value)| there.then(|| (field.name.to_owned(), value)))
            .boxed()
    };
    let fields: Vec<_> = fields.map(field).collect();
    let complete = move |fields: Vec<Option<(String, Value)>>| {
        let mut fields: Map<_, _> = fields.into_iter().flatten().collect();
        for pair in object.fields.windows(2) {
            if pair[0].is_required_or_next() && !fields.contains_key(pair[1].name) {
                let value = || sample(&pair[0].kind, role);
                fields.entry(pair[0].name).or_insert_with(value);
            }
        }
        fields.into()
    };
    fields.prop_map(complete).boxed()
}

fn configurations() -> BoxedStrategy<Value> {
    let roles = Role::ALL.map(|role| objects(&plugin::OBJECT, role));
    prop::strategy::Union::new(roles).boxed()
}

/// Values that a field may have by mistake, or that are at the edge of its range.
fn mistakes() -> Vec<Value> {
    let mut mistakes = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(1.5),
        json!(99),
        json!(101),
        json!(600),
        json!(2_147_483_647),
        json!(2_147_483_648u64),
        json!(4_294_967_295u64),
        json!(4_294_967_296u64),
        json!(1e300),
        json!([]),
        json!({}),
        json!([1]),
        json!([""]),
        json!({"x": 1}),
        json!({"number": 80}),
        json!(Role::ALL.map(Role::word)),
    ];
    let texts = [
        "", "*", "home", "rejected", "server", "edge", "evacuate", "a.b", ".a", "a:80", "ü", "a b",
        "100", "1s", "0", "0s", "-1s", "1.5ms", "999us", ".s", "1 s", "1s\n", "9999999h",
        "DEFAULT", "UPGRADE", "V2",
    ];
    mistakes.extend(texts.map(Value::from));
    mistakes.push("a".repeat(63).into());
    mistakes.push("a".repeat(64).into());
    mistakes.push("a".repeat(253).into());
    mistakes.push("a".repeat(254).into());
    mistakes
}

/// Changes one part of `value`. `nth` selects the part, and `how` the kind of change.
fn change(value: &mut Value, nth: &[prop::sample::Index], how: u8, mistake: &Value) {
    let Some((first, rest)) = nth.split_first() else {
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = &keys[first.index(keys.len())];
            let deeper = matches!(&map[key], Value::Object(inner) if !inner.is_empty())
                || matches!(&map[key], Value::Array(inner) if !inner.is_empty());
            match how {
                // Most changes are made deeper in the tree.
                0..=5 if deeper && !rest.is_empty() => change(&mut map[key], rest, how, mistake),
                0 | 6 => drop(map.remove(key)),
                1 | 7 => drop(map.insert(format!("{key}x"), mistake.clone())),
                2 => drop(map.insert("portLevelSettings".to_owned(), mistake.clone())),
                _ => map[key] = mistake.clone(),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = first.index(list.len());
            match how {
                0..=5 => change(&mut list[at], rest, how, mistake),
                6 => list.push(list[at].clone()),
                _ => list[at] = mistake.clone(),
            }
        }
        _ => *value = mistake.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Only the rules that concern several fields refuse a value that was made from the declaration.
    #[test]
    fn the_schema_and_the_reader_accept_what_the_declaration_allows(value in configurations()) {
        let (valid, _, others) = both(&value);
        prop_assert!(valid, "{value}: {:?}", VALIDATOR.iter_errors(&value).map(|e| e.to_string()).collect::<Vec<_>>());
        prop_assert!(others.is_empty(), "{value}: {others:?}");
    }

    #[test]
    fn the_schema_and_the_reader_accept_the_same_configurations(
        value in configurations(),
        changes in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 9), 0u8..9, select(mistakes())), 1..3),
    ) {
        let mut value = value;
        for (nth, how, mistake) in &changes {
            change(&mut value, nth, *how, mistake);
        }
        agree(&value)?;
    }
}

/// A value of this kind.
fn sample(kind: &Kind, role: Role) -> Value {
    match *kind {
        Kind::Boolean => json!(true),
        Kind::Text => json!("x"),
        Kind::Whole((min, _)) => json!(min),
        Kind::Number(_) => json!(0.5),
        Kind::Duration(_) => json!("1s"),
        Kind::Name(_) => json!("n"),
        Kind::Host => json!("a.b"),
        Kind::HostOrStar => json!("a.c"),
        Kind::Words(words) => json!(words[0]),
        Kind::Object(object) => {
            let fields = object.fields.iter().filter(|field| field.is_for(role));
            let fields = fields.filter(|field| !matches!(field.kind, Kind::Refused));
            let value = |field: &Field| match field.name {
                "role" => json!(role.word()),
                _ => sample(&field.kind, role),
            };
            fields
                .map(|field| (field.name.to_owned(), value(field)))
                .collect()
        }
        Kind::List(list) => json!([sample(&list.of, role)]),
        Kind::Map(kind) => json!({"x": sample(kind, role)}),
        Kind::Refused => json!(null),
    }
}

/// It tries every mistake of the list at every place of a configuration.
#[test]
fn the_schema_and_the_reader_agree_on_every_mistake_at_every_place() {
    for role in Role::ALL {
        let whole = sample(&Kind::Object(&plugin::OBJECT), role);
        assert!(VALIDATOR.is_valid(&whole), "{whole}");
        let mut places = vec![String::new()];
        let mut next = 0;
        while let Some(at) = places.get(next).cloned() {
            match &whole.pointer(&at) {
                Some(Value::Object(map)) => {
                    places.extend(map.keys().map(|key| format!("{at}/{key}")))
                }
                Some(Value::Array(_)) => places.push(format!("{at}/0")),
                _ => {}
            }
            next += 1;
        }
        assert!(
            role != Role::Client || places.len() > 100,
            "{}",
            places.len()
        );
        for place in places {
            for mistake in mistakes() {
                let mut wrong = whole.clone();
                *wrong.pointer_mut(&place).expect("a place") = mistake.clone();
                agree(&wrong).unwrap_or_else(|error| panic!("{place}: {mistake}: {error}"));
            }
        }
    }
}

#[path = "reference_rules_test.rs"]
mod rules;
