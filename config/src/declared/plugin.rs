//! The plugin, its services and their peers.

use super::policy::policy;
use crate::declaration::{Field, Key, Kind, List, Object, Words, object};
use crate::fields::{Any, Text};
use crate::types::{Mode, Overflow, PeerMode, Role, Routing, ServiceMode, WhenFull};
use ::policy::names;

/// Services that one configuration may name: a hundred is what we test, and the rest is a slip.
pub const MOST_SERVICES: usize = 1000;
/// Trust domains that one configuration may name. Each is compared with the certificate of a request that has a marker.
pub const MOST_TRUST_DOMAINS: usize = 64;

static TRUST_DOMAINS: List = List {
    most: MOST_TRUST_DOMAINS,
    noun: "trust domains",
    ..List::of(Kind::Host)
};
static SERVICES: List = List {
    of: Kind::Object(&service::OBJECT),
    most: MOST_SERVICES,
    noun: "services in one plugin",
    empty: "add a service, or remove the plugin",
};
static PEERS: List = List {
    of: Kind::Object(&peer::OBJECT),
    most: 1,
    noun: "peer",
    empty: "add the peer that takes the surplus",
};

object! {
    /// The whole of `spec.pluginConfig`, or of the JSON that a plain Envoy is given.
    plugin = "" {
        /// The version of this format.
        version: u32 = Field::new(Kind::Whole(&(1, 1))).required(&"version: 1");
        /// This cluster's name in the federation: what the marker of a spilled request says. Where the way to the peer may lead to
        /// home's own endpoints, it must be equal to the name that those have: the region in the ServiceEntry's `locality`, or
        /// Istio's cluster ID on a multi-primary mesh. With another name, `outcomes` never says `returned`.
        cluster: Text = Field::new(Kind::Name(&(&[] as Words))).required(&"this cluster's name in the federation");
        /// Which side of a request the plugin is on: `client` sends, `server` receives, `edge` guards an entrance to the mesh.
        role: Role = Field::words::<Role>().default(Role::Client as u16);
        /// `enforce` carries decisions out, `observe` counts them and changes nothing, `off` makes none.
        mode: Mode = Field::words::<Mode>().default(Mode::Enforce as u16);
        /// Say in each response's `x-peer-spillover` what was decided.
        debugHeader: bool = Field::new(Kind::Boolean).default(0).only(&[Role::Client, Role::Server]);
        /// SPIFFE trust domains whose markers are believed. Where there are none, the proxy's own.
        trustDomains: Any = Field::new(Kind::List(&TRUST_DOMAINS));
        /// The services that the plugin looks after.
        services: Any = Field::new(Kind::List(&SERVICES))
            .required(&"a list with at least one service").only(&[Role::Client, Role::Server]);
    }
}

object! {
    /// A service of this cluster.
    service = "services[]" {
        /// The service's full host name; `"*"`, alone, is one count for whatever the proxy serves.
        host: Text = Field::new(Kind::HostOrStar).required(&"the service's host, or \"*\"");
        /// As the plugin's `mode`, which is the default; `evacuate` sends everything that may spill to the peer.
        mode: ServiceMode = Field::words::<ServiceMode>().only(&[Role::Client]);
        /// As the plugin's `mode`, which is the default.
        receiving as "mode": Mode = Field::words::<Mode>().only(&[Role::Server]);
        /// How a spilled request is led to the peer: by its `:authority`, or by the header `x-peer-spillover-to`. The default
        /// is `authority` on sidecars, and `header` on gateways and waypoints.
        routing: Routing = Field::words::<Routing>().only(&[Role::Client]);
        /// `surplus`: what exceeds the limit leaves, and that is all; `eject`: it is an error of home's besides.
        overflow: Overflow = Field::words::<Overflow>()
            .default(Overflow::Surplus as u16).only(&[Role::Client]);
        /// Errors eject home only where they are at least this percentage of its answers. The default is 0 on sidecars, and 50
        /// on gateways and waypoints.
        minErrorPercent: u32 = Field::new(Kind::Whole(&(0, 100))).only(&[Role::Client]);
        /// What becomes of a request beyond the limit that no peer may take: `home` lets it go home, `reject` answers 503.
        whenFull: WhenFull = Field::words::<WhenFull>()
            .default(WhenFull::Home as u16).only(&[Role::Client]);
        /// The limit and the errors that eject, in the words of a DestinationRule, so that one's `trafficPolicy` can be pasted.
        trafficPolicy: Any = Field::new(Kind::Object(&policy::OBJECT)).only(&[Role::Client]);
        /// Where the surplus goes: exactly one peer.
        peers: Any = Field::new(Kind::List(&PEERS))
            .required(&"a list with one peer").only(&[Role::Client]);
    }
}

object! {
    /// The same service in another cluster.
    peer = "services[].peers[]" {
        /// The peer's name, in metrics and in `x-peer-spillover-to`; not this cluster's own.
        name: Text = Field::new(Kind::Name(&(&[names::HOME, names::REJECTED, names::RETURNED] as Words))).required(&"the peer cluster's name");
        /// The host whose route leads to the peer; no other service's host, and no other peer's.
        host: Text = Field::new(Kind::Host)
            .required(&"the ServiceEntry host whose endpoint is the peer's gateway");
        /// `drain` sends the peer nothing new.
        mode: PeerMode = Field::words::<PeerMode>().default(PeerMode::Enforce as u16);
    }
}
