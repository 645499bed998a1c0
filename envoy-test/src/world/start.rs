//! Starting of a [`World`]: certificates, echoes, the peer's Envoy, home's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::builder::Builder;
use super::ecds::Ecds;
use super::peers::{Another, listener};
use super::side::{Peer, Side};
use super::template::fill;
use super::{HOME, PEER, PLUGIN, World};
use crate::certs::Certs;
use crate::echo::{Echo, EchoOptions};
use crate::envoy::{Envoy, EnvoyOptions, reserve_port, temp_dir};

impl Builder {
    /// Starts everything and waits until it serves.
    /// # Errors
    /// A part does not start: with the end of its log.
    pub async fn start(self) -> Result<World> {
        let dir = temp_dir("world")?;
        let certs = Certs::make(dir.path())?;
        let [home_domain, peer_domain] = &self.trust_domains;
        let home_leaf = certs.leaf(home_domain, "istio", "home")?;
        let peer_leaf = certs.leaf(peer_domain, "istio", "peer")?;
        let [home_delay, peer_delay] = self.delays;
        let home = Echo::start(EchoOptions {
            delay: home_delay,
            ..EchoOptions::named(HOME, "a-7c9f")
        })
        .await?;
        let peer = Echo::start(EchoOptions {
            delay: peer_delay,
            ..EchoOptions::named(PEER, "a-5d2b")
        })
        .await?;
        let mut more_peers = Vec::new();
        for name in &self.more_peers {
            let options = EchoOptions {
                delay: peer_delay,
                ..EchoOptions::named(name, "a-5d2b")
            };
            more_peers.push(Echo::start(options).await?);
        }

        let both = self.peer_plugin.is_some();
        let module = match &self.module {
            Some(module) => module.clone(),
            None if self.plugins.is_empty() && !both => PathBuf::new(),
            None => tokio::task::spawn_blocking(xtask::filter::ensure)
                .await?
                .context("cannot build the filter")?,
        };
        // Each gateway's port is in the other's configuration, so home's must be known before home starts.
        let reserved = both.then(reserve_port).transpose()?;
        let home_gateway = reserved.as_ref().map(TcpSocket::local_addr).transpose()?;

        let peer_ecds = self.peer_plugin.iter().map(|config| {
            ecds(
                &dir.path().join("peer"),
                "peer-spillover",
                &wasm(&module, &self.failure_policy, PLUGIN, config),
            )
        });
        let peer_ecds = peer_ecds.collect::<Result<Vec<_>>>()?;
        let gateway_side = Side {
            builder: &Builder {
                hosts: self.hosts.clone(),
                upstream: self.peer_upstream,
                peer_upstream: self.peer_upstream,
                node_id: "router~127.0.0.1~gateway.istio-system~istio-system.svc.cluster.local"
                    .to_owned(),
                ..Builder::default()
            },
            cluster: PEER,
            echo: peer.addr(),
            outbound: both,
            gateway: Some((0, &peer_leaf)),
            peer: home_gateway.map(|gateway| Peer {
                name: HOME,
                gateway,
                identity: &home_leaf.spiffe,
                leaf: &peer_leaf,
            }),
            more: Vec::new(),
            behind: more_peers
                .iter()
                .map(|echo| Another {
                    name: echo.name(),
                    echo: echo.addr(),
                })
                .collect(),
            http_filters: entries(&peer_ecds),
            access_log: &dir.path().join("gateway-access.log"),
        };
        let options = EnvoyOptions {
            name: "gateway".to_owned(),
            concurrency: self.workers,
            ..EnvoyOptions::default()
        };
        let gateway = Envoy::start(gateway_side.bootstrap(), options).await?;

        let mut plugins = Vec::new();
        for (index, (plugin, config)) in self.plugins.iter().enumerate() {
            let name = if index == 0 {
                "peer-spillover".to_owned()
            } else {
                format!("peer-spillover-{index}")
            };
            plugins.push(ecds(
                &dir.path().join("home"),
                &name,
                &wasm(&module, &self.failure_policy, plugin, config),
            )?);
        }
        let home_side = Side {
            builder: &self,
            cluster: HOME,
            echo: home.addr(),
            outbound: true,
            gateway: home_gateway.map(|addr| (addr.port(), &home_leaf)),
            peer: Some(Peer {
                name: PEER,
                gateway: gateway.listener("gateway"),
                identity: &peer_leaf.spiffe,
                leaf: &home_leaf,
            }),
            more: self
                .more_peers
                .iter()
                .map(|name| Peer {
                    name,
                    gateway: gateway.listener(&listener(name)),
                    identity: &peer_leaf.spiffe,
                    leaf: &home_leaf,
                })
                .collect(),
            behind: Vec::new(),
            http_filters: format!(
                "{}\n{}{}",
                self.filters_before,
                entries(&plugins),
                self.filters_after
            ),
            access_log: &dir.path().join("access.log"),
        };
        let options = EnvoyOptions {
            name: "home".to_owned(),
            concurrency: self.workers,
            log_level: self.log_level.clone(),
            ..EnvoyOptions::default()
        };
        let envoy = Envoy::start(home_side.bootstrap(), options).await?;
        drop(reserved);
        let url = format!("http://{}/", envoy.listener("outbound"));
        let leaves = [home_leaf, peer_leaf];
        let names = self.plugins.into_iter().map(|(plugin, _)| plugin).collect();
        Ok(World {
            home,
            peer,
            more_peers,
            envoy,
            gateway,
            certs,
            leaves,
            url,
            module,
            failure_policy: self.failure_policy,
            plugins,
            names,
            peer_plugins: peer_ecds,
            dir,
        })
    }
}

/// The typed configuration of the Wasm filter.
pub(super) fn wasm(module: &Path, failure_policy: &str, plugin: &str, config: &str) -> String {
    fill(
        include_str!("templates/wasm.yaml"),
        &[
            ("plugin_name", plugin),
            ("failure_policy", failure_policy),
            ("module", &module.display().to_string()),
            // A JSON string is a YAML string.
            ("config", &Value::from(config).to_string()),
        ],
    )
}

pub(super) fn ecds(dir: &Path, name: &str, typed_config: &str) -> Result<Ecds> {
    std::fs::create_dir_all(dir)?;
    Ecds::new(dir, name, typed_config)
}

pub(super) fn entries(plugins: &[Ecds]) -> String {
    let entry =
        |ecds: &Ecds| ecds.entry("type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm");
    plugins.iter().map(entry).collect()
}
