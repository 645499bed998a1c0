//! What an answer says of the destination that the request was sent to: that it works, that it failed, or nothing.
//!
//! **Invariant: an answer that another filter gave is never an error of the destination.** Examples are faults that Envoy
//! injects, refusals of an authorization filter, and direct responses of the route: the destination never got the request.
//! **Invariant: what the client chose is never an error of the destination.** Examples are a deadline of the client's own, and
//! a body that the client does not send.
//! Sources: Envoy's router (`source/common/router/router.cc`, what it reports to outlier detection) and the order of its
//! response flags (`envoy/stream_info/stream_info.h`).

mod assess;
mod step;

use super::Detection;
use super::time::Millis;
pub use assess::Assess;
pub use step::{Header, In, Step, What};

/// An error of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whether it counts for `consecutiveGatewayErrors` too: 502, 503, 504, and what Envoy reports as one of these.
    pub gateway: bool,
}

/// A connection that could not be made, or that broke. Envoy's outlier detection counts it as a 503.
pub const BROKEN: Failure = Failure { gateway: true };

/// The flags UH, UT, LR, UR, UF, UC, UMSDR, UPE, DF: the destination did not answer, or did not answer to the end. Envoy's
/// detector does not count UH, since then there is no healthy host that it could eject. We count it, since we eject the
/// destination as a whole.
const OF_HOME: u64 =
    1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 19 | 1 << 23 | 1 << 26;
/// The flag UT.
const TIMEOUT: u64 = 1 << 2;
/// The flag UO: Envoy's own circuit breaker refused the request. It is an error if the detection says that an overflow is one.
const OVERFLOW: u64 = 1 << 7;
/// What Envoy calls an answer that came from the upstream (`response_code_details`).
const VIA_UPSTREAM: &str = "via_upstream";

/// The failure that a status stands for. `None` if it does not stand for one.
pub fn failure(status: u32) -> Option<Failure> {
    (500..=599).contains(&status).then_some(Failure {
        gateway: (502..=504).contains(&status),
    })
}

/// The HTTP status that a gRPC status stands for, as Envoy maps it (`Grpc::Utility::grpcToHttpStatus`). A text that is not a
/// status stands for 500.
pub fn grpc_to_http(status: &str) -> u32 {
    match number(status.trim_ascii()) {
        Some(0) => 200,
        Some(1) => 499,
        Some(3 | 9 | 11) => 400,
        Some(4) => 504,
        Some(5) => 404,
        Some(6 | 10) => 409,
        Some(7) => 403,
        Some(8) => 429,
        Some(12) => 501,
        Some(14) => 503,
        Some(16) => 401,
        Some(2 | 13 | 15 | 17..) | None => 500,
    }
}

/// The number that a text represents. `None` if it is not a number.
#[inline(never)]
fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// A set of HTTP statuses from 100 to 599, as `outlierDetectionHttpErrorCodes` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes([u64; 10]);

impl Codes {
    /// The set with this status added.
    pub fn with(mut self, status: u32) -> Codes {
        if let Some(word) = self.0.get_mut((status / 64) as usize) {
            *word |= 1 << (status % 64);
        }
        self
    }

    /// Whether this status is in the set.
    pub fn has(&self, status: u32) -> bool {
        let word = self.0.get((status / 64) as usize);
        word.is_some_and(|word| word & 1 << (status % 64) != 0)
    }
}

/// The failure that an answer of the destination with this status is, if it is one. As in Envoy's `error_matcher`, a status
/// below 500 that is in `codes` stands for a 500.
fn failure_at_home(status: u32, codes: Option<Codes>) -> Option<Failure> {
    match codes {
        None => failure(status),
        Some(codes) => codes.has(status).then_some(Failure {
            gateway: (502..=504).contains(&status),
        }),
    }
}

/// Whether the flags and the details have to be read to know what an answer with this status says.
pub fn suspect(status: u32, detection: &Detection) -> bool {
    failure(status).is_some() || detection.codes.is_some_and(|codes| codes.has(status))
}

/// What an answer says of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The destination works.
    Well,
    /// The destination failed.
    Failed(Failure),
    /// The answer says nothing of the destination.
    Nothing,
}

/// The details by which Envoy says that it ended a stream in which nothing happened, or one that lasted too long. Its own
/// detector counts neither as an error of the host, but a probe that ends so has not been answered.
const GAVE_UP: [&str; 2] = ["stream_idle_timeout", MAX_DURATION];
const MAX_DURATION: &str = "max_duration_timeout";

/// What an answer says whose status is [`suspect`]. If `grpc` is true, the status is the one of HTTP that a gRPC status stands
/// for.
pub fn verdict(
    (status, grpc): (u32, bool),
    flags: u64,
    details: &str,
    detection: &Detection,
    probe: bool,
) -> Finding {
    if came_from_home(details) {
        // As in Envoy, the list does not apply to what a gRPC status stands for.
        let codes = detection.codes.filter(|_| !grpc);
        return failure_at_home(status, codes).map_or(Finding::Well, Finding::Failed);
    }
    let flagged = OF_HOME | if detection.overflow { OVERFLOW } else { 0 };
    // Envoy answers 504 only if the request was complete, and 408 otherwise (for gRPC UNAVAILABLE, and UNKNOWN otherwise). For
    // a gRPC stream that lasted too long it always answers DEADLINE_EXCEEDED.
    let unanswered = probe && GAVE_UP.contains(&details) && !(grpc && details == MAX_DURATION);
    match failure(status) {
        Some(failure) if flags & flagged != 0 || (unanswered && failure.gateway) => {
            Finding::Failed(failure)
        }
        _ => Finding::Nothing,
    }
}

/// Whether Envoy gave this answer to a stream that lasted too long.
pub fn lasted_too_long(details: &str) -> bool {
    details == MAX_DURATION
}

/// Whether a timeout of the route, which the client may have chosen, ended the request.
pub fn timed_out(flags: u64) -> bool {
    flags & TIMEOUT != 0
}

/// The time that a `grpc-timeout` gives. `None` if the text is not valid.
pub fn grpc_timeout(text: &str) -> Option<Millis> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = self::number(number)?;
    let millis = match unit {
        "H" => number.checked_mul(3_600_000),
        "M" => number.checked_mul(60_000),
        "S" => number.checked_mul(1_000),
        "m" => Some(number),
        "u" => Some(number / 1_000),
        "n" => Some(number / 1_000_000),
        _ => None,
    };
    millis.map(Millis)
}

/// Whether a content type is that of gRPC. That of gRPC-Web (`application/grpc-web`) is not, because its trailers are in the
/// body.
pub fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// Whether the destination gave the answer. A good answer of another filter says nothing of the destination.
pub fn came_from_home(details: &str) -> bool {
    details == VIA_UPSTREAM
}

/// Whether the destination broke off an answer that had begun well.
pub fn broke_off(flags: u64) -> bool {
    flags & OF_HOME != 0
}

#[cfg(test)]
#[path = "response_test.rs"]
mod tests;
