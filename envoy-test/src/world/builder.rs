//! What a [`World`](super::World) can be asked to be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{HOST, PLUGIN};

/// The plugin's configuration: JSON, or a text that may be anything.
pub struct PluginConfig(String);

impl PluginConfig {
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl From<Value> for PluginConfig {
    fn from(json: Value) -> Self {
        PluginConfig(json.to_string())
    }
}

impl From<&str> for PluginConfig {
    fn from(text: &str) -> Self {
        PluginConfig(text.to_owned())
    }
}

impl From<String> for PluginConfig {
    fn from(text: String) -> Self {
        PluginConfig(text)
    }
}

/// HTTP version towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The client's own.
    AsClient,
    /// The client's own; and to Envoy's own outlier detection answers of 429 and 502 are errors, and no others.
    AsClientWithCodes,
    /// HTTP/1.1, one request per connection: `maxRequestsPerConnection: 1`.
    OnePerConnection,
}

/// Where the peer's host, and the header `x-peer-spillover-to`, lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRoute {
    /// To the peer's gateway.
    Gateway,
    /// There is no ServiceEntry: neither route nor cluster. The peer's host is caught by [`CatchAll`], the header is not
    /// looked at.
    Missing,
    /// There is a cluster, and no route to it: otherwise as [`PeerRoute::Missing`].
    Unrouted,
    /// To `BlackHoleCluster`.
    BlackHole,
    /// To no cluster: Envoy answers 418 itself.
    DirectResponse,
    /// Where [`Builder::peer_routes`] say: what none of them matches has no route, nor has the header.
    OnlySome,
}

/// Where a host that no virtual host has leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchAll {
    /// To `PassthroughCluster`, Istio's `ALLOW_ANY`. Here nothing is behind it: 503.
    Passthrough,
    /// To `BlackHoleCluster`, Istio's `REGISTRY_ONLY`: 503.
    BlackHole,
    /// To no cluster: Envoy answers 502 by the route `block_all`, as Istio's `REGISTRY_ONLY` does today.
    BlockAll,
    /// Nowhere: 404.
    Absent,
}

/// What a [`World`](super::World) can be asked to be. See each method for what holds without it.
pub struct Builder {
    pub(super) hosts: Vec<String>,
    pub(super) node_id: String,
    pub(super) route: String,
    pub(super) more_routes: String,
    pub(super) home_cluster: String,
    pub(super) peer_route: PeerRoute,
    pub(super) peer_route_yaml: String,
    pub(super) peer_routes: String,
    pub(super) peer_cluster: String,
    pub(super) peer_cluster_name: Option<String>,
    pub(super) by_subset: bool,
    pub(super) home_subset: String,
    pub(super) more_peers: Vec<String>,
    pub(super) way_back: bool,
    pub(super) second_port: bool,
    pub(super) catch_all: CatchAll,
    pub(super) upstream: Upstream,
    pub(super) peer_upstream: Upstream,
    pub(super) plain_cluster_names: bool,
    pub(super) inbound_cluster_names: bool,
    pub(super) stats_matcher: String,
    pub(super) origin_of_2020: bool,
    pub(super) plugins: Vec<(String, String)>,
    pub(super) peer_plugin: Option<String>,
    pub(super) module: Option<PathBuf>,
    pub(super) failure_policy: String,
    pub(super) filters_before: String,
    pub(super) filters_after: String,
    pub(super) workers: u32,
    pub(super) log_level: String,
    pub(super) delays: [Duration; 2],
    pub(super) trust_domains: [String; 2],
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            hosts: vec![HOST.to_owned()],
            node_id: "sidecar~127.0.0.1~client.istio~istio.svc.cluster.local".to_owned(),
            route: "timeout: 0s".to_owned(),
            more_routes: String::new(),
            home_cluster: String::new(),
            peer_route: PeerRoute::Gateway,
            peer_route_yaml: "timeout: 0s".to_owned(),
            peer_routes: String::new(),
            peer_cluster: String::new(),
            peer_cluster_name: None,
            by_subset: false,
            home_subset: String::new(),
            more_peers: Vec::new(),
            way_back: false,
            second_port: false,
            catch_all: CatchAll::Passthrough,
            upstream: Upstream::Http1,
            peer_upstream: Upstream::Http1,
            plain_cluster_names: false,
            inbound_cluster_names: false,
            stats_matcher: String::new(),
            origin_of_2020: false,
            plugins: vec![(PLUGIN.to_owned(), super::plugin_config(1).to_string())],
            peer_plugin: None,
            module: None,
            failure_policy: "FAIL_OPEN".to_owned(),
            filters_before: String::new(),
            filters_after: String::new(),
            workers: 1,
            log_level: "info".to_owned(),
            delays: [Duration::ZERO; 2],
            trust_domains: ["cluster.local".to_owned(), "cluster.local".to_owned()],
        }
    }
}

impl Builder {
    /// The plugin's configuration. Without: [`super::plugin_config`] with limit 1.
    pub fn filter(mut self, config: impl Into<PluginConfig>) -> Self {
        self.plugins = vec![(PLUGIN.to_owned(), config.into().0)];
        self
    }

    /// No filter in home's proxy.
    pub fn without_filter(mut self) -> Self {
        self.plugins.clear();
        self
    }

    /// One more plugin after the others in the same proxy: its name (`NAMESPACE.NAME`) and configuration.
    pub fn another_filter(mut self, plugin: &str, config: impl Into<PluginConfig>) -> Self {
        self.plugins.push((plugin.to_owned(), config.into().0));
        self
    }

    /// The peer spills at home, as home does at the peer: both Envoys have a listener `outbound` and a listener `gateway`,
    /// with the plugin in both. For the peer, home is the cluster [`HOME`] at `a.istio.iotcloudserve.global`.
    pub fn peer_filter(mut self, config: impl Into<PluginConfig>) -> Self {
        self.peer_plugin = Some(config.into().0);
        self
    }

    /// Another module than the one that is shipped.
    pub fn module(mut self, wasm: &Path) -> Self {
        self.module = Some(wasm.to_owned());
        self
    }

    /// What Envoy does where the module's VM is dead. Without: `FAIL_OPEN`.
    pub fn failure_policy(mut self, policy: &str) -> Self {
        self.failure_policy = policy.to_owned();
        self
    }

    /// Entries of `http_filters` (YAML list items) before the plugin, in home's proxy.
    pub fn filters_before(mut self, yaml: &str) -> Self {
        self.filters_before = yaml.to_owned();
        self
    }

    /// Entries of `http_filters` (YAML list items) between the plugin and the router, in home's proxy.
    pub fn filters_after(mut self, yaml: &str) -> Self {
        self.filters_after = yaml.to_owned();
        self
    }

    /// Worker threads of home's proxy. Without: 1.
    pub fn workers(mut self, n: u32) -> Self {
        self.workers = n;
        self
    }

    /// Services (`NAME.NAMESPACE.svc.cluster.local`), all behind the same echoes. Without: [`HOST`] alone.
    pub fn hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.hosts = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// Time between the end of a request and its answer, at home and at the peer. Without: none.
    pub fn delays(mut self, home: Duration, peer: Duration) -> Self {
        self.delays = [home, peer];
        self
    }

    /// Fields of the `route:` to the home service, a YAML block. Without: `timeout: 0s`.
    pub fn route(mut self, yaml: &str) -> Self {
        self.route = yaml.to_owned();
        self
    }

    /// Routes (YAML list items) of the home service's virtual hosts, before that to its cluster, whose name is `HOME_CLUSTER`
    /// in them. Without: none.
    pub fn more_routes(mut self, yaml: &str) -> Self {
        self.more_routes = yaml.to_owned();
        self
    }

    /// Fields of the home service's clusters in home's proxy, a YAML block. `circuit_breakers` among them take the place of
    /// those without a limit. Without: none.
    pub fn home_cluster(mut self, yaml: &str) -> Self {
        self.home_cluster = yaml.to_owned();
        self
    }

    /// Where the peer's host leads. Without: to its gateway.
    pub fn peer_route(mut self, peer_route: PeerRoute) -> Self {
        self.peer_route = peer_route;
        self
    }

    /// Fields of the `route:` to the peer, a YAML block. Without: `timeout: 0s`.
    pub fn peer_route_yaml(mut self, yaml: &str) -> Self {
        self.peer_route_yaml = yaml.to_owned();
        self
    }

    /// Routes (YAML list items) of the peer's hosts in home's proxy, before that of [`Builder::peer_route`]; the peer's cluster
    /// is `PEER_CLUSTER` in them, home's `HOME_CLUSTER`, the service `SERVICE`. Without: none.
    pub fn peer_routes(mut self, yaml: &str) -> Self {
        self.peer_routes = yaml.to_owned();
        self
    }

    /// Fields of the peer's clusters in home's proxy, a YAML block. Without: none.
    pub fn peer_cluster(mut self, yaml: &str) -> Self {
        self.peer_cluster = yaml.to_owned();
        self
    }

    /// The name of the peer's cluster, where a world has one service. Without: the one that Istio gives it.
    pub fn peer_cluster_name(mut self, name: &str) -> Self {
        self.peer_cluster_name = Some(name.to_owned());
        self
    }

    /// Each peer is the subset of the service that has its name, as in a multi-primary mesh: nothing but the header
    /// `x-peer-spillover-to` leads there. Without: each has a host of its own.
    pub fn by_subset(mut self) -> Self {
        self.by_subset = true;
        self
    }

    /// The subset of the service that is home. Without: its cluster is that of no subset.
    pub fn home_subset(mut self, name: &str) -> Self {
        self.home_subset = name.to_owned();
        self
    }

    /// Peers beside [`super::PEER`], each with a service of its own ([`World::peers`](super::World::peers)). Without: none.
    pub fn more_peers<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.more_peers = names.into_iter().map(Into::into).collect();
        self
    }

    /// The peer's clusters have another endpoint: home, at the next priority and in the region [`super::HOME`], as a
    /// ServiceEntry with a way back has it. A request comes to it where the route to the peer retries, or the peer is ejected.
    pub fn way_back(mut self) -> Self {
        self.way_back = true;
        self
    }

    /// The home services have another port, 8080, which the peer lacks: paths that begin with `/8080` lead to its cluster.
    pub fn second_port(mut self) -> Self {
        self.second_port = true;
        self
    }

    /// Where unknown hosts lead. Without: [`CatchAll::Passthrough`].
    pub fn catch_all(mut self, catch_all: CatchAll) -> Self {
        self.catch_all = catch_all;
        self
    }

    /// HTTP version towards the home service, and towards and behind the peer's gateway. Without: HTTP/1.1.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = upstream;
        self.peer_upstream = upstream;
        self
    }

    /// Clusters are named in no way of Istio's: the service can only be known by its authority.
    pub fn plain_cluster_names(mut self) -> Self {
        self.plain_cluster_names = true;
        self
    }

    /// Home's clusters are named as Istio names those of a sidecar's inbound listener: `inbound|8080||`, and for each further
    /// host the next port.
    pub fn inbound_cluster_names(mut self) -> Self {
        self.inbound_cluster_names = true;
        self
    }

    /// Home's `stats_config.stats_matcher`, as YAML on one line. Without: all statistics are kept.
    pub fn stats_matcher(mut self, yaml: &str) -> Self {
        self.stats_matcher = format!("stats_matcher: {yaml}");
        self
    }

    /// Home's node id. Without: a sidecar's.
    pub fn node_id(mut self, id: &str) -> Self {
        self.node_id = id.to_owned();
        self
    }

    /// Trust domains of the identities at home and at the peer. Without: `cluster.local` for both.
    pub fn trust_domains(mut self, home: &str, peer: &str) -> Self {
        self.trust_domains = [home.to_owned(), peer.to_owned()];
        self
    }

    /// As in [`crate::EnvoyOptions::log_level`], for home's proxy. Without: info.
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = level.to_owned();
        self
    }

    /// The set-up of 2020 instead of the filter: the peer's gateway is a second endpoint (priority 1) of the home service,
    /// connection pool limits are 1, outlier detection ejects for a minute after one error.
    pub fn origin_of_2020(mut self) -> Self {
        self.origin_of_2020 = true;
        self.peer_route = PeerRoute::Missing;
        self.without_filter()
    }

    /// Circuit breakers of the home service's clusters, and what else a test adds.
    pub(super) fn limits(&self) -> String {
        let more = &self.home_cluster;
        if more.contains("circuit_breakers:") {
            more.clone()
        } else {
            format!("{}{more}\n", unlimited())
        }
    }
}

/// No circuit breaker in the way: Envoy's own would stop at 1024.
pub(super) fn unlimited() -> String {
    let n = 100_000;
    format!(
        "circuit_breakers: {{thresholds: [{{max_connections: {n}, max_pending_requests: {n}, max_requests: {n}, max_retries: {n}}}]}}\n"
    )
}
