//! Objects of a DestinationRule that are checked as Istio checks them, so that a slip in one is found, and not acted on.

use super::policy::{DURATION, UINT32};
use crate::declaration::{Field, Key, Kind, Least, List, Object, Words, object};
use crate::fields::{Any, Millis};

const TEXT: Field = Field::new(Kind::Text);
/// Istio's are uint64, without a bound. Envoy refuses far smaller ones.
const UINT64: Field = Field::new(UINT32);
const PERCENT: Field = Field::new(Kind::Number(100)).nullable();
const ONE_LIMIT: Field = Field::new(Kind::Refused).hint(&"is not taken for one port: here a service has one limit and one detection for all its ports; put it in trafficPolicy itself",
);

static TEXTS: List = List::of(Kind::Text);
static ATTRIBUTES: List = List::of(Kind::Object(&cookie_attribute::OBJECT));
static DISTRIBUTE: List = List::of(Kind::Object(&distribute::OBJECT));
static FAILOVER: List = List::of(Kind::Object(&failover::OBJECT));
static WEIGHT: Kind = UINT32;

object! {
    /// TCP keep-alive.
    tcp_keepalive = "trafficPolicy.connectionPool.tcp.tcpKeepalive" {
        /// Probes without an answer that end a connection.
        probes: u32 = Field::new(UINT32);
        /// How long a connection is idle before the first.
        time: Millis = Field::new(DURATION);
        /// The time between two.
        interval: Millis = Field::new(DURATION);
    }
}

object! {
    /// Keep-alive of HTTP/2.
    http2_keep_alive = "trafficPolicy.connectionPool.http.http2KeepAlive" {
        /// The time between two pings.
        interval: Millis = Field::new(DURATION).required(&"a duration such as 30s");
        /// How long an answer may take.
        timeout: Millis = Field::new(DURATION).required(&"a duration such as 5s");
    }
}

object! {
    /// How Envoy chooses among hosts.
    load_balancer = "trafficPolicy.loadBalancer" {
        /// One of the simple ways.
        simple: Any = Field::new(Kind::Words(&(&[
            "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST",
        ] as Words))).default(0);
        /// By a hash.
        consistentHash: Any = Field::new(Kind::Object(&consistent_hash::OBJECT));
        /// By locality.
        localityLbSetting: Any = Field::new(Kind::Object(&locality::OBJECT));
        /// By zone.
        zoneAwareLbSetting: Any = Field::new(Kind::Object(&zone_aware::OBJECT));
        /// How a new host is warmed up.
        warmup: Any = Field::new(Kind::Object(&warmup::OBJECT));
        /// How long, in the words of before.
        warmupDurationSecs: Millis = Field::new(DURATION);
    }
}

object! {
    /// What is hashed, and how.
    consistent_hash = "trafficPolicy.loadBalancer.consistentHash" {
        /// A header.
        httpHeaderName: Any = TEXT;
        /// A cookie.
        httpCookie: Any = Field::new(Kind::Object(&cookie::OBJECT));
        /// The client's address.
        useSourceIp: bool = Field::new(Kind::Boolean);
        /// A parameter of the query.
        httpQueryParameterName: Any = TEXT;
        /// A ring.
        ringHash: Any = Field::new(Kind::Object(&ring_hash::OBJECT));
        /// Maglev.
        maglev: Any = Field::new(Kind::Object(&maglev::OBJECT));
        /// The size of the ring, in the words of before.
        minimumRingSize: u32 = UINT64;
    }
}

object! {
    /// A cookie.
    cookie = "trafficPolicy.loadBalancer.consistentHash.httpCookie" {
        /// Its name.
        name: Any = TEXT.required(&"the cookie's name");
        /// Its path.
        path: Any = TEXT;
        /// How long it lives.
        ttl: Millis = Field::new(Kind::Duration(Least::Any));
        /// Its other attributes.
        attributes: Any = Field::new(Kind::List(&ATTRIBUTES));
    }
}

object! {
    /// An attribute of a cookie.
    cookie_attribute = "trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[]" {
        /// Its name.
        name: Any = TEXT.required(&"the attribute's name");
        /// Its value.
        value: Any = TEXT;
    }
}

object! {
    /// A ring.
    ring_hash = "trafficPolicy.loadBalancer.consistentHash.ringHash" {
        /// Its size.
        minimumRingSize: u32 = UINT64;
    }
}

object! {
    /// Maglev.
    maglev = "trafficPolicy.loadBalancer.consistentHash.maglev" {
        /// The size of its table.
        tableSize: u32 = UINT64;
    }
}

object! {
    /// By locality.
    locality = "trafficPolicy.loadBalancer.localityLbSetting" {
        /// Whether it is on.
        enabled: bool = Field::new(Kind::Boolean).nullable();
        /// Shares by the client's locality.
        distribute: Any = Field::new(Kind::List(&DISTRIBUTE));
        /// Where requests go when a region fails.
        failover: Any = Field::new(Kind::List(&FAILOVER));
        /// Labels by which hosts are preferred.
        failoverPriority: Any = Field::new(Kind::List(&TEXTS));
    }
}

object! {
    /// By zone.
    zone_aware = "trafficPolicy.loadBalancer.zoneAwareLbSetting" {
        /// Whether it is on.
        enabled: bool = Field::new(Kind::Boolean).nullable();
        /// Where requests go when a region fails.
        failover: Any = Field::new(Kind::List(&FAILOVER));
        /// Labels by which hosts are preferred.
        failoverPriority: Any = Field::new(Kind::List(&TEXTS));
        /// The least hosts for which it is on.
        minClusterSize: u32 = Field::new(Kind::Whole(&(1, u32::MAX))).nullable();
    }
}

object! {
    /// Shares of a locality's requests.
    distribute = "trafficPolicy.loadBalancer.localityLbSetting.distribute[]" {
        /// The client's locality.
        from: Any = TEXT;
        /// A percentage for each locality of hosts.
        to: Any = Field::new(Kind::Map(&WEIGHT));
    }
}

object! {
    /// Where requests go when a region fails.
    failover = "trafficPolicy.loadBalancer.localityLbSetting.failover[]" {
        /// The region.
        from: Any = TEXT;
        /// The other region.
        to: Any = TEXT;
    }
}

object! {
    /// How a new host is warmed up.
    warmup = "trafficPolicy.loadBalancer.warmup" {
        /// How long.
        duration: Millis = Field::new(DURATION).required(&"a duration such as 30s");
        /// The least of its share.
        minimumPercent: Any = PERCENT;
        /// The form of the curve.
        aggression: Any = Field::new(Kind::Number(u32::MAX)).nullable();
    }
}

object! {
    /// TLS to the hosts.
    tls = "trafficPolicy.tls" {
        /// Which.
        mode: Any = Field::new(Kind::Words(&(&["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] as Words))).default(0);
        /// The file of the client's certificate.
        clientCertificate: Any = TEXT;
        /// The file of its key.
        privateKey: Any = TEXT;
        /// The file of the CA's certificates.
        caCertificates: Any = TEXT;
        /// The file of the revoked ones.
        caCrl: Any = TEXT;
        /// The secret that holds them.
        credentialName: Any = TEXT;
        /// The names of which one must be in the host's certificate.
        subjectAltNames: Any = Field::new(Kind::List(&TEXTS));
        /// The name that is asked for.
        sni: Any = TEXT;
        /// Whether the host's certificate is not looked at.
        insecureSkipVerify: bool = Field::new(Kind::Boolean).nullable();
    }
}

object! {
    /// A tunnel to the hosts.
    tunnel = "trafficPolicy.tunnel" {
        /// How it is asked for.
        protocol: Any = Field::new(Kind::Words(&(&["CONNECT", "POST"] as Words))).default(0);
        /// The host at its end.
        targetHost: Any = TEXT.required(&"the host at the tunnel's end");
        /// The port at its end.
        targetPort: u32 = Field::new(Kind::Whole(&(1, 65535))).required(&"the port at the tunnel's end");
    }
}

object! {
    /// The PROXY protocol.
    proxy_protocol = "trafficPolicy.proxyProtocol" {
        /// Which version.
        version: Any = Field::new(Kind::Words(&(&["V1", "V2"] as Words))).default(0);
    }
}

object! {
    /// How many retries the router may have under way.
    retry_budget = "trafficPolicy.retryBudget" {
        /// In percent of the requests under way.
        percent: Any = PERCENT;
        /// In what time these are counted.
        budgetInterval: Millis = Field::new(Kind::Duration(Least::Any));
        /// How many are always allowed.
        minRetryConcurrency: u32 = Field::new(UINT32);
    }
}

object! {
    /// Settings of one port. In Istio such a port inherits nothing from what is on top.
    port_policy = "trafficPolicy.portLevelSettings[]" {
        /// Which port.
        port: Any = Field::new(Kind::Object(&port::OBJECT)).required(&"port: {number: …}");
        /// Refused: a service has one limit for all its ports.
        connectionPool: Any = ONE_LIMIT;
        /// Refused: a service has one detection for all its ports.
        outlierDetection: Any = ONE_LIMIT;
        /// How Envoy chooses among hosts.
        loadBalancer: Any = Field::new(Kind::Object(&load_balancer::OBJECT));
        /// TLS to the hosts.
        tls: Any = Field::new(Kind::Object(&tls::OBJECT));
    }
}

object! {
    /// A port.
    port = "trafficPolicy.portLevelSettings[].port" {
        /// Its number.
        number: u32 = Field::new(UINT32);
    }
}
