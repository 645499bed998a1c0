//! What home's answer says of home: well, an error of home's own, or nothing.
//!
//! **Invariant: what another filter answered is never home's error.** Faults that Envoy injects, refusals of an
//! authorization filter, answers of the route itself: they never reached home.
//! Sources: Envoy's router (`source/common/router/router.cc`, what it reports to outlier detection) and the order of its
//! response flags (`envoy/stream_info/stream_info.h`).

/// An error of home's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// It counts for `consecutiveGatewayErrors` too: 502, 503, 504, and what Envoy reports as such.
    pub gateway: bool,
}

/// A connection that could not be made, or that broke: Envoy's outlier detection takes it for a 503.
pub const BROKEN: Failure = Failure { gateway: true };

/// UH, UT, LR, UR, UF, UC, UMSDR, UPE, DF: home did not answer, or not to the end. UH is ours: Envoy has no host to
/// blame where none is healthy, we have home.
const OF_HOME: u64 =
    1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 19 | 1 << 23 | 1 << 26;
/// UO: Envoy's own circuit breaker. An error where an overflow is one.
const OVERFLOW: u64 = 1 << 7;
/// What Envoy calls an answer that came from the upstream (`response_code_details`).
const VIA_UPSTREAM: &str = "via_upstream";

/// The failure that a status stands for, if it stands for one.
pub fn failure(status: u32) -> Option<Failure> {
    (500..=599).contains(&status).then_some(Failure {
        gateway: (502..=504).contains(&status),
    })
}

/// The HTTP status that a gRPC status stands for, as Envoy maps it (`Grpc::Utility::grpcToHttpStatus`); 500 for what is
/// none.
pub fn grpc_to_http(status: &str) -> u32 {
    match status.trim().parse() {
        Ok(0) => 200,
        Ok(1) => 499,
        Ok(3 | 9 | 11) => 400,
        Ok(4) => 504,
        Ok(5) => 404,
        Ok(6 | 10) => 409,
        Ok(7) => 403,
        Ok(8) => 429,
        Ok(12) => 501,
        Ok(14) => 503,
        Ok(16) => 401,
        Ok(2 | 13 | 15 | 17u32..) | Err(_) => 500,
    }
}

/// Whether an answer with a status of 5xx is home's: it came from there, or says by its flags that home gave none.
pub fn is_homes(flags: u64, details: &str, overflow_is_error: bool) -> bool {
    let flagged = OF_HOME | if overflow_is_error { OVERFLOW } else { 0 };
    flags & flagged != 0 || came_from_home(details)
}

/// Whether an answer came from home, whatever it says: what another filter answers well says nothing of home either.
pub fn came_from_home(details: &str) -> bool {
    details == VIA_UPSTREAM
}

/// Whether an answer that had begun well was broken off by home.
pub fn broke_off(flags: u64) -> bool {
    flags & OF_HOME != 0
}

#[cfg(test)]
mod tests {
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
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
            500,
        ];
        assert_eq!(all, expected);
        for garbage in ["", "x", "-1", "4294967296"] {
            assert_eq!(grpc_to_http(garbage), 500, "{garbage}");
        }
    }

    #[test]
    fn local_replies_of_other_filters_are_not_homes() {
        for (flags, details) in [
            (1 << 10, "fault_filter_abort"),
            (1 << 9, ""),
            (1 << 12, "ext_authz_error"),
            (1 << 8, "route_not_found"),
            (0, "direct_response"),
            (1 << 14, "downstream_remote_disconnect"),
        ] {
            assert!(!is_homes(flags, details, true), "{details}");
            assert!(!broke_off(flags), "{details}");
        }
    }

    #[test]
    fn answers_resets_failed_connections_and_timeouts_are_homes() {
        assert!(is_homes(0, "via_upstream", false));
        assert!(
            is_homes(1 << 9, "via_upstream", false),
            "delayed on purpose"
        );
        for flag in [1, 2, 3, 4, 5, 6, 19, 23, 26] {
            assert!(is_homes(1 << flag, "", false), "{flag}");
            assert!(broke_off(1 << flag), "{flag}");
        }
    }

    #[test]
    fn an_overflow_of_envoys_own_is_an_error_only_where_overflow_ejects() {
        assert!(!is_homes(1 << 7, "overflow", false));
        assert!(is_homes(1 << 7, "overflow", true));
    }
}
