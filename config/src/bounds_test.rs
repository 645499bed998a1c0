//! The bounds of a configuration, hosts that occur twice, and faults that are one line each.

use super::fault::MOST_TOLD;
use super::tests::{good, read, refused, with};
use super::*;
use serde_json::{Value, json};

/// A request to a shared host would be counted for the service that is found first.
#[test]
fn two_services_do_not_share_a_host() {
    let mut whole = with("/services/-", good()["services"][0].clone());
    whole["services"][1]["host"] = json!("b.istio.svc.cluster.local");
    refused(
        &whole,
        "services[1].peers[0].host: a.istio.gke.global is services[0].peers[0].host too; give each service's peer a host of its own",
    );
    whole["services"][1]["peers"][0]["host"] = json!("A.istio.svc.cluster.local");
    refused(
        &whole,
        "services[1].peers[0].host: a.istio.svc.cluster.local is services[0].host too; give each service's peer a host of its own",
    );
    // The order of the services makes no difference.
    let swapped = json!([whole["services"][1], whole["services"][0]]);
    whole["services"] = swapped;
    refused(
        &whole,
        "services[0].peers[0].host: a.istio.svc.cluster.local is services[1].host too; give each service's peer a host of its own",
    );
    whole["services"][0]["peers"][0]["host"] = json!("b.istio.gke.global");
    assert_eq!(read(&whole).expect("good").services.len(), 2);
}

#[test]
fn a_list_or_a_text_that_is_too_long_is_refused() {
    let domains: Vec<String> = (0..=MOST_TRUST_DOMAINS).map(|n| format!("d{n}")).collect();
    read(&with("/trustDomains", json!(domains[1..]))).expect("as many as there may be");
    refused(
        &with("/trustDomains", json!(domains)),
        "trustDomains[64]: is one too many; at most 64 trust domains",
    );
    let long = " ".repeat(MOST_BYTES + 1) + "{}";
    assert_eq!(
        parse(long.as_bytes())
            .expect_err("must be refused")
            .to_string(),
        "configuration: is longer than 16777216 bytes; name fewer services in one plugin"
    );
}

/// A thousand services with fields that are not acted on cause few lines.
#[test]
fn twenty_warnings_are_reported_and_further_ones_are_counted() {
    let service = |n: usize| {
        let mut service = good()["services"][0].clone();
        service["host"] = json!(format!("s{n}.istio.svc.cluster.local"));
        service["peers"][0]["host"] = json!(format!("s{n}.istio.gke.global"));
        service["trafficPolicy"]["connectionPool"]["http"]["maxRequestsPerConnection"] = json!(1);
        service["trafficPolicy"]["tls"] = json!({"mode": "ISTIO_MUTUAL"});
        service
    };
    let services: Vec<Value> = (0..MOST_SERVICES).map(service).collect();
    let warnings = read(&with("/services", json!(services)))
        .expect("good")
        .warnings;
    assert_eq!(warnings.len(), MOST_TOLD + 1);
    // Each service has two fields that are not acted on, and two limits. The warnings about limits come first.
    let last = "configuration: and 2980 more warnings";
    assert_eq!(warnings[MOST_TOLD], last);
    for warning in &warnings[..MOST_TOLD] {
        assert!(warning.contains("the limit is 1"), "{warning}");
        assert!(warning.len() < 400, "{warning}");
    }
}

#[test]
fn an_input_that_is_not_a_configuration_is_refused_in_a_few_short_lines() {
    let deep = "[".repeat(500_000);
    let deep_fields = "{\"services\":".repeat(100_000);
    let long = format!(
        "{{\"version\":1,\"cluster\":\"{}\"}}",
        "x\n".repeat(500_000).escape_default()
    );
    let wide = format!(
        "{{{}}}",
        (0..50_000)
            .map(|i| format!("\"k{i}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let twice = "{\"version\":1,\"version\":1}".to_owned();
    for text in [
        deep,
        deep_fields,
        long,
        wide,
        twice,
        "\u{0}".repeat(1 << 20),
        String::new(),
        "{".into(),
    ] {
        let faults = parse(text.as_bytes()).expect_err("must be refused");
        assert!(faults.lines().count() <= MOST_TOLD + 1);
        for line in faults.lines() {
            assert!(line.len() < 400 && !line.contains('\n'), "{line}");
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            // Also characters that end a line, change its direction or are invisible, and long texts.
            any::<String>().prop_map(Value::from),
            "[\u{200b}-\u{202e}\u{2066}-\u{2069}\u{feff}\u{85}a]{0,9}".prop_map(Value::from),
            (0usize..9000).prop_map(|n| Value::from("\u{202e}x".repeat(n))),
            Just(json!("*")),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-zA-Z\u{200b}-\u{202e}]{1,8}", inner, 0..4)
                    .prop_map(Value::from_iter),
            ]
        })
    }

    /// Adds the JSON pointer of every value in `value` to `out`.
    fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(k, v)| pointers(v, format!("{at}/{k}"), out)),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .for_each(|(i, v)| pointers(v, format!("{at}/{i}"), out)),
            _ => {}
        }
        out.push(at);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_in_clean_lines(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Err(faults) = parse(&bytes) {
                for line in faults.lines() {
                    prop_assert!(line.len() <= line::MOST && !line.chars().any(line::is_hidden));
                }
            }
        }

        /// Any value at any place of a good configuration is read, or refused in lines.
        #[test]
        fn a_good_configuration_with_any_part_replaced_is_read_or_refused_in_clean_lines(value in any_json(), pick in any::<prop::sample::Index>()) {
            let mut whole = good();
            let mut all = vec![];
            pointers(&whole, String::new(), &mut all);
            let at = &all[pick.index(all.len())];
            *whole.pointer_mut(at).expect("it was there") = value;
            if let Err(faults) = parse(whole.to_string().as_bytes()) {
                for line in faults.lines() {
                    prop_assert!(line.len() < 900 && !line.chars().any(line::is_hidden), "{}", line);
                    prop_assert!(line.contains(": "), "{}", line);
                }
            }
        }
    }
}
