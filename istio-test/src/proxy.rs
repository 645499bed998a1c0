//! What a pod's proxy says of itself, and small HTTP requests from inside a namespace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::client::{Answer, Client, empty, request};
use envoy_test::wait::until_some_by;
use serde_json::Value;

use crate::layout::{Layout, PodSpec};
use crate::net;

/// How long a change may take from the API server to a proxy.
const PUSHED: Duration = Duration::from_secs(40);
const BETWEEN_DUMPS: Duration = Duration::from_millis(50);

/// Where a cluster of Envoy's leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its IP address
    pub address: String,
    /// Its port
    pub port: u64,
    /// 0 is taken first; what is above it only where too little of that is healthy
    pub priority: u64,
}

/// A pod's Envoy, by its admin interface.
#[derive(Clone, Debug)]
pub struct Proxy {
    namespace: String,
}

impl Proxy {
    /// The proxy of `pod`.
    pub fn of(layout: &Layout, pod: &PodSpec) -> Proxy {
        Proxy {
            namespace: layout.namespace(pod),
        }
    }

    /// `GET` of a path of the admin interface.
    /// # Errors
    /// The proxy is not there, or answers otherwise than 200.
    pub async fn admin(&self, path: &str) -> Result<String> {
        self.text(15000, path).await
    }

    /// The sidecar's own Prometheus endpoint, as a scraper sees it.
    /// # Errors
    /// The proxy is not there.
    pub async fn prometheus(&self) -> Result<String> {
        self.text(15090, "/stats/prometheus").await
    }

    async fn text(&self, port: u16, path: &str) -> Result<String> {
        let answer = get(&self.namespace, &format!("http://127.0.0.1:{port}{path}")).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Statistics whose names contain `part`. Negative values are shown as such, though Envoy's gauges are unsigned.
    /// # Errors
    /// The proxy is not there.
    pub async fn stats(&self, part: &str) -> Result<BTreeMap<String, i64>> {
        let text = self.admin(&format!("/stats?filter={part}")).await?;
        let pairs = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(pairs
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse::<u64>().ok()? as i64)))
            .collect())
    }

    /// The sum of all statistics whose names contain each of `parts`; 0 where there is none.
    /// # Errors
    /// The proxy is not there.
    pub async fn sum(&self, parts: &[&str]) -> Result<i64> {
        let stats = self
            .stats(parts.first().copied().unwrap_or_default())
            .await?;
        Ok(stats
            .iter()
            .filter(|(name, _)| parts.iter().all(|part| name.contains(part)))
            .map(|(_, value)| value)
            .sum())
    }

    /// What Envoy has of its configuration.
    /// # Errors
    /// The proxy is not there.
    pub async fn config(&self) -> Result<Value> {
        let text = self.admin("/config_dump?include_eds").await?;
        serde_json::from_str(&text).context("config_dump is no JSON")
    }

    /// Waits until `holds` is true of Envoy's configuration: what was applied has come here. A cluster that still warms is in
    /// the configuration too, but no request can be sent to it, so a configuration with one does not count.
    /// # Errors
    /// `what` has not come true in time.
    pub async fn wait_config(&self, what: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        let warm = |config: &str| !config.contains("dynamic_warming_clusters") && holds(config);
        self.wait_dump(what, "/config_dump?include_eds", warm).await
    }

    /// As [`Proxy::wait_config`], of the listeners that came from the control plane: those that only drain are among them.
    /// # Errors
    /// `what` has not come true in time.
    pub async fn wait_listeners(&self, what: &str, holds: impl Fn(&[Value]) -> bool) -> Result<()> {
        let path = "/config_dump?resource=dynamic_listeners";
        let listeners = |text: &str| {
            serde_json::from_str(text).is_ok_and(|dump: Value| {
                // It leaves out what is empty.
                holds(dump["configs"].as_array().map_or(&[], Vec::as_slice))
            })
        };
        self.wait_dump(what, path, listeners).await
    }

    async fn wait_dump(&self, what: &str, path: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        until_some_by(what, PUSHED, async || {
            let dump = self.admin(path).await;
            if dump.is_ok_and(|text| holds(&text)) {
                return Some(());
            }
            // A dump is work for the thread that is to take the change.
            tokio::time::sleep(BETWEEN_DUMPS).await;
            None
        })
        .await
    }

    /// What Envoy's load balancer has of a cluster; empty where there is none of this name.
    /// # Errors
    /// The proxy is not there.
    pub async fn endpoints(&self, cluster: &str) -> Result<Vec<Endpoint>> {
        let all: Value = serde_json::from_str(&self.admin("/clusters?format=json").await?)?;
        let clusters = all["cluster_statuses"].as_array();
        let found = clusters
            .into_iter()
            .flatten()
            .find(|one| one["name"] == cluster);
        let hosts = found.and_then(|one| one["host_statuses"].as_array());
        let endpoint = |host: &Value| {
            let socket = &host["address"]["socket_address"];
            Endpoint {
                address: socket["address"].as_str().unwrap_or_default().to_owned(),
                port: socket["port_value"].as_u64().unwrap_or_default(),
                priority: host["priority"].as_u64().unwrap_or_default(),
            }
        };
        Ok(hosts.into_iter().flatten().map(endpoint).collect())
    }

    /// Waits until the endpoints of a cluster are as `holds` says.
    /// # Errors
    /// They are not in time; the last ones are named.
    pub async fn wait_endpoints(
        &self,
        what: &str,
        cluster: &str,
        holds: impl Fn(&[Endpoint]) -> bool,
    ) -> Result<()> {
        let mut last = Vec::new();
        let done = until_some_by(what, PUSHED, async || {
            last = self.endpoints(cluster).await.ok()?;
            holds(&last).then_some(())
        })
        .await;
        done.with_context(|| format!("{cluster}: {last:?}"))
    }

    /// Waits until a sum of statistics ([`Proxy::sum`]) is as `holds` says, and returns it.
    /// # Errors
    /// It is not in time.
    pub async fn wait_sum(&self, parts: &[&str], holds: impl Fn(i64) -> bool) -> Result<i64> {
        let what = format!("statistics of {}: {}", self.namespace, parts.join(" … "));
        until_some_by(&what, PUSHED, async || {
            let sum = self.sum(parts).await.ok()?;
            holds(sum).then_some(sum)
        })
        .await
    }

    /// Waits until no listener warms: until then new connections are taken by the listener of before.
    /// # Errors
    /// One still does after a while.
    pub async fn wait_settled(&self) -> Result<()> {
        let settled = |config: &str| !config.contains("warming_state");
        self.wait_config("no listener warms", settled).await
    }

    /// How many requests the application of this pod has in flight, as its own sidecar sees it.
    /// # Errors
    /// The proxy is not there.
    pub async fn active(&self) -> Result<u64> {
        let clusters = self.admin("/clusters").await?;
        let active = clusters.lines().filter_map(|line| {
            let rest = line.strip_prefix("inbound|8080||::")?;
            rest.split_once("::rq_active::")?.1.parse::<u64>().ok()
        });
        Ok(active.sum())
    }
}

/// `GET` of `http://IP:PORT/PATH` from inside `namespace`.
/// # Errors
/// Nobody listens there, or the answer breaks off.
pub async fn get(namespace: &str, url: &str) -> Result<Answer> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let addr: SocketAddr = authority
        .parse()
        .with_context(|| format!("{url} must be http://IP:PORT/PATH"))?;
    let mut client = Client::over(net::connect(namespace, addr).await?, false).await?;
    let request = request("GET", authority, &format!("/{path}"), &[], empty())?;
    client.send(request).await
}
