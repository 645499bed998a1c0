//! Any number of clusters on loopback that spill to each other in whatever graph their configurations draw.

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::builder::Builder;
use super::names::sni;
use super::side::{Peer, Side};
use super::start::{ecds, entries, wasm};
use super::template::fill;
use super::tls::upstream_tls;
use super::{HOST, PLUGIN, PluginConfig};
use crate::certs::{Certs, Leaf};
use crate::client::Client;
use crate::echo::{Echo, EchoOptions};
use crate::envoy::{Envoy, EnvoyOptions, reserve_port, temp_dir};

/// A proxy with the filter, to be started.
pub struct Member {
    name: String,
    config: String,
    ways: Vec<(String, String)>,
    behind: Option<usize>,
}

impl Member {
    /// The proxy of the cluster of this name, with this configuration.
    pub fn new(name: &str, config: impl Into<PluginConfig>) -> Member {
        Member {
            name: name.to_owned(),
            config: config.into().text().to_owned(),
            ways: Vec::new(),
            behind: None,
        }
    }

    /// The peer of this name, and its host, lead to the gateway of the member `to`, which may be this one.
    pub fn way(mut self, peer: &str, to: &str) -> Member {
        self.ways.push((peer.to_owned(), to.to_owned()));
        self
    }

    /// What this proxy sends home goes to the gateway of the member of this index, over mTLS. That one is earlier in the list.
    pub fn behind(mut self, index: usize) -> Member {
        self.behind = Some(index);
        self
    }
}

/// A proxy with the filter, with the listeners `outbound` and `gateway`, and the service behind it.
pub struct Cluster {
    /// The service of this cluster.
    pub home: Echo,
    /// Its proxy.
    pub envoy: Envoy,
}

impl Cluster {
    /// A connection to its proxy, as its own applications make it.
    /// # Errors
    /// It does not accept.
    pub async fn client(&self) -> Result<Client> {
        Client::http1(self.envoy.listener("outbound")).await
    }

    /// Requests that other clusters have sent to it.
    /// # Errors
    /// Its admin interface does not answer.
    pub async fn arrived(&self) -> Result<i64> {
        let stat = self.envoy.stat("http.gateway.downstream_rq_total").await?;
        Ok(stat.unwrap_or(0))
    }
}

/// Clusters that run, in the order in which they were asked for.
pub struct Clusters {
    all: Vec<Cluster>,
    // Dropped last: the Envoys read from it.
    _dir: TempDir,
}

impl std::ops::Deref for Clusters {
    type Target = [Cluster];

    fn deref(&self) -> &[Cluster] {
        &self.all
    }
}

impl std::ops::DerefMut for Clusters {
    fn deref_mut(&mut self) -> &mut [Cluster] {
        &mut self.all
    }
}

impl Clusters {
    /// Starts all members, each with two workers.
    /// # Errors
    /// A part does not start, or a way leads to a member that there is not.
    pub async fn start(members: &[Member]) -> Result<Clusters> {
        let dir = temp_dir("clusters")?;
        let certs = Certs::make(dir.path())?;
        let module = tokio::task::spawn_blocking(xtask::filter::ensure)
            .await?
            .context("cannot build the filter")?;
        // Each gateway's port is in the configurations of others, which start earlier.
        let mut ports: Vec<(TcpSocket, Leaf)> = Vec::new();
        for member in members {
            let leaf = certs.leaf("cluster.local", "istio", &member.name)?;
            ports.push((reserve_port()?, leaf));
        }
        let mut all: Vec<Cluster> = Vec::new();
        for (member, (port, leaf)) in members.iter().zip(&ports) {
            let home = Echo::start(EchoOptions::named(&member.name, "a-1")).await?;
            let mut builder = Builder::default();
            let mut service = home.addr();
            if let Some(behind) = member.behind {
                let next = all.get(behind).zip(ports.get(behind));
                let (next, (_, theirs)) = next.context("it is later in the list")?;
                service = next.envoy.listener("gateway");
                let identity = Some(theirs.spiffe.as_str());
                let tls = upstream_tls(&sni(HOST), Some(leaf), &leaf.root, identity);
                let socket = fill("transport_socket:\n  {{tls}}\n", &[("tls", &tls)]);
                builder = builder.home_cluster(&socket);
            }
            let mut ways = Vec::new();
            for (peer, to) in &member.ways {
                let at = members.iter().position(|member| member.name == *to);
                let (port, theirs) = at.and_then(|at| ports.get(at)).context("no such member")?;
                ways.push(Peer {
                    name: peer,
                    gateway: port.local_addr()?,
                    identity: &theirs.spiffe,
                    leaf,
                });
            }
            let mut ways = ways.into_iter();
            let filter = wasm(&module, "FAIL_OPEN", PLUGIN, &member.config);
            let filter = ecds(&dir.path().join(&member.name), "peer-spillover", &filter)?;
            let side = Side {
                builder: &builder,
                cluster: &member.name,
                echo: service,
                outbound: true,
                gateway: Some((port.local_addr()?.port(), leaf)),
                peer: ways.next(),
                more: ways.collect(),
                behind: Vec::new(),
                http_filters: entries(&[filter]),
                access_log: &dir.path().join(format!("{}.log", member.name)),
            };
            let options = EnvoyOptions {
                name: member.name.clone(),
                concurrency: 2,
                ..EnvoyOptions::default()
            };
            let envoy = Envoy::start(side.bootstrap(), options).await?;
            all.push(Cluster { home, envoy });
        }
        Ok(Clusters { all, _dir: dir })
    }
}
