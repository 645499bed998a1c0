//! What home's answer says of home: well, an error of home's own, or nothing.
//!
//! **Invariant: what another filter answered is never home's error.** Faults that Envoy injects, refusals of an
//! authorization filter, answers of the route itself: they never reached home.
//! **Invariant: what the client chose is never home's error**: a deadline of its own, or a body that it does not send.
//! Sources: Envoy's router (`source/common/router/router.cc`, what it reports to outlier detection) and the order of its
//! response flags (`envoy/stream_info/stream_info.h`).

mod assess;
mod step;

use super::Detection;
use super::time::Millis;
pub use assess::Assess;
pub use step::{Header, In, Step, What};

/// An error of home's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
/// UT.
const TIMEOUT: u64 = 1 << 2;
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

/// The number that a text is.
#[inline(never)]
fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Statuses of HTTP, from 100 to 599: `outlierDetectionHttpErrorCodes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes([u64; 10]);

impl Codes {
    /// With this one among them.
    pub fn with(mut self, status: u32) -> Codes {
        if let Some(word) = self.0.get_mut((status / 64) as usize) {
            *word |= 1 << (status % 64);
        }
        self
    }

    /// Whether this is one of them.
    pub fn has(&self, status: u32) -> bool {
        let word = self.0.get((status / 64) as usize);
        word.is_some_and(|word| word & 1 << (status % 64) != 0)
    }
}

/// The failure that an answer of home's with this status is, if it is one: as Envoy's `error_matcher` has it, a status below
/// 500 that is among `codes` stands for a 500.
fn failure_at_home(status: u32, codes: Option<Codes>) -> Option<Failure> {
    match codes {
        None => failure(status),
        Some(codes) => codes.has(status).then_some(Failure {
            gateway: (502..=504).contains(&status),
        }),
    }
}

/// Whether it takes flags and details to tell what an answer with this status says.
pub fn suspect(status: u32, detection: &Detection) -> bool {
    failure(status).is_some() || detection.codes.is_some_and(|codes| codes.has(status))
}

/// What an answer says of home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Home answered well.
    Well,
    /// An error of home's.
    Failed(Failure),
    /// Nothing.
    Nothing,
}

/// How Envoy says that it gave up a stream in which nothing happened, and one that lasted too long. Its own detector takes
/// neither for the host's error, but a probe that ends so has not been answered.
const GAVE_UP: [&str; 2] = ["stream_idle_timeout", MAX_DURATION];
const MAX_DURATION: &str = "max_duration_timeout";

/// What an answer says whose status is [`suspect`]. `grpc`: it is a gRPC status, as that of HTTP that it stands for.
pub fn verdict(
    (status, grpc): (u32, bool),
    flags: u64,
    details: &str,
    detection: &Detection,
    probe: bool,
) -> Finding {
    if came_from_home(details) {
        // As with Envoy, the list is not of what a gRPC status stands for.
        let codes = detection.codes.filter(|_| !grpc);
        return failure_at_home(status, codes).map_or(Finding::Well, Finding::Failed);
    }
    let flagged = OF_HOME | if detection.overflow { OVERFLOW } else { 0 };
    // Envoy says 504 only where the request was complete, else 408 (and for gRPC UNAVAILABLE, else UNKNOWN); but of a gRPC
    // stream that lasted too long it always says DEADLINE_EXCEEDED.
    let unanswered = probe && GAVE_UP.contains(&details) && !(grpc && details == MAX_DURATION);
    match failure(status) {
        Some(failure) if flags & flagged != 0 || (unanswered && failure.gateway) => {
            Finding::Failed(failure)
        }
        _ => Finding::Nothing,
    }
}

/// Whether an answer is Envoy's to a stream that lasted too long.
pub fn lasted_too_long(details: &str) -> bool {
    details == MAX_DURATION
}

/// Whether a timeout of the route, which a client may have chosen, ended the request.
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

/// Whether a content type is gRPC's. `application/grpc-web` is not: its trailers are in its body.
pub fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
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
#[path = "response_test.rs"]
mod tests;
