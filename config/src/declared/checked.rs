//! Objects of a DestinationRule that the filter does not act on. It checks them as Istio does, so that a mistake in them is
//! found.

use super::policy::{DURATION, UINT32};
use crate::declaration::{Field, Key, Kind, Least, List, Object, Words, object};
use crate::fields::{Any, Millis};

const TEXT: Field = Field::new(Kind::Text);
/// A uint64 field in Istio, which has no bound there. Envoy refuses values that are far smaller than this bound.
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
    /// The settings of TCP keep-alive.
    tcp_keepalive = "trafficPolicy.connectionPool.tcp.tcpKeepalive" {
        /// The number of unanswered probes that end a connection.
        probes: u32 = Field::new(UINT32);
        /// How long a connection must be idle before the first probe.
        time: Millis = Field::new(DURATION);
        /// The time between two probes.
        interval: Millis = Field::new(DURATION);
    }
}

object! {
    /// The settings of HTTP/2 keep-alive.
    http2_keep_alive = "trafficPolicy.connectionPool.http.http2KeepAlive" {
        /// The time between two pings.
        interval: Millis = Field::new(DURATION).required(&"a duration such as 30s");
        /// How long the answer to a ping may take.
        timeout: Millis = Field::new(DURATION).required(&"a duration such as 5s");
    }
}

object! {
    /// How Envoy chooses among the hosts of a cluster.
    load_balancer = "trafficPolicy.loadBalancer" {
        /// A simple load balancing algorithm.
        simple: Any = Field::new(Kind::Words(&(&[
            "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST",
        ] as Words))).default(0);
        /// Load balancing by a consistent hash.
        consistentHash: Any = Field::new(Kind::Object(&consistent_hash::OBJECT));
        /// Load balancing by the locality of the hosts.
        localityLbSetting: Any = Field::new(Kind::Object(&locality::OBJECT));
        /// Load balancing by the zone of the hosts.
        zoneAwareLbSetting: Any = Field::new(Kind::Object(&zone_aware::OBJECT));
        /// How a new host gets its load step by step.
        warmup: Any = Field::new(Kind::Object(&warmup::OBJECT));
        /// The deprecated form of `warmup.duration`.
        warmupDurationSecs: Millis = Field::new(DURATION);
    }
}

object! {
    /// Load balancing by a consistent hash: what is hashed, and the algorithm.
    consistent_hash = "trafficPolicy.loadBalancer.consistentHash" {
        /// The name of the header that is hashed.
        httpHeaderName: Any = TEXT;
        /// The cookie that is hashed.
        httpCookie: Any = Field::new(Kind::Object(&cookie::OBJECT));
        /// Whether the IP address of the client is hashed.
        useSourceIp: bool = Field::new(Kind::Boolean);
        /// The name of the query parameter that is hashed.
        httpQueryParameterName: Any = TEXT;
        /// The settings of the ring hash.
        ringHash: Any = Field::new(Kind::Object(&ring_hash::OBJECT));
        /// The settings of Maglev.
        maglev: Any = Field::new(Kind::Object(&maglev::OBJECT));
        /// The deprecated form of `ringHash.minimumRingSize`.
        minimumRingSize: u32 = UINT64;
    }
}

object! {
    /// The cookie that is hashed.
    cookie = "trafficPolicy.loadBalancer.consistentHash.httpCookie" {
        /// The name of the cookie.
        name: Any = TEXT.required(&"the cookie's name");
        /// The path of the cookie.
        path: Any = TEXT;
        /// The lifetime of the cookie.
        ttl: Millis = Field::new(Kind::Duration(Least::Any));
        /// Other attributes of the cookie.
        attributes: Any = Field::new(Kind::List(&ATTRIBUTES));
    }
}

object! {
    /// An attribute of the cookie.
    cookie_attribute = "trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[]" {
        /// The name of the attribute.
        name: Any = TEXT.required(&"the attribute's name");
        /// The value of the attribute.
        value: Any = TEXT;
    }
}

object! {
    /// The settings of the ring hash.
    ring_hash = "trafficPolicy.loadBalancer.consistentHash.ringHash" {
        /// The smallest number of entries in the ring.
        minimumRingSize: u32 = UINT64;
    }
}

object! {
    /// The settings of Maglev.
    maglev = "trafficPolicy.loadBalancer.consistentHash.maglev" {
        /// The size of Maglev's table.
        tableSize: u32 = UINT64;
    }
}

object! {
    /// Load balancing by the locality of the hosts.
    locality = "trafficPolicy.loadBalancer.localityLbSetting" {
        /// Whether it is enabled.
        enabled: bool = Field::new(Kind::Boolean).nullable();
        /// How the requests of a locality are divided.
        distribute: Any = Field::new(Kind::List(&DISTRIBUTE));
        /// Where requests go when a region fails.
        failover: Any = Field::new(Kind::List(&FAILOVER));
        /// The labels that give hosts their priority.
        failoverPriority: Any = Field::new(Kind::List(&TEXTS));
    }
}

object! {
    /// Load balancing by the zone of the hosts.
    zone_aware = "trafficPolicy.loadBalancer.zoneAwareLbSetting" {
        /// Whether it is enabled.
        enabled: bool = Field::new(Kind::Boolean).nullable();
        /// Where requests go when a region fails.
        failover: Any = Field::new(Kind::List(&FAILOVER));
        /// The labels that give hosts their priority.
        failoverPriority: Any = Field::new(Kind::List(&TEXTS));
        /// The least number of hosts for which it is enabled.
        minClusterSize: u32 = Field::new(Kind::Whole(&(1, u32::MAX))).nullable();
    }
}

object! {
    /// How the requests of one locality are divided.
    distribute = "trafficPolicy.loadBalancer.localityLbSetting.distribute[]" {
        /// The locality of the client.
        from: Any = TEXT;
        /// The percentage of the requests for each locality of hosts.
        to: Any = Field::new(Kind::Map(&WEIGHT));
    }
}

object! {
    /// Where requests go when a region fails.
    failover = "trafficPolicy.loadBalancer.localityLbSetting.failover[]" {
        /// The region that fails.
        from: Any = TEXT;
        /// The region that gets the requests then.
        to: Any = TEXT;
    }
}

object! {
    /// How a new host gets its load step by step.
    warmup = "trafficPolicy.loadBalancer.warmup" {
        /// How long the warm-up takes.
        duration: Millis = Field::new(DURATION).required(&"a duration such as 30s");
        /// The percentage of its load with which a host begins.
        minimumPercent: Any = PERCENT;
        /// How fast the load grows at first: 1 is linear.
        aggression: Any = Field::new(Kind::Number(u32::MAX)).nullable();
    }
}

object! {
    /// The settings of TLS to the hosts.
    tls = "trafficPolicy.tls" {
        /// Which mode of TLS is used.
        mode: Any = Field::new(Kind::Words(&(&["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] as Words))).default(0);
        /// The file of the client's certificate.
        clientCertificate: Any = TEXT;
        /// The file of the client's private key.
        privateKey: Any = TEXT;
        /// The file of the CA's certificates.
        caCertificates: Any = TEXT;
        /// The file of the revoked certificates.
        caCrl: Any = TEXT;
        /// The secret that contains the certificates and the key.
        credentialName: Any = TEXT;
        /// The certificate of the host must contain one of these names.
        subjectAltNames: Any = Field::new(Kind::List(&TEXTS));
        /// The server name (SNI) that is sent.
        sni: Any = TEXT;
        /// Whether the certificate of the host is not verified.
        insecureSkipVerify: bool = Field::new(Kind::Boolean).nullable();
    }
}

object! {
    /// A tunnel to the hosts.
    tunnel = "trafficPolicy.tunnel" {
        /// The HTTP method that requests the tunnel.
        protocol: Any = Field::new(Kind::Words(&(&["CONNECT", "POST"] as Words))).default(0);
        /// The host to which the tunnel leads.
        targetHost: Any = TEXT.required(&"the host at the tunnel's end");
        /// The port to which the tunnel leads.
        targetPort: u32 = Field::new(Kind::Whole(&(1, 65535))).required(&"the port at the tunnel's end");
    }
}

object! {
    /// The settings of the PROXY protocol to the hosts.
    proxy_protocol = "trafficPolicy.proxyProtocol" {
        /// The version of the PROXY protocol.
        version: Any = Field::new(Kind::Words(&(&["V1", "V2"] as Words))).default(0);
    }
}

object! {
    /// How many retries the router may have active at the same time.
    retry_budget = "trafficPolicy.retryBudget" {
        /// The most retries, in percent of the active requests.
        percent: Any = PERCENT;
        /// The time over which requests are counted.
        budgetInterval: Millis = Field::new(Kind::Duration(Least::Any));
        /// The number of retries that are always allowed.
        minRetryConcurrency: u32 = Field::new(UINT32);
    }
}

object! {
    /// The settings of one port. In Istio, such a port inherits nothing from the settings above.
    port_policy = "trafficPolicy.portLevelSettings[]" {
        /// The port that the settings are for.
        port: Any = Field::new(Kind::Object(&port::OBJECT)).required(&"port: {number: …}");
        /// Refused: a service has one limit for all its ports.
        connectionPool: Any = ONE_LIMIT;
        /// Refused: a service has one `outlierDetection` for all its ports.
        outlierDetection: Any = ONE_LIMIT;
        /// How Envoy chooses among the hosts of a cluster.
        loadBalancer: Any = Field::new(Kind::Object(&load_balancer::OBJECT));
        /// The settings of TLS to the hosts.
        tls: Any = Field::new(Kind::Object(&tls::OBJECT));
    }
}

object! {
    /// The port that the settings are for.
    port = "trafficPolicy.portLevelSettings[].port" {
        /// The number of the port.
        number: u32 = Field::new(UINT32);
    }
}
