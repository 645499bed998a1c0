//! Two clusters on loopback, as the origin's experiment had them: home with a proxy that carries the filter, and a peer
//! behind a gateway that demands a client certificate.

mod builder;
mod clusters;
mod ecds;
mod names;
mod observe;
mod peers;
mod side;
mod start;
mod template;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use builder::{Builder, CatchAll, PeerRoute, PluginConfig, Upstream};
pub use clusters::{Cluster, Clusters, Member};
pub use ecds::Update;
pub use names::{peer_host, sni};
pub use observe::{decisions, metric, service_metric, wait_ticks};

use crate::certs::{Certs, Leaf};
use crate::client::{Answer, Client};
use crate::echo::Echo;
use crate::envoy::{Envoy, EnvoyOptions};
use ecds::Ecds;

/// The home cluster.
pub const HOME: &str = "iotcloudserve";
/// The peer cluster.
pub const PEER: &str = "gke";
/// The service.
pub const HOST: &str = "a.istio.svc.cluster.local";
/// The service at the peer, for home.
pub const PEER_HOST: &str = "a.istio.gke.global";
/// The plugin's name, as Istio names the WasmPlugin `peer-spillover` of `istio-system`.
pub const PLUGIN: &str = "istio-system.peer-spillover";

/// A plugin configuration with this limit for [`HOST`], peer [`PEER`] and the debug header. Change what a test needs.
pub fn plugin_config(limit: u32) -> Value {
    json!({
        "version": 1,
        "cluster": HOME,
        "role": "client",
        "debugHeader": true,
        "services": [{
            "host": HOST,
            "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": limit}}},
            "peers": [{"name": PEER, "host": PEER_HOST}],
        }],
    })
}

/// The two clusters.
///
/// ```text
/// client → envoy (home's proxy, with the filter) → home
///                 └ mTLS → gateway (the peer's) → peer
/// ```
pub struct World {
    /// The home service.
    pub home: Echo,
    /// The service at the peer.
    pub peer: Echo,
    /// The service at each further peer, in the order of [`Builder::more_peers`].
    pub more_peers: Vec<Echo>,
    /// Home's proxy, listener `outbound`.
    pub envoy: Envoy,
    /// The peer's gateway, listener `gateway`.
    pub gateway: Envoy,
    certs: Certs,
    leaves: [Leaf; 2],
    url: String,
    module: PathBuf,
    failure_policy: String,
    plugins: Vec<Ecds>,
    names: Vec<String>,
    peer_plugins: Vec<Ecds>,
    // Dropped last: the Envoys read from it.
    dir: TempDir,
}

impl World {
    /// A world with the filter at limit 1, to be changed by the builder's methods.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `http://127.0.0.1:PORT/` of home's proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where home's proxy accepts.
    pub fn addr(&self) -> SocketAddr {
        self.envoy.listener("outbound")
    }

    /// Where the peer's proxy accepts what the peer's own applications send; only with [`Builder::peer_filter`].
    pub fn peer_addr(&self) -> SocketAddr {
        self.gateway.listener("outbound")
    }

    /// The services at all peers, the first one's first.
    pub fn peers(&self) -> impl Iterator<Item = &Echo> {
        std::iter::once(&self.peer).chain(&self.more_peers)
    }

    /// A connection to home's proxy.
    /// # Errors
    /// It does not accept.
    pub async fn client(&self, http2: bool) -> Result<Client> {
        Client::connect(self.addr(), http2).await
    }

    /// `GET /` of [`HOST`] by home's proxy, HTTP/1.1 on a connection of its own.
    /// # Errors
    /// There is no whole answer.
    pub async fn get(&self, headers: &[(&str, &str)]) -> Result<Answer> {
        self.client(false).await?.get(HOST, headers).await
    }

    /// Home's certificate, which its proxy shows to the peer.
    pub fn home_leaf(&self) -> &Leaf {
        &self.leaves[0]
    }

    /// The certificate of the peer's gateway.
    pub fn peer_leaf(&self) -> &Leaf {
        &self.leaves[1]
    }

    /// The root of both clusters, for further identities.
    pub fn certs(&self) -> &Certs {
        &self.certs
    }

    /// An Envoy that leads what its plain listener `outbound` gets to `gateway` over TLS, with the certificate `leaf` or
    /// none, and the SNI of [`HOST`]: a client of whatever identity.
    /// # Errors
    /// It does not start.
    pub async fn tls_client(&self, gateway: SocketAddr, leaf: Option<&Leaf>) -> Result<Envoy> {
        let log = self.dir.path().join("client-access.log");
        let config = side::tls_client(gateway, &sni(HOST), leaf, &self.certs.root(), &log);
        Envoy::start(
            config,
            EnvoyOptions {
                name: "client".to_owned(),
                ..EnvoyOptions::default()
            },
        )
        .await
    }

    /// Gives the running plugin of home's proxy a new configuration; returns when Envoy has taken or refused it.
    /// # Errors
    /// Envoy does neither, or there is no plugin.
    pub async fn set_filter_config(&self, config: impl Into<PluginConfig>) -> Result<Update> {
        self.set_filter(0, &self.module.clone(), config).await
    }

    /// As [`World::set_filter_config`] for the plugin of this index, with another module.
    /// # Errors
    /// As there.
    pub async fn set_filter(
        &self,
        index: usize,
        module: &std::path::Path,
        config: impl Into<PluginConfig>,
    ) -> Result<Update> {
        let plugin = self.plugins.get(index).zip(self.names.get(index));
        let (ecds, name) =
            plugin.ok_or_else(|| anyhow::anyhow!("there is no plugin {index} in this world"))?;
        ecds.update(
            &self.envoy,
            &start::wasm(module, &self.failure_policy, name, config.into().text()),
        )
        .await
    }

    /// As [`World::set_filter_config`], for the peer's plugin ([`Builder::peer_filter`]).
    /// # Errors
    /// As there.
    pub async fn set_peer_filter_config(&self, config: impl Into<PluginConfig>) -> Result<Update> {
        let ecds = self
            .peer_plugins
            .first()
            .ok_or_else(|| anyhow::anyhow!("the peer has no plugin in this world"))?;
        ecds.update(
            &self.gateway,
            &start::wasm(
                &self.module,
                &self.failure_policy,
                PLUGIN,
                config.into().text(),
            ),
        )
        .await
    }
}
