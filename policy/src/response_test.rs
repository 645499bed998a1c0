use super::*;

#[test]
fn statuses_of_5xx_are_failures_and_three_of_them_of_a_gateway() {
    for status in [100, 200, 204, 301, 404, 429, 499, 600] {
        assert_eq!(failure(status), None, "{status}");
    }
    for status in [500, 501, 505, 599] {
        assert_eq!(
            failure(status),
            Some(Failure { gateway: false }),
            "{status}"
        );
    }
    for status in [502, 503, 504] {
        assert_eq!(failure(status), Some(Failure { gateway: true }), "{status}");
    }
}

#[test]
fn grpc_statuses_are_mapped_as_envoy_maps_them() {
    let mapped = |status: u32| grpc_to_http(&status.to_string());
    let all: Vec<u32> = (0..=17).map(mapped).collect();
    let expected = [
        200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500,
    ];
    assert_eq!(all, expected);
    for garbage in ["", "x", "-1", "4294967296"] {
        assert_eq!(grpc_to_http(garbage), 500, "{garbage}");
    }
}

const PLAIN: Detection = Detection {
    consecutive_5xx: 1,
    consecutive_gateway: 0,
    interval: Millis(1),
    base_ejection: Millis(1),
    max_percent: 100,
    overflow: false,
    codes: None,
    min_percent: None,
};

/// What an answer says that is no probe's and not gRPC's.
fn said(status: u32, flags: u64, details: &str, detection: &Detection) -> Finding {
    verdict((status, false), flags, details, detection, false)
}

fn failed(gateway: bool) -> Finding {
    Finding::Failed(Failure { gateway })
}

#[test]
fn local_replies_of_other_filters_are_not_homes() {
    let overflow = Detection {
        overflow: true,
        ..PLAIN
    };
    for (flags, details) in [
        (1 << 10, "fault_filter_abort"),
        (1 << 9, ""),
        (1 << 12, "ext_authz_error"),
        (1 << 8, "route_not_found"),
        (0, "direct_response"),
        (1 << 14, "downstream_remote_disconnect"),
        (1 << 16, "stream_idle_timeout"),
        (0, "max_duration_timeout"),
    ] {
        assert_eq!(said(504, flags, details, &overflow), Finding::Nothing);
        assert!(!broke_off(flags), "{details}");
    }
}

#[test]
fn answers_resets_failed_connections_and_timeouts_are_homes() {
    assert_eq!(said(500, 0, VIA_UPSTREAM, &PLAIN), failed(false));
    let delayed = 1 << 9;
    assert_eq!(said(503, delayed, VIA_UPSTREAM, &PLAIN), failed(true));
    for flag in [1, 2, 3, 4, 5, 6, 19, 23, 26] {
        assert_eq!(said(503, 1 << flag, "", &PLAIN), failed(true), "{flag}");
        assert!(broke_off(1 << flag), "{flag}");
    }
}

#[test]
fn an_overflow_of_envoys_own_is_an_error_only_where_overflow_ejects() {
    let overflow = Detection {
        overflow: true,
        ..PLAIN
    };
    assert_eq!(said(503, 1 << 7, "overflow", &PLAIN), Finding::Nothing);
    assert_eq!(said(503, 1 << 7, "overflow", &overflow), failed(true));
}

#[test]
fn only_the_codes_that_are_listed_are_errors_of_homes_answers() {
    let codes = [429, 502, 599, 100].iter();
    let only = Detection {
        codes: Some(codes.fold(Codes::default(), |all, code| all.with(*code))),
        ..PLAIN
    };
    for (status, verdict) in [
        (429, failed(false)),
        (502, failed(true)),
        (599, failed(false)),
        (100, failed(false)),
        (503, Finding::Well),
        (500, Finding::Well),
    ] {
        assert!(suspect(status, &only), "{status}");
        assert_eq!(said(status, 0, VIA_UPSTREAM, &only), verdict, "{status}");
    }
    for status in [200, 428, 0, 640, u32::MAX] {
        assert!(!suspect(status, &only), "{status}");
    }
    for (status, said) in [(503, failed(true)), (429, Finding::Well)] {
        let grpc = verdict((status, true), 0, VIA_UPSTREAM, &only, false);
        assert_eq!(grpc, said, "a gRPC status that stands for {status}");
    }
    // What did not come from home is what it was: a connection that fails is an error, and a filter's answer none.
    assert_eq!(said(503, 1 << 5, "", &only), failed(true));
    let limited = said(429, 1 << 11, "request_rate_limited", &only);
    assert_eq!(limited, Finding::Nothing);
}

#[test]
fn a_probe_that_hangs_has_failed_and_one_whose_request_is_incomplete_has_not() {
    let probe =
        |status: u32, grpc: bool, details: &str| verdict((status, grpc), 0, details, &PLAIN, true);
    for details in GAVE_UP {
        assert_eq!(probe(504, false, details), failed(true), "{details}");
        assert_eq!(probe(408, false, details), Finding::Nothing, "{details}");
    }
    let grpc = |status: &str, details: &str| probe(grpc_to_http(status), true, details);
    assert_eq!(grpc("14", "stream_idle_timeout"), failed(true));
    assert_eq!(grpc("2", "stream_idle_timeout"), Finding::Nothing);
    assert_eq!(grpc("4", MAX_DURATION), Finding::Nothing);
}

#[test]
fn grpc_web_is_not_grpc() {
    for grpc in ["", "+proto", ";x=y"] {
        assert!(is_grpc(&format!("application/grpc{grpc}")), "{grpc}");
    }
    for other in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpcx",
        "application/connect+proto",
        "text/event-stream",
        "application/grp",
        "",
    ] {
        assert!(!is_grpc(other), "{other}");
    }
}

#[test]
fn deadlines_of_grpc_are_read_in_every_unit() {
    for (text, millis) in [
        ("1H", Some(3_600_000)),
        ("2M", Some(120_000)),
        ("3S", Some(3_000)),
        ("20m", Some(20)),
        ("1999u", Some(1)),
        ("99999999n", Some(99)),
        ("0m", Some(0)),
        ("", None),
        ("m", None),
        ("1", None),
        ("-1m", None),
        ("1€", None),
        ("18446744073709551615H", None),
    ] {
        assert_eq!(grpc_timeout(text), millis.map(Millis), "{text}");
    }
}
