//! `trafficPolicy`, with the fields of a DestinationRule, so that the `trafficPolicy` of one can be pasted.
//!
//! The source of the fields, of their ranges and of what may be null is `networking/v1/destination_rule.proto` of
//! istio.io/api and the CRD that is made from it. `istio-test/tests/vocabulary.rs` compares them. If Istio's webhook
//! refuses more than the CRD does (percentages, durations), this declaration refuses it too.

use super::checked::{
    http2_keep_alive, load_balancer, port_policy, proxy_protocol, retry_budget, tcp_keepalive, tls,
    tunnel,
};
use crate::declaration::{Field, Key, Kind, Least, List, Object, Words, object};
use crate::fields::{Any, Millis};

/// An int32 field of a DestinationRule, without negative values.
pub const INT32: Kind = Kind::Whole(&(0, i32::MAX as u32));
/// A UInt32Value field of a DestinationRule.
pub const UINT32: Kind = Kind::Whole(&(0, u32::MAX));
/// A limit: a number of requests, at least 1.
const LIMIT: Field = Field::new(Kind::Whole(&(1, i32::MAX as u32))).hint(&"Istio reads 0 as no limit, which here is to leave it out; to send everything to a peer, use mode: evacuate, and to send nothing to one, mode: drain",
);
/// The range of most durations in Istio: whole milliseconds, at least one.
pub const DURATION: Kind = Kind::Duration(Least::Millisecond);

static PORTS: List = List {
    most: 4096,
    noun: "ports",
    ..List::of(Kind::Object(&port_policy::OBJECT))
};
static CODES: List = List::of(Kind::Whole(&(100, 599)));

object! {
    /// The `trafficPolicy` of a DestinationRule.
    policy = "trafficPolicy" {
        /// The limit.
        connectionPool: Any = Field::new(Kind::Object(&pool::OBJECT));
        /// Which errors eject home, or a peer. Without it, ejection is disabled.
        outlierDetection: Any = Field::new(Kind::Object(&outlier::OBJECT));
        /// How Envoy chooses among the hosts of a cluster.
        loadBalancer: Any = Field::new(Kind::Object(&load_balancer::OBJECT)).checked();
        /// The settings of TLS to the hosts.
        tls: Any = Field::new(Kind::Object(&tls::OBJECT)).checked();
        /// Settings of single ports. A limit or an `outlierDetection` of a single port is refused.
        portLevelSettings: Any = Field::new(Kind::List(&PORTS));
        /// A tunnel to the hosts.
        tunnel: Any = Field::new(Kind::Object(&tunnel::OBJECT)).checked();
        /// The settings of the PROXY protocol to the hosts.
        proxyProtocol: Any = Field::new(Kind::Object(&proxy_protocol::OBJECT)).checked();
        /// How many retries the router may have active at the same time.
        retryBudget: Any = Field::new(Kind::Object(&retry_budget::OBJECT)).checked();
    }
}

object! {
    /// The limit is the smaller of `tcp.maxConnections` and `http.http2MaxRequests`. Without both of them there is no
    /// limit.
    pool = "trafficPolicy.connectionPool" {
        /// Settings of TCP connections.
        tcp: Any = Field::new(Kind::Object(&tcp::OBJECT));
        /// Settings of HTTP.
        http: Any = Field::new(Kind::Object(&http::OBJECT));
    }
}

object! {
    /// Settings of TCP connections.
    tcp = "trafficPolicy.connectionPool.tcp" {
        /// The most requests in flight at home, the same as `http2MaxRequests`, because an HTTP/1.1 request uses a
        /// connection of its own.
        maxConnections: u32 = LIMIT;
        /// The most time that the establishment of a connection may take.
        connectTimeout: Millis = Field::new(DURATION).default(10).checked();
        /// The settings of TCP keep-alive.
        tcpKeepalive: Any = Field::new(Kind::Object(&tcp_keepalive::OBJECT)).checked();
        /// The longest duration of a connection.
        maxConnectionDuration: Millis = Field::new(DURATION).checked();
        /// How long a connection may be idle. 0s means without end.
        idleTimeout: Millis = Field::new(Kind::Duration(Least::Zero)).default(3600).checked();
    }
}

object! {
    /// Settings of HTTP.
    http = "trafficPolicy.connectionPool.http" {
        /// The most requests in flight at home, in HTTP/1.1 and HTTP/2.
        http2MaxRequests: u32 = LIMIT;
        /// The most requests that may wait for a connection.
        http1MaxPendingRequests: u32 = Field::new(INT32).checked();
        /// The most requests on one connection.
        maxRequestsPerConnection: u32 = Field::new(INT32).checked();
        /// The most retries that may be active at the same time.
        maxRetries: u32 = Field::new(INT32).checked();
        /// How long a connection may be idle.
        idleTimeout: Millis = Field::new(DURATION).default(3600).checked();
        /// Whether connections are upgraded to HTTP/2.
        h2UpgradePolicy: Any = Field::new(Kind::Words(&(&["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] as Words))).default(0).checked();
        /// Whether the protocol of the client is used to the hosts too.
        useClientProtocol: bool = Field::new(Kind::Boolean).default(0).checked();
        /// The most concurrent streams on one HTTP/2 connection.
        maxConcurrentStreams: u32 = Field::new(INT32).checked();
        /// The settings of HTTP/2 keep-alive.
        http2KeepAlive: Any = Field::new(Kind::Object(&http2_keep_alive::OBJECT)).checked();
    }
}

object! {
    /// Which errors eject home. The defaults are Istio's, except for `maxEjectionPercent`.
    outlier = "trafficPolicy.outlierDetection" {
        /// This many errors in a row eject home. 0 disables it.
        consecutive5xxErrors: u32 = Field::new(UINT32).default(5).nullable();
        /// This many errors in a row with the status 502, 503 or 504 eject home. 0 disables it. It has no effect if it is
        /// at least `consecutive5xxErrors`.
        consecutiveGatewayErrors: u32 = Field::new(UINT32).default(0).nullable();
        /// It is used as `consecutive5xxErrors` if that is absent. Istio ignores it since 1.7. 0 is the same as absent.
        consecutiveErrors: u32 = Field::new(INT32);
        /// The duration of the ramp, in which home gets its load back. After each such time without an ejection, one
        /// earlier ejection is forgotten.
        interval: Millis = Field::new(DURATION).default(10);
        /// The duration of an ejection, multiplied by the number of ejections in a row, up to five minutes.
        baseEjectionTime: Millis = Field::new(DURATION).default(30);
        /// The most that is diverted because of errors, in percent of home's *requests*. In Istio it is a percentage of the
        /// hosts.
        maxEjectionPercent: u32 = Field::new(Kind::Whole(&(1, 100))).default(100).hint(&"Istio reads 0 as not set, which is Envoy's 10; to divert nothing, use mode: observe");
        /// If it is not empty, these HTTP statuses are errors, and 5xx are not.
        outlierDetectionHttpErrorCodes: Any = Field::new(Kind::List(&CODES));
        /// This many failed connections in a row eject a host. In this filter they count as 5xx.
        consecutiveLocalOriginFailures: u32 = Field::new(UINT32).nullable().checked();
        /// Whether failed connections are counted apart from other errors.
        splitExternalLocalOriginErrors: bool = Field::new(Kind::Boolean).default(0).checked();
        /// Envoy's panic threshold, in percent of the hosts.
        minHealthPercent: u32 = Field::new(Kind::Whole(&(0, 100))).checked();
    }
}
