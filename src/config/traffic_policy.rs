//! `trafficPolicy`, in the vocabulary of a DestinationRule, so that one can be pasted.
//!
//! A word that is in no DestinationRule is refused: it is a typo, and a typo in a limit is an outage. A word that is in
//! one, but that this filter does not act on, is checked for its type and named in a warning.
//! Source of the vocabulary: istio.io/api `networking/v1/destination_rule.proto`.

use super::duration;
use super::reader::{At, Fault};

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
const IGNORED_OUTLIER: &[(&str, Kind)] = &[
    ("consecutiveErrors", Kind::Integer),
    ("consecutive5xxErrors", Kind::Integer),
    ("consecutiveGatewayErrors", Kind::Integer),
    ("consecutiveLocalOriginFailures", Kind::Integer),
    ("splitExternalLocalOriginErrors", Kind::Boolean),
    ("interval", Kind::Duration),
    ("baseEjectionTime", Kind::Duration),
    ("maxEjectionPercent", Kind::Integer),
    ("minHealthPercent", Kind::Integer),
];

/// Reads a service's `trafficPolicy`: the limit, the smaller of `maxConnections` and `http2MaxRequests` where set.
/// `ignored` gets the path of each field that is accepted and not acted on.
/// # Errors
/// A word of no DestinationRule, a wrong type, an impossible value.
pub fn limit(at: At<'_>, ignored: &mut Vec<String>) -> Result<Option<u32>, Fault> {
    let mut limit: Option<u32> = None;
    let mut lower = |value: u32| limit = Some(limit.map_or(value, |l| l.min(value)));
    at.fields(POLICY, |name, at| match name {
        "connectionPool" => {
            at.fields(&["tcp", "http"], |name, at| match name {
                "tcp" => {
                    at.fields(TCP, |name, at| match name {
                        "maxConnections" => one_or_more(at).map(&mut lower).map(|()| true),
                        _ => ignore(IGNORED_TCP, name, at, ignored),
                    })?;
                    Ok(true)
                }
                "http" => {
                    at.fields(HTTP, |name, at| match name {
                        "http2MaxRequests" => one_or_more(at).map(&mut lower).map(|()| true),
                        _ => ignore(IGNORED_HTTP, name, at, ignored),
                    })?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
            Ok(true)
        }
        "outlierDetection" => {
            let known: Vec<&str> = IGNORED_OUTLIER.iter().map(|(name, _)| *name).collect();
            at.fields(&known, |name, at| {
                ignore(IGNORED_OUTLIER, name, at, ignored)
            })?;
            Ok(true)
        }
        _ => ignore(IGNORED_POLICY, name, at, ignored),
    })?;
    Ok(limit)
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
    ignored: &mut Vec<String>,
) -> Result<bool, Fault> {
    let Some((_, kind)) = table.iter().find(|(known, _)| *known == name) else {
        return Ok(false);
    };
    match kind {
        Kind::Integer => at.integer(0, INT32_MAX).map(|_| ())?,
        Kind::Duration => duration::parse(at.text()?)
            .map(|_| ())
            .map_err(|problem| at.fault(problem))?,
        Kind::Boolean => at.boolean().map(|_| ())?,
        Kind::Text => at.text().map(|_| ())?,
        Kind::Composite => at.composite()?,
    }
    ignored.push(at.fault("").path);
    Ok(true)
}
