//! The properties that the filter reads.

/// The path of a property. Its parts are separated by NUL, as the ABI requires.
#[derive(Clone, Copy)]
pub struct Property(pub(super) &'static str);

/// The resolved upstream cluster. Reading it selects the route, again after a header was changed.
pub const CLUSTER: Property = Property("xds\0cluster_name");
/// The name of the selected route.
pub const ROUTE: Property = Property("xds\0route_name");
/// Present once the upstream has finished its answer.
pub const BACKEND_LATENCY: Property = Property("response\0backend_latency");
/// Present once an upstream host was chosen.
pub const UPSTREAM_ADDRESS: Property = Property("upstream\0address");
/// The region in the locality of the upstream host.
pub const UPSTREAM_REGION: Property = Property("upstream\0locality\0region");
/// What Istio knows about the workload of the upstream host.
pub const UPSTREAM_WORKLOAD: Property =
    Property("xds\0upstream_host_metadata\0filter_metadata\0istio\0workload");
/// Envoy's response flags, as bits.
pub const RESPONSE_FLAGS: Property = Property("response\0flags");
/// Envoy's response code details, which tell where the answer comes from.
pub const CODE_DETAILS: Property = Property("response\0code_details");
/// The first URI SAN of the downstream's certificate.
pub const PEER_SAN: Property = Property("connection\0uri_san_peer_certificate");
/// The first URI SAN of this proxy's certificate on the downstream connection.
pub const OWN_SAN: Property = Property("connection\0uri_san_local_certificate");
/// The name of the plugin. In Istio it is `NAMESPACE.NAME` of the WasmPlugin.
pub const PLUGIN_NAME: Property = Property("plugin_name");
/// The direction of the listener as a number: 0 if it has none, 1 for inbound, 2 for outbound. Root contexts do not have it.
pub const LISTENER_DIRECTION: Property = Property("xds\0listener_direction");
/// The identities at the end of the tunnel, on a waypoint, where the connection is an internal one. Istio hands them on
/// (`connect_authority`). A client cannot set them.
pub const TUNNEL_PEER_SAN: Property = Property("filter_state\0io.istio.peer_principal");
pub const TUNNEL_OWN_SAN: Property = Property("filter_state\0io.istio.local_principal");
/// The id of the node in Istio: `sidecar~…`, `router~…`, `waypoint~…`.
pub const NODE_ID: Property = Property("xds\0node\0id");
/// The decision of an instance of this filter on this stream (see [`policy::names::LOG_FIELD`]).
pub const DECIDED: Property = Property(policy::names::LOG_FIELD);
