//! `trafficPolicy`, in the vocabulary of a DestinationRule, so that one can be pasted.
//!
//! A word that is in no DestinationRule is refused: it is a typo, and a typo in a limit is an outage. A word that is in
//! one, but that this filter does not act on, is checked for its type and named in a warning.
//! Source of the vocabulary: istio.io/api `networking/v1/destination_rule.proto`.

use core::time::Duration;

use super::duration;
use super::reader::{At, Fault};
use crate::policy::Detection;
use crate::policy::answer::Codes;

/// The largest value of a DestinationRule's int32 fields.
const INT32_MAX: u32 = i32::MAX as u32;

#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Duration,
    Boolean,
    Text,
    Composite,
}

const POLICY: &[&str] = &[
    "connectionPool",
    "outlierDetection",
    "loadBalancer",
    "tls",
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];
const IGNORED_POLICY: &[(&str, Kind)] = &[
    ("loadBalancer", Kind::Composite),
    ("tls", Kind::Composite),
    ("portLevelSettings", Kind::Composite),
    ("tunnel", Kind::Composite),
    ("proxyProtocol", Kind::Composite),
    ("retryBudget", Kind::Composite),
];
const TCP: &[&str] = &[
    "maxConnections",
    "connectTimeout",
    "tcpKeepalive",
    "maxConnectionDuration",
    "idleTimeout",
];
const IGNORED_TCP: &[(&str, Kind)] = &[
    ("connectTimeout", Kind::Duration),
    ("tcpKeepalive", Kind::Composite),
    ("maxConnectionDuration", Kind::Duration),
    ("idleTimeout", Kind::Duration),
];
const HTTP: &[&str] = &[
    "http2MaxRequests",
    "http1MaxPendingRequests",
    "maxRequestsPerConnection",
    "maxRetries",
    "idleTimeout",
    "h2UpgradePolicy",
    "useClientProtocol",
    "maxConcurrentStreams",
];
const IGNORED_HTTP: &[(&str, Kind)] = &[
    ("http1MaxPendingRequests", Kind::Integer),
    ("maxRequestsPerConnection", Kind::Integer),
    ("maxRetries", Kind::Integer),
    ("idleTimeout", Kind::Duration),
    ("h2UpgradePolicy", Kind::Text),
    ("useClientProtocol", Kind::Boolean),
    ("maxConcurrentStreams", Kind::Integer),
];
const OUTLIER: &[&str] = &[
    "consecutive5xxErrors",
    "consecutiveGatewayErrors",
    "consecutiveErrors",
    "interval",
    "baseEjectionTime",
    "maxEjectionPercent",
    "consecutiveLocalOriginFailures",
    "splitExternalLocalOriginErrors",
    "minHealthPercent",
    "outlierDetectionHttpErrorCodes",
];
const IGNORED_OUTLIER: &[(&str, Kind)] = &[
    ("consecutiveLocalOriginFailures", Kind::Integer),
    ("splitExternalLocalOriginErrors", Kind::Boolean),
    ("minHealthPercent", Kind::Integer),
];

/// What a `trafficPolicy` says to this filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// The smaller of `maxConnections` and `http2MaxRequests`, where set.
    pub limit: Option<u32>,
    /// Nothing where errors eject nobody.
    pub detection: Option<Detection>,
}

/// Reads a service's `trafficPolicy`. `warnings` gets a line for each field that is accepted and not acted on as written.
/// # Errors
/// A word of no DestinationRule, a wrong type, an impossible value.
pub fn read(at: At<'_>, warnings: &mut Vec<String>) -> Result<TrafficPolicy, Fault> {
    let mut limit: Option<u32> = None;
    let mut detection = None;
    let mut lower = |value: u32| limit = Some(limit.map_or(value, |l| l.min(value)));
    at.fields(POLICY, |name, at| match name {
        "connectionPool" => {
            at.fields(&["tcp", "http"], |name, at| match name {
                "tcp" => {
                    at.fields(TCP, |name, at| match name {
                        "maxConnections" => one_or_more(at).map(&mut lower).map(|()| true),
                        _ => ignore(IGNORED_TCP, name, at, warnings),
                    })?;
                    Ok(true)
                }
                "http" => {
                    at.fields(HTTP, |name, at| match name {
                        "http2MaxRequests" => one_or_more(at).map(&mut lower).map(|()| true),
                        _ => ignore(IGNORED_HTTP, name, at, warnings),
                    })?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
            Ok(true)
        }
        "outlierDetection" => {
            detection = read_detection(at, warnings)?;
            Ok(true)
        }
        _ => ignore(IGNORED_POLICY, name, at, warnings),
    })?;
    Ok(TrafficPolicy { limit, detection })
}

/// Defaults are Istio's (`networking/v1/destination_rule.proto`), but for `maxEjectionPercent`: its 10 would hardly divert.
fn read_detection(at: At<'_>, warnings: &mut Vec<String>) -> Result<Option<Detection>, Fault> {
    let (mut errors, mut as_the_origin_wrote_it) = (None, None);
    let mut detection = Detection {
        consecutive_5xx: 5,
        consecutive_gateway: 0,
        interval: 10_000,
        base_ejection: 30_000,
        max_percent: 100,
        overflow: false,
        codes: None,
        min_percent: None,
    };
    at.fields(OUTLIER, |name, at| {
        match name {
            "consecutive5xxErrors" => errors = Some(at.integer(0, INT32_MAX)?),
            "consecutiveErrors" => {
                as_the_origin_wrote_it = Some(at.integer(0, INT32_MAX)?);
                warnings.push(
                    at.fault("taken as consecutive5xxErrors, its name since Istio 1.7")
                        .to_string(),
                );
            }
            "consecutiveGatewayErrors" => {
                detection.consecutive_gateway = at.integer(0, INT32_MAX)?;
            }
            "interval" => detection.interval = a_while(at)?,
            "baseEjectionTime" => detection.base_ejection = a_while(at)?,
            "maxEjectionPercent" => detection.max_percent = at.integer(0, 100)?,
            "outlierDetectionHttpErrorCodes" => detection.codes = codes(at)?,
            _ => return ignore(IGNORED_OUTLIER, name, at, warnings),
        }
        Ok(true)
    })?;
    if let Some(n) = errors.or(as_the_origin_wrote_it) {
        detection.consecutive_5xx = n;
    }
    let ejects = detection.consecutive_5xx > 0 || detection.consecutive_gateway > 0;
    Ok(ejects.then_some(detection))
}

/// `None` where the list is empty, as Istio has it.
#[inline(never)]
fn codes(at: At<'_>) -> Result<Option<Codes>, Fault> {
    let mut codes = None;
    at.elements(|at| {
        let all: Codes = codes.unwrap_or_default();
        codes = Some(all.with(at.integer(100, 599)?));
        Ok(())
    })?;
    Ok(codes)
}

fn duration(at: At<'_>) -> Result<Duration, Fault> {
    duration::parse(at.text()?).map_err(|problem| at.fault(problem))
}

/// Milliseconds, at least 1, which is Istio's least too.
fn a_while(at: At<'_>) -> Result<u64, Fault> {
    match u64::try_from(duration(at)?.as_millis()) {
        Ok(millis @ 1..) => Ok(millis),
        _ => Err(at.fault("must be at least 1ms")),
    }
}

fn one_or_more(at: At<'_>) -> Result<u32, Fault> {
    at.integer(1, INT32_MAX).map_err(|mut fault| {
        fault
            .problem
            .push_str(" (to send everything to the peer, use mode: evacuate)");
        fault
    })
}

fn ignore(
    table: &[(&str, Kind)],
    name: &str,
    at: At<'_>,
    warnings: &mut Vec<String>,
) -> Result<bool, Fault> {
    let Some((_, kind)) = table.iter().find(|(known, _)| *known == name) else {
        return Ok(false);
    };
    match kind {
        Kind::Integer => at.integer(0, INT32_MAX).map(|_| ())?,
        Kind::Duration => duration(at).map(|_| ())?,
        Kind::Boolean => at.boolean().map(|_| ())?,
        Kind::Text => at.text().map(|_| ())?,
        Kind::Composite => at.composite()?,
    }
    warnings.push(
        at.fault("accepted, and not acted on by this filter")
            .to_string(),
    );
    Ok(true)
}

#[cfg(test)]
#[path = "traffic_policy_test.rs"]
mod tests;
