//! `trafficPolicy`, in the vocabulary of a DestinationRule, so that one can be pasted.
//!
//! Source of the vocabulary, of its ranges and of what may be null: istio.io/api `networking/v1/destination_rule.proto` and
//! the CRD made of it; `istio-test/tests/vocabulary.rs` compares. Where Istio's webhook refuses more than the CRD does
//! (percentages, durations), so does this.

use super::checked::{
    http2_keep_alive, load_balancer, port_policy, proxy_protocol, retry_budget, tcp_keepalive, tls,
    tunnel,
};
use crate::declaration::{Field, Key, Kind, Least, List, Object, Words, object};
use crate::fields::{Any, Millis};

/// The largest value of a DestinationRule's int32 fields.
pub const INT32: Kind = Kind::Whole(&(0, i32::MAX as u32));
/// The largest value of its UInt32Value fields.
pub const UINT32: Kind = Kind::Whole(&(0, u32::MAX));
/// A limit.
const LIMIT: Field = Field::new(Kind::Whole(&(1, i32::MAX as u32))).hint(&"Istio reads 0 as no limit, which here is to leave it out; to send everything to the peer, use mode: evacuate",
);
/// A duration as most of Istio's are.
pub const DURATION: Kind = Kind::Duration(Least::Millisecond);

static PORTS: List = List {
    most: 4096,
    noun: "ports",
    ..List::of(Kind::Object(&port_policy::OBJECT))
};
static CODES: List = List::of(Kind::Whole(&(100, 599)));

object! {
    /// What a DestinationRule has in `trafficPolicy`.
    policy = "trafficPolicy" {
        /// The limit.
        connectionPool: Any = Field::new(Kind::Object(&pool::OBJECT));
        /// Which errors eject home. Without it none do.
        outlierDetection: Any = Field::new(Kind::Object(&outlier::OBJECT));
        /// How Envoy chooses among the hosts of a cluster.
        loadBalancer: Any = Field::new(Kind::Object(&load_balancer::OBJECT)).checked();
        /// TLS to the hosts.
        tls: Any = Field::new(Kind::Object(&tls::OBJECT)).checked();
        /// Settings of single ports. A limit or a detection of one port is refused.
        portLevelSettings: Any = Field::new(Kind::List(&PORTS));
        /// A tunnel to the hosts.
        tunnel: Any = Field::new(Kind::Object(&tunnel::OBJECT)).checked();
        /// The PROXY protocol to the hosts.
        proxyProtocol: Any = Field::new(Kind::Object(&proxy_protocol::OBJECT)).checked();
        /// How many retries the router may have under way.
        retryBudget: Any = Field::new(Kind::Object(&retry_budget::OBJECT)).checked();
    }
}

object! {
    /// The limit is the smaller of `tcp.maxConnections` and `http.http2MaxRequests`; without either there is none.
    pool = "trafficPolicy.connectionPool" {
        /// Settings of connections.
        tcp: Any = Field::new(Kind::Object(&tcp::OBJECT));
        /// Settings of HTTP.
        http: Any = Field::new(Kind::Object(&http::OBJECT));
    }
}

object! {
    /// Settings of connections.
    tcp = "trafficPolicy.connectionPool.tcp" {
        /// The most requests in flight at home, as `http2MaxRequests`: in HTTP/1.1 a request has a connection.
        maxConnections: u32 = LIMIT;
        /// How long a connection may take to be made.
        connectTimeout: Millis = Field::new(DURATION).default(10).checked();
        /// TCP keep-alive.
        tcpKeepalive: Any = Field::new(Kind::Object(&tcp_keepalive::OBJECT)).checked();
        /// How long a connection may last.
        maxConnectionDuration: Millis = Field::new(DURATION).checked();
        /// How long a connection may be idle; 0s: for ever.
        idleTimeout: Millis = Field::new(Kind::Duration(Least::Zero)).default(3600).checked();
    }
}

object! {
    /// Settings of HTTP.
    http = "trafficPolicy.connectionPool.http" {
        /// The most requests in flight at home, of HTTP/1.1 and HTTP/2.
        http2MaxRequests: u32 = LIMIT;
        /// The most requests that wait for a connection.
        http1MaxPendingRequests: u32 = Field::new(INT32).checked();
        /// The most requests of one connection.
        maxRequestsPerConnection: u32 = Field::new(INT32).checked();
        /// The most retries under way.
        maxRetries: u32 = Field::new(INT32).checked();
        /// How long a connection may be idle.
        idleTimeout: Millis = Field::new(DURATION).default(3600).checked();
        /// Whether connections are upgraded to HTTP/2.
        h2UpgradePolicy: Any = Field::new(Kind::Words(&(&["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] as Words))).default(0).checked();
        /// Whether the client's protocol is kept.
        useClientProtocol: bool = Field::new(Kind::Boolean).default(0).checked();
        /// The most streams of one connection of HTTP/2.
        maxConcurrentStreams: u32 = Field::new(INT32).checked();
        /// Keep-alive of HTTP/2.
        http2KeepAlive: Any = Field::new(Kind::Object(&http2_keep_alive::OBJECT)).checked();
    }
}

object! {
    /// Which errors eject home. Defaults are Istio's, but for `maxEjectionPercent`.
    outlier = "trafficPolicy.outlierDetection" {
        /// Errors in a row that eject; 0: do not count these.
        consecutive5xxErrors: u32 = Field::new(UINT32).default(5).nullable();
        /// Errors in a row of 502, 503 and 504 that eject; 0: do not count these. No effect at or above `consecutive5xxErrors`.
        consecutiveGatewayErrors: u32 = Field::new(UINT32).default(0).nullable();
        /// Taken as `consecutive5xxErrors` where that is absent; Istio ignores it since 1.7. 0: as if it were absent.
        consecutiveErrors: u32 = Field::new(INT32);
        /// How long home takes to get its load back, and how long makes one ejection before be forgotten.
        interval: Millis = Field::new(DURATION).default(10);
        /// How long an ejection lasts, times the ejections in a row, up to five minutes.
        baseEjectionTime: Millis = Field::new(DURATION).default(30);
        /// The most that is diverted for errors, in percent of home's *requests*; in Istio it is of the hosts.
        maxEjectionPercent: u32 = Field::new(Kind::Whole(&(1, 100))).default(100).hint(&"Istio reads 0 as not set, which is Envoy's 10; to divert nothing, use mode: observe");
        /// Where it is not empty, these statuses of HTTP are errors, instead of 5xx.
        outlierDetectionHttpErrorCodes: Any = Field::new(Kind::List(&CODES));
        /// Failures to connect in a row that eject a host; here these are among the 5xx.
        consecutiveLocalOriginFailures: u32 = Field::new(UINT32).nullable().checked();
        /// Whether failures to connect are counted apart.
        splitExternalLocalOriginErrors: bool = Field::new(Kind::Boolean).default(0).checked();
        /// Envoy's panic threshold.
        minHealthPercent: u32 = Field::new(Kind::Whole(&(0, 100))).checked();
    }
}
