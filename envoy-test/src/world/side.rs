//! The configuration of one cluster's Envoy.

use std::net::SocketAddr;
use std::path::Path;

use super::builder::{Builder, CatchAll, PeerRoute, Upstream, unlimited};
use super::names::{aliases, istio_cluster, istio_subset, peer_host, second_port, sni};
use super::peers::Another;
use super::template::fill;
use super::tls::{by_endpoint, tls_endpoint, upstream_tls};
use crate::certs::Leaf;

/// One cluster's Envoy, with what it is told of the rest of the world.
pub(super) struct Side<'a> {
    pub builder: &'a Builder,
    /// This cluster's name.
    pub cluster: &'a str,
    /// The service of this cluster.
    pub echo: SocketAddr,
    /// Whether it has the listener `outbound`.
    pub outbound: bool,
    /// Port (0: any) and certificate of the listener `gateway`, if it has one.
    pub gateway: Option<(u16, &'a Leaf)>,
    /// The other cluster, if it knows one.
    pub peer: Option<Peer<'a>>,
    /// Further peers that it knows.
    pub more: Vec<Peer<'a>>,
    /// Further clusters behind this Envoy.
    pub behind: Vec<Another<'a>>,
    /// Entries of `http_filters`, in all listeners.
    pub http_filters: String,
    pub access_log: &'a Path,
}

/// The other cluster, seen from a [`Side`].
pub(super) struct Peer<'a> {
    pub name: &'a str,
    pub gateway: SocketAddr,
    /// What it expects the gateway to be.
    pub identity: &'a str,
    /// What this side shows to it.
    pub leaf: &'a Leaf,
}

impl Side<'_> {
    /// Its bootstrap.
    pub fn bootstrap(&self) -> String {
        let tags: String = [
            "plugin",
            "role",
            "service",
            "destination",
            "reason",
            "response_code_class",
            "mode",
            "version",
            "peer",
            "cluster",
            "worker",
        ]
        .iter()
        .map(|tag| format!("- {{tag_name: {tag}, regex: '({tag}=\\.=(.*?);\\.;)'}}\n"))
        .collect();
        fill(
            include_str!("templates/bootstrap.yaml"),
            &[
                ("node_id", &self.builder.node_id),
                ("cluster", self.cluster),
                ("stats_matcher", &self.builder.stats_matcher),
                ("stats_tags", &tags),
                ("listeners", &self.listeners()),
                ("clusters", &self.clusters()),
            ],
        )
    }

    fn listeners(&self) -> String {
        let mut listeners = String::new();
        if self.outbound {
            listeners += &fill(
                include_str!("templates/outbound.yaml"),
                &[("hcm", &self.hcm("outbound", &self.virtual_hosts()))],
            );
        }
        if let Some((port, leaf)) = self.gateway {
            listeners += &self.gateway_listener("gateway", port, leaf, &self.virtual_hosts());
            for another in &self.behind {
                listeners += &another.listener(self, leaf);
            }
        }
        listeners
    }

    /// A listener for what other clusters send.
    pub fn gateway_listener(&self, name: &str, port: u16, leaf: &Leaf, hosts: &str) -> String {
        let names = self.builder.hosts.iter().map(|host| quoted(&sni(host)));
        let names: Vec<String> = names.collect();
        fill(
            include_str!("templates/gateway.yaml"),
            &[
                ("name", name),
                ("port", &port.to_string()),
                ("server_names", &names.join(", ")),
                ("cert", &leaf.cert.display().to_string()),
                ("key", &leaf.key.display().to_string()),
                ("root", &leaf.root.display().to_string()),
                ("hcm", &self.hcm(name, hosts)),
            ],
        )
    }

    fn hcm(&self, listener: &str, hosts: &str) -> String {
        let client_cert = match listener {
            _ if listener.starts_with("gateway") => {
                "forward_client_cert_details: SANITIZE_SET\nset_current_client_cert_details: {subject: true, uri: true}"
            }
            _ => "forward_client_cert_details: SANITIZE",
        };
        fill(
            include_str!("templates/hcm.yaml"),
            &[
                ("listener", listener),
                ("client_cert", client_cert),
                ("access_log", &self.access_log.display().to_string()),
                ("http_filters", &self.http_filters),
                ("virtual_hosts", hosts),
            ],
        )
    }

    fn virtual_hosts(&self) -> String {
        let builder = self.builder;
        let mut hosts = String::new();
        for host in &builder.hosts {
            let action = self
                .peer
                .as_ref()
                .and_then(|peer| self.peer_action(peer, host));
            let header_route = match (&self.peer, &action) {
                (Some(peer), Some(action)) => {
                    let values = [("peer", peer.name), ("peer_action", action)];
                    fill(include_str!("templates/header_route.yaml"), &values)
                }
                _ => String::new(),
            };
            let header_route = header_route + &self.more_header_routes(host);
            let domains: Vec<String> = aliases(host).iter().map(|alias| quoted(alias)).collect();
            let home_cluster = quoted(&self.home_cluster(host));
            let mut more_routes = builder.more_routes.replace("HOME_CLUSTER", &home_cluster);
            if builder.second_port {
                more_routes += &format!(
                    "- {{match: {{prefix: /8080}}, route: {{cluster: \"{}\"}}}}\n",
                    second_port(host)
                );
            }
            hosts += &fill(
                include_str!("templates/service_hosts.yaml"),
                &[
                    ("host", host),
                    ("domains", &domains.join(", ")),
                    ("more_routes", &more_routes),
                    ("header_route", &header_route),
                    ("home_cluster", &self.home_cluster(host)),
                    ("home_route", &builder.route),
                ],
            );
            let only_some = builder.peer_route == PeerRoute::OnlySome;
            let by_host = !builder.by_subset && (only_some || action.is_some());
            if let Some(peer) = self.peer.as_ref().filter(|_| by_host) {
                let default = action.map_or(String::new(), |action| {
                    let values = [("peer_action", action.as_str())];
                    fill("- match: {prefix: /}\n  {{peer_action}}\n", &values)
                });
                let peer_cluster = quoted(&self.peer_cluster(host, peer.name));
                let routes = builder
                    .peer_routes
                    .replace("HOME_CLUSTER", &home_cluster)
                    .replace("PEER_CLUSTER", &peer_cluster)
                    .replace("SERVICE", host);
                let values = [
                    ("peer_host", peer_host(host, peer.name)),
                    ("routes", routes + &default),
                ];
                let values = values
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str()));
                hosts += &fill(include_str!("templates/peer_host.yaml"), &values);
            }
            hosts += &self.more_peer_hosts(host);
        }
        let catch_all = match builder.catch_all {
            CatchAll::Passthrough => "PassthroughCluster",
            CatchAll::BlackHole => "BlackHoleCluster",
            CatchAll::BlockAll => {
                return hosts
                    + "- {name: block_all, domains: ['*'], routes: [{name: block_all, match: {prefix: /}, direct_response: {status: 502}}]}\n";
            }
            CatchAll::Absent => return hosts,
        };
        hosts
            + &format!(
                "- {{name: any, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {catch_all}}}}}]}}\n"
            )
    }

    fn peer_action(&self, peer: &Peer<'_>, host: &str) -> Option<String> {
        let cluster = match self.builder.peer_route {
            PeerRoute::Missing | PeerRoute::Unrouted | PeerRoute::OnlySome => return None,
            PeerRoute::DirectResponse => {
                return Some("direct_response: {status: 418}\n".to_owned());
            }
            PeerRoute::BlackHole => "BlackHoleCluster".to_owned(),
            PeerRoute::Gateway => self.peer_cluster(host, peer.name),
        };
        Some(self.action(&cluster, host))
    }

    /// What a route to a peer's cluster does.
    pub fn action(&self, cluster: &str, host: &str) -> String {
        let route = format!(
            "cluster: \"{cluster}\"\nhost_rewrite_literal: {host}\n{}",
            self.builder.peer_route_yaml
        );
        fill("route:\n  {{route}}\n", &[("route", &route)])
    }

    fn home_cluster(&self, host: &str) -> String {
        if self.builder.inbound_cluster_names {
            let before = self.builder.hosts.iter().take_while(|other| *other != host);
            format!("inbound|{}||", 8080 + before.count())
        } else if self.builder.plain_cluster_names {
            format!("home_{host}")
        } else {
            istio_subset(&self.builder.home_subset, host)
        }
    }

    fn peer_cluster(&self, host: &str, peer: &str) -> String {
        if self.builder.by_subset {
            return istio_subset(peer, host);
        }
        let host = peer_host(host, peer);
        if let Some(name) = &self.builder.peer_cluster_name {
            name.clone()
        } else if self.builder.plain_cluster_names {
            format!("peer_{host}")
        } else {
            istio_cluster(&host)
        }
    }

    fn clusters(&self) -> String {
        let mut clusters = String::new();
        for host in &self.builder.hosts {
            let mut home_endpoints = endpoint(self.echo, 0);
            let (mut limits, mut tls, mut upstream) =
                (self.builder.limits(), String::new(), self.builder.upstream);
            if let Some(peer) = &self.peer {
                if self.builder.origin_of_2020 {
                    let identity = Some(peer.identity);
                    let root = &peer.leaf.root;
                    home_endpoints += &tls_endpoint(peer.gateway, 1);
                    limits = include_str!("templates/origin_limits.yaml").to_owned();
                    tls = by_endpoint(&upstream_tls(&sni(host), Some(peer.leaf), root, identity));
                    upstream = Upstream::OnePerConnection;
                } else if self.builder.peer_route != PeerRoute::Missing {
                    let name = self.peer_cluster(host, peer.name);
                    clusters += &self.peer_cluster_yaml(&name, peer, host);
                }
            }
            clusters += &self.more_peer_clusters(host);
            let names = [self.home_cluster(host)]
                .into_iter()
                .chain(self.builder.second_port.then(|| second_port(host)));
            for name in names {
                clusters += &cluster(&name, &limits, upstream, &tls, &home_endpoints);
            }
        }
        let upstream = self.builder.upstream;
        let behind = self.behind.iter().map(|another| another.cluster(upstream));
        clusters + &behind.collect::<String>()
    }
}

/// The bootstrap of an Envoy with one plain listener, `outbound`, that leads everything to `gateway` over TLS.
pub(super) fn tls_client(
    gateway: SocketAddr,
    sni: &str,
    leaf: Option<&Leaf>,
    root: &Path,
    access_log: &Path,
) -> String {
    let socket = fill(
        "transport_socket:\n  {{tls}}\n",
        &[("tls", &upstream_tls(sni, leaf, root, None))],
    );
    let hosts = "- {name: any, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: gateway}}]}\n";
    let hcm = fill(
        include_str!("templates/hcm.yaml"),
        &[
            ("listener", "outbound"),
            ("client_cert", ""),
            ("access_log", &access_log.display().to_string()),
            ("http_filters", ""),
            ("virtual_hosts", hosts),
        ],
    );
    fill(
        include_str!("templates/bootstrap.yaml"),
        &[
            ("node_id", "client"),
            ("cluster", "client"),
            ("stats_matcher", ""),
            ("stats_tags", ""),
            (
                "listeners",
                &fill(include_str!("templates/outbound.yaml"), &[("hcm", &hcm)]),
            ),
            (
                "clusters",
                &cluster(
                    "gateway",
                    &unlimited(),
                    Upstream::Http1,
                    &socket,
                    &endpoint(gateway, 0),
                ),
            ),
        ],
    )
}

pub(super) fn cluster(
    name: &str,
    limits: &str,
    upstream: Upstream,
    tls: &str,
    endpoints: &str,
) -> String {
    let protocol = match upstream {
        Upstream::OnePerConnection => {
            "common_http_protocol_options: {max_requests_per_connection: 1}\nexplicit_http_config: {http_protocol_options: {}}"
        }
        Upstream::Http1 => "explicit_http_config: {http_protocol_options: {}}",
        Upstream::Http2 => "explicit_http_config: {http2_protocol_options: {allow_connect: true}}",
        Upstream::AsClient => {
            "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {allow_connect: true}}"
        }
        Upstream::AsClientWithCodes => include_str!("templates/codes.yaml"),
    };
    let values = [
        ("name", name),
        ("limits", limits),
        ("protocol", protocol),
        ("tls", tls),
        ("endpoints", endpoints),
    ];
    fill(include_str!("templates/cluster.yaml"), &values)
}

pub(super) fn endpoint(addr: SocketAddr, priority: u32) -> String {
    format!(
        "- priority: {priority}\n  lb_endpoints:\n  - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}\n",
        addr.ip(),
        addr.port()
    )
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
