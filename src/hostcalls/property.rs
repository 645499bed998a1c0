//! The properties that are read.

/// A property's path, its parts separated by NUL as the ABI wants them.
#[derive(Clone, Copy)]
pub struct Property(pub(super) &'static str);

/// The resolved upstream cluster. Asking selects the route, anew after a header was changed.
pub const CLUSTER: Property = Property("xds\0cluster_name");
/// Name of the route that was selected.
pub const ROUTE: Property = Property("xds\0route_name");
/// Present once the upstream has finished its answer.
pub const BACKEND_LATENCY: Property = Property("response\0backend_latency");
/// Present once an upstream host was chosen.
pub const UPSTREAM_ADDRESS: Property = Property("upstream\0address");
/// Region of the locality of the upstream host.
pub const UPSTREAM_REGION: Property = Property("upstream\0locality\0region");
/// What Istio says of the workload behind the upstream host.
pub const UPSTREAM_WORKLOAD: Property =
    Property("xds\0upstream_host_metadata\0filter_metadata\0istio\0workload");
/// Envoy's response flags, as bits.
pub const RESPONSE_FLAGS: Property = Property("response\0flags");
/// Where the answer came from.
pub const CODE_DETAILS: Property = Property("response\0code_details");
/// First URI SAN of the downstream's certificate.
pub const PEER_SAN: Property = Property("connection\0uri_san_peer_certificate");
/// First URI SAN of our certificate on the downstream connection.
pub const OWN_SAN: Property = Property("connection\0uri_san_local_certificate");
/// Name of the plugin, in Istio `NAMESPACE.NAME` of the WasmPlugin.
pub const PLUGIN_NAME: Property = Property("plugin_name");
/// Which side of the proxy the listener is on, as a number: 0 where it does not say, 1 inbound, 2 outbound. Root contexts
/// do not have it.
pub const LISTENER_DIRECTION: Property = Property("xds\0listener_direction");
/// On a waypoint, whose connection is an internal one: the identities at the tunnel's end, which Istio hands on
/// (`connect_authority`). No client can set them.
pub const TUNNEL_PEER_SAN: Property = Property("filter_state\0io.istio.peer_principal");
pub const TUNNEL_OWN_SAN: Property = Property("filter_state\0io.istio.local_principal");
/// Istio: `sidecar~…`, `router~…`, `waypoint~…`.
pub const NODE_ID: Property = Property("xds\0node\0id");
/// What an instance of this filter decided on this stream (see [`policy::names::LOG_FIELD`]).
pub const DECIDED: Property = Property(policy::names::LOG_FIELD);
