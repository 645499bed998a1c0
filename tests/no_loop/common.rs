//! Clusters that spill to each other, and what arrived in each of them.

use anyhow::{Context, Result};
use envoy_test::echo::Received;
use envoy_test::wait::until_some;
use envoy_test::world::{Cluster, Clusters, HOST, Member, decisions, peer_host, plugin_config};
use envoy_test::{Answer, Envoy};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub const MARKER: &str = "x-peer-spillover-from";
pub const TO: &str = "x-peer-spillover-to";
pub const ROUTINGS: [&str; 2] = ["authority", "header"];

/// The configuration of the cluster `name` with this limit and these peers.
pub fn config(name: &str, limit: u32, peers: &[&str], routing: &str) -> Value {
    let mut config = plugin_config(limit);
    config["cluster"] = name.into();
    let peers = peers.iter();
    let peers = peers.map(|peer| json!({"name": peer, "host": peer_host(HOST, peer)}));
    config["services"][0]["peers"] = peers.collect();
    config["services"][0]["routing"] = routing.into();
    config
}

/// The proxy of the cluster `name`, as [`config`] has it, from which each peer's host leads to that cluster.
pub fn member(name: &str, limit: u32, peers: &[&str], routing: &str) -> Member {
    let member = Member::new(name, config(name, limit, peers, routing));
    let way = |member: Member, peer: &&str| member.way(peer, peer);
    peers.iter().fold(member, way)
}

/// A request of this cluster's application that is held where it arrives, under the key `held`.
pub async fn hold(
    clusters: &Clusters,
    from: &Cluster,
    headers: &[(&str, &str)],
) -> Result<JoinHandle<Result<Answer>>> {
    let in_flight = || -> usize {
        let of = |cluster: &Cluster| cluster.home.in_flight();
        clusters.iter().map(of).sum()
    };
    let before = in_flight();
    let mut client = from.client().await?;
    let headers: Vec<_> = [&[("x-hold", "held")], headers].concat();
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let headers: Vec<(String, String)> = headers.collect();
    let held = tokio::spawn(async move {
        let headers = headers.iter();
        let headers: Vec<_> = headers.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        client.get(HOST, &headers).await
    });
    envoy_test::until("the request is held", || in_flight() == before + 1).await?;
    Ok(held)
}

/// Lets all that is held be answered, which must be with 200.
pub async fn release(clusters: &Clusters, held: Vec<JoinHandle<Result<Answer>>>) -> Result<()> {
    for cluster in clusters.iter() {
        cluster.home.release_all();
    }
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    for cluster in clusters.iter() {
        nothing_counted(&cluster.envoy).await?;
    }
    Ok(())
}

/// The values of the marker in a request that arrived.
pub fn markers(received: &Received) -> Vec<&str> {
    let headers = received.headers.iter();
    let markers = headers.filter(|(name, _)| name == MARKER);
    markers.map(|(_, value)| value.as_str()).collect()
}

/// How often this proxy decided so for the service.
pub async fn decided(envoy: &Envoy, destination: &str, reason: &str) -> Result<i64> {
    let of = (destination.to_owned(), reason.to_owned());
    Ok(decisions(envoy, HOST).await?.get(&of).copied().unwrap_or(0))
}

/// Waits until every count of this proxy, and every share of one, is 0.
pub async fn nothing_counted(envoy: &Envoy) -> Result<()> {
    let counts = ["in_flight", "requests_share"];
    let mut wrong = Vec::new();
    let waited = until_some("every count is 0", async || {
        let all = envoy.stats_matching("peer_spillover_").await.ok()?;
        let all = all.into_iter().filter(|(name, value)| {
            *value != 0 && counts.iter().any(|count| name.ends_with(count))
        });
        wrong = all.collect();
        wrong.is_empty().then_some(())
    })
    .await;
    waited.with_context(|| format!("{wrong:?}"))
}
