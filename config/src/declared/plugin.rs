//! The plugin, its services and their peers.

use super::policy::policy;
use super::spill::spill;
use crate::declaration::{Field, Key, Kind, List, Object, Words, object};
use crate::fields::{Any, Text};
use crate::types::{Mode, Overflow, PeerMode, Role, Routing, ServiceMode, WhenFull};
use ::policy::names;
use ::policy::select::MOST_PEERS;

/// The largest number of services in one configuration. Tests use a hundred; a list that is longer than a thousand is most
/// likely a mistake.
pub const MOST_SERVICES: usize = 1000;
/// The largest number of trust domains in one configuration. Each of them is compared with the certificate of a request
/// that has a marker.
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
    most: MOST_PEERS,
    noun: "peers",
    empty: "add a peer that takes the surplus",
};

object! {
    /// The whole of `spec.pluginConfig`, or of the JSON in the configuration of an Envoy without Istio.
    plugin = "" {
        /// The version of this format.
        version: u32 = Field::new(Kind::Whole(&(1, 1))).required(&"version: 1");
        /// This cluster's name in the federation. The marker of a spilled request contains it. If the way to the peer can
        /// lead to home's own endpoints, it must equal the name of their cluster: the region in the ServiceEntry's
        /// `locality`, or Istio's cluster ID on a multi-primary mesh. With another name, `outcomes` never says `returned`.
        cluster: Text = Field::new(Kind::Name(&(&[] as Words))).required(&"this cluster's name in the federation");
        /// The place of the plugin: `client` where requests leave, `server` where they arrive, `edge` at an entrance to the
        /// mesh, where it only removes the filter's headers from requests that do not come from the mesh.
        role: Role = Field::words::<Role>().default(Role::Client as u16);
        /// `enforce` carries out the decisions. `observe` only counts them and changes no request. `off` makes no
        /// decisions.
        mode: Mode = Field::words::<Mode>().default(Mode::Enforce as u16);
        /// Whether each response has the header `x-peer-spillover`, which says what was decided.
        debugHeader: bool = Field::new(Kind::Boolean).default(0).only(&[Role::Client, Role::Server]);
        /// The SPIFFE trust domains from which a marker is accepted. The default is the trust domain of the proxy itself.
        trustDomains: Any = Field::new(Kind::List(&TRUST_DOMAINS));
        /// The services to which the plugin applies.
        services: Any = Field::new(Kind::List(&SERVICES))
            .required(&"a list with at least one service").only(&[Role::Client, Role::Server]);
    }
}

object! {
    /// A service of this cluster.
    service = "services[]" {
        /// The service's full host name. `"*"`, as the only service, gives one count for everything that the proxy serves.
        host: Text = Field::new(Kind::HostOrStar).required(&"the service's host, or \"*\"");
        /// The default is the `mode` of the plugin. `evacuate` sends every request that may be spilled to the peer.
        mode: ServiceMode = Field::words::<ServiceMode>().only(&[Role::Client]);
        /// The default is the `mode` of the plugin.
        receiving as "mode": Mode = Field::words::<Mode>().only(&[Role::Server]);
        /// What the route to the peer matches in a spilled request: `:authority`, which becomes the peer's host, or the
        /// header `x-peer-spillover-to`, which contains the peer's name. The default is `authority` on sidecars, and
        /// `header` on gateways and waypoints. To a peer that is a subset of the service's own host it is always `header`.
        routing: Routing = Field::words::<Routing>().only(&[Role::Client]);
        /// `surplus`: only requests that exceed the limit are spilled. `eject`: in addition, each of them counts as an
        /// error of home.
        overflow: Overflow = Field::words::<Overflow>()
            .default(Overflow::Surplus as u16).only(&[Role::Client]);
        /// Errors eject home only if they are at least this percentage of its answers. The default is 0 on sidecars, and 50
        /// on gateways and waypoints.
        minErrorPercent: u32 = Field::new(Kind::Whole(&(0, 100))).only(&[Role::Client]);
        /// What happens to a request beyond the limit that no peer may take: `home` sends it home, `reject` answers it with
        /// 503.
        whenFull: WhenFull = Field::words::<WhenFull>()
            .default(WhenFull::Home as u16).only(&[Role::Client]);
        /// Which requests may be spilled, and which of them go to the same peer. The default is all requests, and no sessions.
        spill: Any = Field::new(Kind::Object(&spill::OBJECT)).only(&[Role::Client]);
        /// The limit, and the errors that eject home. It has the fields of a DestinationRule, whose `trafficPolicy` can be
        /// pasted here.
        trafficPolicy: Any = Field::new(Kind::Object(&policy::OBJECT)).only(&[Role::Client]);
        /// The peers that receive the spilled requests.
        peers: Any = Field::new(Kind::List(&PEERS))
            .required(&"a list with at least one peer").only(&[Role::Client]);
    }
}

object! {
    /// The same service in another cluster.
    peer = "services[].peers[]" {
        /// The peer's name, in metrics and in `x-peer-spillover-to`. It must differ from `cluster`.
        name: Text = Field::new(Kind::Name(&(&[names::HOME, names::REJECTED, names::RETURNED] as Words))).required(&"the peer cluster's name");
        /// The host whose route leads to the peer: that of a ServiceEntry whose endpoint is the peer's gateway. It must not be
        /// the host of another service or of its peers. The default is the service's own host if there is a `subset`.
        host: Text = Field::new(Kind::Host)
            .or_next(&"the ServiceEntry host whose endpoint is the peer's gateway, or the subset that is the peer");
        /// The subset of `host` that is the peer, by its name in the DestinationRule. With it no ServiceEntry is needed in a
        /// multi-primary mesh, in which the service has endpoints of both clusters.
        subset: Text = Field::new(Kind::Name(&(&[] as Words)));
        /// `enforce` allows requests to be spilled to the peer. `drain` sends no new requests to it.
        mode: PeerMode = Field::words::<PeerMode>().default(PeerMode::Enforce as u16);
        /// Peers with a lower value are asked first. Those with a higher value get a request only if none of a lower one takes
        /// it.
        priority: u32 = Field::new(Kind::Whole(&(0, 128))).default(0);
        /// The weight among the peers of one priority.
        weight: u32 = Field::new(Kind::Whole(&(1, 1000))).default(1)
            .hint(&"to send no new requests to a peer, use mode: drain");
        /// The most requests that this proxy has in flight at the peer, and the errors that eject the peer. It has the fields of
        /// a DestinationRule.
        trafficPolicy: Any = Field::new(Kind::Object(&policy::OBJECT));
    }
}
