//! Tests of `outlierDetection`, and of `overflow` and `minErrorPercent`, which need it.

use super::*;

use serde_json::{Value, json};

const PATH: &str = "services[0].trafficPolicy.outlierDetection";

/// Reads a service with a limit of 3 and this `outlierDetection`: its detection and the warnings.
fn read(detection: Value) -> Result<(Option<Detection>, Vec<String>), String> {
    whole(json!({
        "trafficPolicy": {
            "connectionPool": {"http": {"http2MaxRequests": 3}},
            "outlierDetection": detection,
        },
    }))
}

/// Reads a service with these fields and those that are required.
fn whole(mut service: Value) -> Result<(Option<Detection>, Vec<String>), String> {
    service["host"] = json!("a.istio.svc.cluster.local");
    service["peers"] = json!([{"name": "gke", "host": "a.istio.gke.global"}]);
    let config = json!({"version": 1, "cluster": "iotcloudserve", "services": [service]});
    let config = crate::parse(config.to_string().as_bytes()).map_err(|fault| fault.to_string())?;
    let [service] = &config.services[..] else {
        panic!("one service");
    };
    Ok((service.detection, config.warnings))
}

const DEFAULT: Detection = Detection {
    consecutive_5xx: 5,
    consecutive_gateway: 0,
    interval: ::policy::time::Millis(10_000),
    base_ejection: ::policy::time::Millis(30_000),
    max_percent: 100,
    overflow: false,
    codes: None,
    min_percent: None,
};

#[test]
fn the_defaults_are_istios_except_for_the_percentage() {
    assert_eq!(read(json!({})), Ok((Some(DEFAULT), vec![])));
}

#[test]
fn without_outlier_detection_ejection_is_disabled() {
    for service in [json!({}), json!({"trafficPolicy": {}})] {
        assert_eq!(whole(service).map(|(detection, _)| detection), Ok(None));
    }
}

#[test]
fn each_field_is_read() {
    let detection = read(json!({
        "consecutive5xxErrors": 7, "consecutiveGatewayErrors": 2, "interval": "1m30s",
        "baseEjectionTime": "250ms", "maxEjectionPercent": 1,
    }));
    let expected = Detection {
        consecutive_5xx: 7,
        consecutive_gateway: 2,
        interval: ::policy::time::Millis(90_000),
        base_ejection: ::policy::time::Millis(250),
        max_percent: 1,
        overflow: false,
        codes: None,
        min_percent: None,
    };
    assert_eq!(detection.map(|(read, _)| read), Ok(Some(expected)));
}

#[test]
fn zero_disables_a_threshold_and_both_thresholds_at_zero_disable_ejection() {
    let gateway_alone = Detection {
        consecutive_5xx: 0,
        consecutive_gateway: 1,
        ..DEFAULT
    };
    let read = |errors: u32, gateway: u32| {
        let read =
            read(json!({"consecutive5xxErrors": errors, "consecutiveGatewayErrors": gateway}));
        read.expect("good").0
    };
    assert_eq!(read(0, 1), Some(gateway_alone));
    assert_eq!(read(5, 0), Some(DEFAULT));
    assert_eq!(read(0, 0), None);
}

#[test]
fn the_old_name_is_used_with_a_warning_unless_the_new_one_is_present() {
    let warning = format!(
        "{PATH}.consecutiveErrors: taken as consecutive5xxErrors: 1; Istio ignores it since 1.7, and took it for gateway errors alone from 1.1 to 1.6"
    );
    let one = Detection {
        consecutive_5xx: 1,
        ..DEFAULT
    };
    let old = read(json!({"consecutiveErrors": 1}));
    assert_eq!(old, Ok((Some(one), vec![warning.clone()])));
    for both in [
        json!({"consecutiveErrors": 9, "consecutive5xxErrors": 1}),
        json!({"consecutive5xxErrors": 1, "consecutiveErrors": 9}),
    ] {
        let ignored = format!(
            "{PATH}.consecutiveErrors: ignored, as by Istio since 1.7; consecutive5xxErrors holds"
        );
        assert_eq!(read(both), Ok((Some(one), vec![ignored])));
    }
    // 0 is the same as absent. Istio ignores the field.
    let zero = read(json!({"consecutiveErrors": 0}));
    assert_eq!(zero, Ok((Some(DEFAULT), vec![])));
}

#[test]
fn a_field_that_is_not_acted_on_is_checked_and_warned_of() {
    let ignored = [
        ("consecutiveLocalOriginFailures", json!(5)),
        ("splitExternalLocalOriginErrors", json!(true)),
        ("minHealthPercent", json!(50)),
    ];
    for (field, value) in ignored {
        let warning = format!("{PATH}.{field}: accepted, and not acted on by this filter");
        let accepted = read(json!({field: value}));
        assert_eq!(accepted, Ok((Some(DEFAULT), vec![warning])));
        let refused = read(json!({field: "50"})).expect_err("must be refused");
        assert!(
            refused.starts_with(&format!("{PATH}.{field}: must be ")),
            "{refused}"
        );
    }
}

#[test]
fn bad_values_are_refused_with_their_path() {
    let number = "must be a whole number from 0 to 4294967295";
    for (field, value, problem) in [
        (
            "consecutive5xxErrors",
            json!(-1),
            &*format!("{number}, not -1"),
        ),
        (
            "consecutive5xxErrors",
            json!("5"),
            &*format!("{number}, not a string"),
        ),
        (
            "consecutiveErrors",
            json!(1.5),
            "must be a whole number from 0 to 2147483647, without a fraction",
        ),
        (
            "consecutiveGatewayErrors",
            json!(4_294_967_296u64),
            &*format!("{number}, not 4294967296"),
        ),
        (
            "maxEjectionPercent",
            json!(101),
            "must be a whole number from 1 to 100, not 101",
        ),
        ("interval", json!("0s"), "must be at least 1ms"),
        ("interval", json!("999us"), "must be at least 1ms"),
        ("baseEjectionTime", json!("0ms"), "must be at least 1ms"),
    ] {
        let refused = read(json!({field: value})).expect_err("must be refused");
        assert_eq!(refused, format!("{PATH}.{field}: {problem}"));
    }
    for (field, value) in [
        ("interval", json!(10)),
        ("baseEjectionTime", json!("soon")),
        ("baseEjectionTime", json!("-1s")),
    ] {
        let refused = read(json!({field: value})).expect_err("must be refused");
        assert!(
            refused.starts_with(&format!("{PATH}.{field}: ")),
            "{refused}"
        );
    }
    let refused = read(json!({"consecutive5xxErorrs": 5})).expect_err("must be refused");
    let unknown = format!(
        "{PATH}.consecutive5xxErorrs: unknown field; did you mean consecutive5xxErrors? If not, "
    );
    assert!(refused.starts_with(&unknown), "{refused}");
    assert!(read(json!([])).is_err() && read(json!(null)).is_err());
}

#[test]
fn overflow_ejects_only_with_a_limit_and_with_detection() {
    let limit = json!({"http": {"http2MaxRequests": 1}});
    let service = |policy: Value| whole(json!({"overflow": "eject", "trafficPolicy": policy}));
    let good = service(json!({"connectionPool": limit, "outlierDetection": {}}));
    let expected = Detection {
        overflow: true,
        ..DEFAULT
    };
    assert_eq!(good, Ok((Some(expected), vec![])));
    let refusal = "services[0].overflow: eject wants a limit to overflow and errors that eject; add trafficPolicy.connectionPool and trafficPolicy.outlierDetection, or use surplus";
    for policy in [
        json!({}),
        json!({"connectionPool": limit}),
        json!({"outlierDetection": {}}),
        json!({"connectionPool": limit, "outlierDetection": {"consecutive5xxErrors": 0}}),
    ] {
        assert_eq!(service(policy), Err(refusal.to_owned()));
    }
}

#[test]
fn listed_codes_replace_5xx() {
    let codes = |list: Value| {
        let read = read(json!({"outlierDetectionHttpErrorCodes": list}));
        read.map(|(detection, warnings)| (detection.and_then(|d| d.codes), warnings))
    };
    let both = Codes::default().with(429).with(503);
    assert_eq!(codes(json!([429, 503, 429])), Ok((Some(both), vec![])));
    // An empty list is the same as absent, as in Istio.
    assert_eq!(codes(json!([])), Ok((None, vec![])));
    for (list, problem) in [
        (json!(429), ": must be a list, not a number"),
        (
            json!([99]),
            "[0]: must be a whole number from 100 to 599, not 99",
        ),
        (
            json!([200, 600]),
            "[1]: must be a whole number from 100 to 599, not 600",
        ),
        (
            json!(["429"]),
            "[0]: must be a whole number from 100 to 599, not a string",
        ),
    ] {
        let expected = format!("{PATH}.outlierDetectionHttpErrorCodes{problem}");
        assert_eq!(codes(list), Err(expected));
    }
}

#[test]
fn min_error_percent_belongs_to_the_service_and_needs_outlier_detection() {
    let service = |percent: Value, policy: Value| {
        let read = whole(json!({"minErrorPercent": percent, "trafficPolicy": policy}));
        read.map(|(detection, _)| detection.and_then(|d| d.min_percent))
    };
    let detecting = json!({"outlierDetection": {}});
    for percent in [0, 50, 100] {
        let read = service(json!(percent), detecting.clone());
        assert_eq!(read, Ok(Some(percent)));
    }
    let refused = service(json!(101), detecting).expect_err("out of range");
    let expected = "services[0].minErrorPercent: must be a whole number from 0 to 100, not 101";
    assert_eq!(refused, expected);
    let off = json!({"outlierDetection": {"consecutive5xxErrors": 0}});
    for policy in [json!({}), off] {
        let refused = service(json!(50), policy).expect_err("nothing ejects");
        assert_eq!(
            refused,
            "services[0].minErrorPercent: wants errors that eject; add trafficPolicy.outlierDetection, or remove it"
        );
    }
}
