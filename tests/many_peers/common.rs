//! Worlds with several peers, and what can be seen of one of them.

use anyhow::{Context, Result};
use envoy_test::World;
use envoy_test::client::Answer;
use envoy_test::echo::Echo;
use envoy_test::wait::until_some;
use envoy_test::world::{Builder, HOST, PEER, PLUGIN, metric, peer_host, plugin_config};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The peers of most tests.
pub const NAMES: [&str; 3] = [PEER, "eks", "aks"];

/// A peer with these fields.
pub fn peer(name: &str, fields: Value) -> Value {
    let mut peer = json!({"name": name, "host": peer_host(HOST, name)});
    for (field, value) in fields.as_object().into_iter().flatten() {
        peer[field] = value.clone();
    }
    peer
}

/// The field `trafficPolicy` of a peer with this limit.
pub fn limit(limit: u32) -> Value {
    json!({"connectionPool": {"http": {"http2MaxRequests": limit}}})
}

/// The field `trafficPolicy` of a peer which so many errors in a row eject, for longer than any test runs.
pub fn after(errors: u32) -> Value {
    let detection =
        json!({"consecutive5xxErrors": errors, "interval": "1h", "baseEjectionTime": "10h"});
    json!({"outlierDetection": detection})
}

/// A service with this limit and these peers.
pub fn config(limit: u32, peers: &[Value]) -> Value {
    let mut config = plugin_config(limit);
    config["services"][0]["peers"] = json!(peers);
    config
}

/// A service that sends everything to these peers.
pub fn evacuating(peers: &[Value]) -> Value {
    let mut config = config(1, peers);
    config["services"][0]["mode"] = json!("evacuate");
    config
}

/// With [`NAMES`] as its peers.
pub fn builder(config: Value) -> Builder {
    let others = NAMES.iter().skip(1).copied();
    World::builder().filter(config).more_peers(others)
}

/// The service at the peer of this name.
pub fn at<'a>(world: &'a World, name: &str) -> Result<&'a Echo> {
    let mut all = world.peers();
    all.find(|echo| echo.name() == name).context("a peer")
}

/// How many requests home and each of [`NAMES`] received.
pub fn received(world: &World) -> (usize, Vec<usize>) {
    (world.home.count(), world.peers().map(Echo::count).collect())
}

/// How many requests home and each of [`NAMES`] have in flight.
pub fn in_flight(world: &World) -> (usize, Vec<usize>) {
    let peers = world.peers().map(Echo::in_flight);
    (world.home.in_flight(), peers.collect())
}

/// Forgets what was received.
pub fn clear(world: &World) {
    world.home.clear();
    world.peers().for_each(Echo::clear);
}

fn labels<'a>(peer: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let service = [("plugin", PLUGIN), ("role", "client"), ("service", HOST)];
    [&service[..], &[("peer", peer)], more].concat()
}

/// A metric of a peer. 0 if there is none.
pub async fn stat(world: &World, peer: &str, name: &str) -> Result<i64> {
    let stat = world.envoy.stat(&metric(&labels(peer, &[]), name)).await?;
    Ok(stat.unwrap_or(0))
}

/// How many requests the peer did not take for this reason.
pub async fn declined(world: &World, peer: &str, reason: &str) -> Result<i64> {
    let name = metric(&labels(peer, &[("reason", reason)]), "peer_declined");
    Ok(world.envoy.stat(&name).await?.unwrap_or(0))
}

/// Waits until a metric of a peer has this value.
pub async fn wait(world: &World, peer: &str, name: &str, value: i64) -> Result<()> {
    let mut last = None;
    let waited = until_some("a metric", async || {
        last = stat(world, peer, name).await.ok();
        (last == Some(value)).then_some(())
    })
    .await;
    waited.with_context(|| format!("{name} of {peer} is {last:?}, not {value}"))
}

/// Waits until nothing is in flight anywhere, and every count and every share of one says so.
pub async fn wait_nothing_counted(world: &World) -> Result<()> {
    world.home.wait_in_flight(0).await?;
    for echo in world.peers() {
        echo.wait_in_flight(0).await?;
    }
    let counts = ["in_flight", "requests_share"];
    let mut wrong = Vec::new();
    let waited = until_some("every count is 0", async || {
        let all = world.envoy.stats_matching("peer_spillover_").await.ok()?;
        let all = all.into_iter().filter(|(name, value)| {
            *value != 0 && counts.iter().any(|count| name.ends_with(count))
        });
        wrong = all.collect();
        wrong.is_empty().then_some(())
    })
    .await;
    waited.with_context(|| format!("{wrong:?}"))
}

/// A request that is held where it arrives, under this key.
pub async fn hold(world: &World, key: &str) -> Result<JoinHandle<Result<Answer>>> {
    let in_flight = || {
        let (home, peers) = in_flight(world);
        home + peers.iter().sum::<usize>()
    };
    let before = in_flight();
    let mut client = world.client(false).await?;
    let key = key.to_owned();
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", &key)]).await });
    envoy_test::until("the request is held", || in_flight() == before + 1).await?;
    Ok(held)
}

/// Lets all that is held be answered.
pub fn release_all(world: &World) {
    world.home.release_all();
    world.peers().for_each(Echo::release_all);
}

/// What the debug header says of a request with these headers.
pub async fn said(world: &World, headers: &[(&str, &str)]) -> Result<String> {
    Ok(world
        .get(headers)
        .await?
        .header("x-peer-spillover")
        .to_owned())
}
