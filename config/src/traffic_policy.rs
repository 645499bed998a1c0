//! What a service's `trafficPolicy` means to this filter, with warnings if it means something else in Istio.

use super::declared::checked::port_policy;
use super::declared::policy::{http, outlier, policy, pool, tcp};
use super::fault::Path;
use super::fields::{Fields, Millis};
use super::node::Node;
use super::reader::Report;
use ::policy::Detection;
use ::policy::response::Codes;

/// The parts of a `trafficPolicy` that the filter acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// The limit of requests in flight at home: the smaller of `maxConnections` and `http2MaxRequests`, or the one that is
    /// set. `None` if there is no limit.
    pub limit: Option<u32>,
    /// Which errors eject home. `None` if ejection is disabled.
    pub detection: Option<Detection>,
}

/// Whose `trafficPolicy` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The home service's.
    Home,
    /// A peer's.
    Peer,
}

impl Whose {
    fn noun(self) -> &'static str {
        match self {
            Whose::Home => "home",
            Whose::Peer => "the peer",
        }
    }
}

/// Reads a `trafficPolicy`, which was checked. `path` is the path of the policy, and `node` is `None` if it is
/// absent.
#[inline(never)]
pub(super) fn read(
    node: Option<&Node<'_>>,
    path: &Path<'_>,
    whose: Whose,
    report: &mut Report<'_>,
) -> TrafficPolicy {
    let fields = Fields::of(node, &policy::OBJECT);
    let policy = TrafficPolicy {
        limit: limit(&fields, path, report),
        detection: detection(&fields, path, whose, report),
    };
    ports(&fields, policy, path, report);
    policy
}

fn limit(policy: &Fields<'_>, path: &Path<'_>, report: &mut Report<'_>) -> Option<u32> {
    let pool = Fields::of(policy.written(policy::connectionPool), &pool::OBJECT);
    let tcp = Fields::of(pool.written(pool::tcp), &tcp::OBJECT).written(tcp::maxConnections);
    let http = Fields::of(pool.written(pool::http), &http::OBJECT).written(http::http2MaxRequests);
    let (Some(connections), Some(requests)) = (tcp, http) else {
        return tcp.or(http);
    };
    if connections != requests {
        let least = connections.min(requests);
        let path = &policy.path(path, policy::connectionPool);
        report.warn(path, format_args!("the limit is {least}, the smaller of maxConnections {connections} and http2MaxRequests {requests}: here both count requests in flight, of any protocol; in Istio one is for HTTP/1.1 and the other for HTTP/2"));
    }
    Some(connections.min(requests))
}

/// The defaults are Istio's, except for `maxEjectionPercent`: Istio's 10 would divert only a tenth of the requests.
fn detection(
    policy: &Fields<'_>,
    path: &Path<'_>,
    whose: Whose,
    report: &mut Report<'_>,
) -> Option<Detection> {
    let node = policy.written(policy::outlierDetection)?;
    let path = &policy.path(path, policy::outlierDetection);
    let fields = Fields::of(Some(node), &outlier::OBJECT);
    let consecutive_5xx = errors(&fields, path, report)?;
    let detection = Detection {
        consecutive_5xx,
        consecutive_gateway: fields.get(outlier::consecutiveGatewayErrors)?,
        interval: ::policy::time::Millis(fields.get::<Millis>(outlier::interval)?),
        base_ejection: ::policy::time::Millis(fields.get::<Millis>(outlier::baseEjectionTime)?),
        max_percent: match whose {
            Whose::Home => fields.get(outlier::maxEjectionPercent)?,
            Whose::Peer => 100,
        },
        overflow: false,
        codes: codes(fields.written(outlier::outlierDetectionHttpErrorCodes)),
        min_percent: None,
    };
    let percent = detection.max_percent;
    if whose == Whose::Peer && fields.is_there(outlier::maxEjectionPercent) {
        let path = &fields.path(path, outlier::maxEjectionPercent);
        report.warn(path, format_args!("has no meaning for a peer: one that is ejected gets no requests but its probe; remove it"));
    } else if percent < 100 {
        let path = &fields.path(path, outlier::maxEjectionPercent);
        report.warn(path, format_args!("here {percent} is a share of the requests (in Istio of the hosts), so the others still go to a home that fails; 100, the default, diverts all"));
    }
    let gateway = detection.consecutive_gateway;
    if consecutive_5xx > 0 && gateway >= consecutive_5xx {
        let path = &fields.path(path, outlier::consecutiveGatewayErrors);
        report.warn(path, format_args!("{gateway} has no effect: these errors are among those of consecutive5xxErrors, {consecutive_5xx}, which come to that number first"));
    }
    if consecutive_5xx == 0 && gateway == 0 {
        let local = fields.written(outlier::consecutiveLocalOriginFailures);
        if local.is_some_and(|failures| failures > 0) {
            let path = &fields.path(path, outlier::consecutive5xxErrors);
            report.warn(path, format_args!("with 0 nothing ejects {}: here failures to connect are among these errors, and consecutiveLocalOriginFailures is not acted on", whose.noun()));
        }
        return None;
    }
    Some(detection)
}

/// `consecutive5xxErrors`, or its old form `consecutiveErrors` if it is absent.
fn errors(fields: &Fields<'_>, path: &Path<'_>, report: &mut Report<'_>) -> Option<u32> {
    let errors = fields.written(outlier::consecutive5xxErrors);
    if let Some(old @ 1..) = fields.written(outlier::consecutiveErrors) {
        let path = &fields.path(path, outlier::consecutiveErrors);
        if errors.is_none() {
            report.warn(path, format_args!("taken as consecutive5xxErrors: {old}; Istio ignores it since 1.7, and took it for gateway errors alone from 1.1 to 1.6"));
            return Some(old);
        }
        report.warn(
            path,
            format_args!("ignored, as by Istio since 1.7; consecutive5xxErrors holds"),
        );
    }
    errors.or_else(|| fields.get(outlier::consecutive5xxErrors))
}

/// The statuses that are errors. `None` if the list is absent or empty, which means the same in Istio.
fn codes(node: Option<&Node<'_>>) -> Option<Codes> {
    let Some(Node::List(nodes)) = node else {
        return None;
    };
    let mut codes: Option<Codes> = None;
    for node in nodes {
        if let Node::Number(code) = node {
            codes = Some(codes.unwrap_or_default().with(*code as u32));
        }
    }
    codes
}

/// Warns about ports with settings of their own: in Istio they inherit nothing from the `trafficPolicy`, and in this filter
/// its limit and detection hold for them too.
fn ports(fields: &Fields<'_>, policy: TrafficPolicy, path: &Path<'_>, report: &mut Report<'_>) {
    let Some(Node::List(nodes)) = fields.written(policy::portLevelSettings) else {
        return;
    };
    let path = &fields.path(path, policy::portLevelSettings);
    for (index, node) in nodes.iter().enumerate() {
        let path = &Path::Index(path, index);
        let entry = Fields::of(Some(node), &port_policy::OBJECT);
        let says = entry.written(port_policy::tls).is_some()
            || entry.written(port_policy::loadBalancer).is_some();
        if policy.limit.is_some() || policy.detection.is_some() {
            report.warn(path, format_args!("not acted on: what trafficPolicy says on top holds for this port too; in Istio a port that is listed here inherits nothing of it"));
        } else if says {
            report.ignored(path);
        }
    }
}

#[cfg(test)]
#[path = "traffic_policy_test.rs"]
mod tests;
