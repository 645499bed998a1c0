//! Any number of peers: each has its service, a listener of the gateway's Envoy, and in home's proxy a cluster and routes.

use std::net::SocketAddr;

use super::names::{istio_cluster, istio_subset, peer_host, sni};
use super::side::{Peer, Side, cluster, endpoint};
use super::template::fill;
use super::tls::{by_endpoint, tls_endpoint, upstream_tls};
use super::{Upstream, builder::unlimited};
use crate::certs::Leaf;

/// A peer beside the first one: its name and its service.
pub(super) struct Another<'a> {
    pub name: &'a str,
    pub echo: SocketAddr,
}

/// The name of a peer's listener in the gateway's Envoy.
pub(super) fn listener(peer: &str) -> String {
    format!("gateway-{peer}")
}

impl Another<'_> {
    /// The listener by which other clusters come to it, which leads everything to its service.
    pub fn listener(&self, side: &Side<'_>, leaf: &Leaf) -> String {
        let hosts = format!(
            "- {{name: any, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: \"{}\", timeout: 0s}}}}]}}\n",
            self.name
        );
        side.gateway_listener(&listener(self.name), 0, leaf, &hosts)
    }

    /// The cluster of its service.
    pub fn cluster(&self, upstream: Upstream) -> String {
        let limits = unlimited();
        cluster(self.name, &limits, upstream, "", &endpoint(self.echo, 0))
    }
}

impl Side<'_> {
    /// The routes that the header leads to the further peers.
    pub fn more_header_routes(&self, host: &str) -> String {
        let route = |peer: &Peer<'_>| {
            let action = self.action(&self.cluster_of(peer, host), host);
            let values = [("peer", peer.name), ("peer_action", &action)];
            fill(include_str!("templates/header_route.yaml"), &values)
        };
        self.more.iter().map(route).collect()
    }

    /// The virtual hosts of the further peers.
    pub fn more_peer_hosts(&self, host: &str) -> String {
        let virtual_host = |peer: &Peer<'_>| {
            let action = self.action(&self.cluster_of(peer, host), host);
            let values = [("peer_action", action.as_str())];
            let route = fill("- match: {prefix: /}\n  {{peer_action}}\n", &values);
            let values = [("peer_host", peer_host(host, peer.name)), ("routes", route)];
            let values = values
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            fill(include_str!("templates/peer_host.yaml"), &values)
        };
        let by_host = self.more.iter().filter(|_| !self.builder.by_subset);
        by_host.map(virtual_host).collect()
    }

    /// The clusters of the further peers.
    pub fn more_peer_clusters(&self, host: &str) -> String {
        let clusters = |peer: &Peer<'_>| self.cluster_to(peer, host);
        self.more.iter().map(clusters).collect()
    }

    fn cluster_of(&self, peer: &Peer<'_>, host: &str) -> String {
        match self.builder.by_subset {
            true => istio_subset(peer.name, host),
            false => istio_cluster(&peer_host(host, peer.name)),
        }
    }

    fn cluster_to(&self, peer: &Peer<'_>, host: &str) -> String {
        self.peer_cluster_yaml(&self.cluster_of(peer, host), peer, host)
    }

    /// The cluster of this name that leads to a peer.
    pub fn peer_cluster_yaml(&self, name: &str, peer: &Peer<'_>, host: &str) -> String {
        let tls = upstream_tls(
            &sni(host),
            Some(peer.leaf),
            &peer.leaf.root,
            Some(peer.identity),
        );
        let (mut endpoints, mut socket) = (
            endpoint(peer.gateway, 0),
            fill("transport_socket:\n  {{tls}}\n", &[("tls", &tls)]),
        );
        if self.builder.way_back {
            endpoints = tls_endpoint(peer.gateway, 0) + &endpoint(self.echo, 1);
            endpoints += &format!("  locality: {{region: {}}}\n", self.cluster);
            socket = by_endpoint(&tls);
        }
        cluster(
            name,
            &format!("{}{}\n", unlimited(), self.builder.peer_cluster),
            self.builder.peer_upstream,
            &socket,
            &endpoints,
        )
    }
}
