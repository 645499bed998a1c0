//! What the tests of replacement share: configurations, modules, loads, held requests, and what is left at the end.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::load::{LoadOptions, Until, closed_loop};
use envoy_test::wait::until_some;
use envoy_test::world::{
    HOME, PEER, PLUGIN, Update, metric, peer_host, plugin_config, service_metric,
};
use envoy_test::{Answer, Client, Envoy, Outcome, World};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A service that comes and goes.
pub const GUEST: &str = "b.istio.svc.cluster.local";
pub const WORKERS: u32 = 2;

/// How long a load lasts.
pub fn duration() -> Result<Duration> {
    let seconds = env::var("PEER_SPILLOVER_REPLACEMENT_SECONDS");
    let seconds = seconds.as_deref().unwrap_or("6").parse();
    Ok(Duration::from_secs(
        seconds.context("PEER_SPILLOVER_REPLACEMENT_SECONDS")?,
    ))
}

/// These services with their limits. Nothing else depends on `version`: it makes another configuration of the same.
pub fn config(services: &[(&str, u32)], version: u32) -> Value {
    let mut config = plugin_config(1);
    config["trustDomains"] = json!([format!("v{version}.example")]);
    let services = services.iter().map(|(host, limit)| {
        let mut service = plugin_config(*limit)["services"][0].take();
        service["host"] = json!(host);
        service["peers"][0]["host"] = json!(peer_host(host, PEER));
        service
    });
    config["services"] = services.collect();
    config
}

/// The shipped module, and another: of the same code, with other bytes and so another build id.
pub fn builds(world: &World) -> Result<[PathBuf; 2]> {
    let shipped = xtask::filter::ensure()?;
    let other = world.envoy.dir().join("other.wasm");
    // What the shipped one was before it got its build id; a custom section (id 0, its size, its name) changes nothing.
    let optimised = "filter/wasm32-wasip1/filter/peer_spillover.optimised.wasm";
    let mut bytes = fs::read(xtask::target_dir().join(optimised))?;
    bytes.extend(b"\0\x06\x05other");
    fs::write(&other, xtask::filter::identify(bytes)?)?;
    Ok([shipped, other])
}

pub async fn world(hosts: &[&str], services: &[(&str, u32)]) -> Result<World> {
    let world = World::builder()
        .hosts(hosts.iter().copied())
        .filter(config(services, 0))
        .workers(WORKERS);
    world.start().await
}

/// Runs these loads again and again, each time on new connections, until `work` is done.
pub async fn under<T>(
    loads: Vec<LoadOptions>,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Vec<Outcome>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for load in loads {
        let stop = stop.clone();
        running.push(tokio::spawn(async move {
            let mut outcomes = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                outcomes.extend(closed_loop(load.clone()).await?);
            }
            anyhow::Ok(outcomes)
        }));
    }
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    let mut outcomes = Vec::new();
    for load in running {
        outcomes.extend(load.await??);
    }
    Ok((done?, outcomes))
}

/// Short and long requests for `host`, over HTTP/1.1 and HTTP/2: six at once.
pub fn mixed(url: &str, host: &str) -> Vec<LoadOptions> {
    let load = |clients: usize, requests: usize, http2: bool, millis: &str| {
        let mut load = LoadOptions::new(url, clients, Until::Requests(requests)).http2(http2);
        load.host = host.to_owned();
        load.header("x-delay-ms", millis)
    };
    vec![
        load(2, 100, false, "3"),
        load(2, 100, true, "3"),
        load(1, 3, false, "350"),
        load(1, 3, true, "350"),
    ]
}

/// The first few that failed.
pub fn failures(outcomes: &[Outcome]) -> Vec<&Outcome> {
    let failed = outcomes.iter().filter(|outcome| !outcome.is_ok());
    failed.take(5).collect()
}

/// Every 100 ms another configuration, until the time is over: how many there were.
pub async fn updates(
    world: &World,
    next: impl Fn(u32) -> (Value, Option<PathBuf>),
) -> Result<[u32; 2]> {
    let (end, mut steps) = (
        Instant::now() + duration()?,
        interval(Duration::from_millis(100)),
    );
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut n, mut modules, mut module) = (0, 0, xtask::filter::ensure()?);
    while Instant::now() < end {
        steps.tick().await;
        n += 1;
        let (config, other) = next(n);
        if let Some(other) = other.filter(|other| *other != module) {
            modules += 1;
            module = other;
        }
        let update = world.set_filter(0, &module, config).await?;
        ensure!(update == Update::Accepted, "update {n}");
    }
    Ok([n, modules])
}

/// Waits until nothing is counted any more, in any share, and all that should run does: VMs by what they say themselves,
/// and by their shares.
pub async fn at_rest(envoy: &Envoy, vms: i64) -> Result<()> {
    let plugin = |name| metric(&[("plugin", PLUGIN), ("role", "client")], name);
    let mut seen = BTreeMap::new();
    let rest = until_some("nothing is counted, and all VMs run", async || {
        seen = envoy.stats_matching("wasmcustom.").await.ok()?;
        let all = |end: &str| -> Vec<i64> {
            let found = seen.iter().filter(|(name, _)| name.ends_with(end));
            found.map(|(_, value)| *value).collect()
        };
        let counted = [all(";.;in_flight"), all(";.;requests_share")].concat();
        let right = counted.iter().all(|n| *n == 0)
            && all(";.;running_share").iter().sum::<i64>() == vms
            // Without any VM Envoy has no gauge either.
            && seen.get(&plugin("configured")).copied().unwrap_or(0) == vms
            && (vms == 0 || seen.get(&plugin("workers")) == Some(&(vms - 1)));
        right.then_some(())
    });
    let rest = rest.await;
    seen.retain(|_, value| *value != 0);
    rest.with_context(|| format!("{seen:#?}"))
}

/// Requests that home holds, each on a connection of its own, so that all workers have some.
pub struct Held<'a> {
    world: &'a World,
    open: Vec<(String, JoinHandle<Result<Answer>>)>,
    keys: usize,
}

impl Held<'_> {
    pub fn none(world: &World) -> Held<'_> {
        Held {
            world,
            open: Vec::new(),
            keys: 0,
        }
    }

    pub async fn more(&mut self, host: &'static str, n: usize) -> Result<()> {
        let open = self.world.home.in_flight() + n;
        for _ in 0..n {
            self.keys += 1;
            let key = self.keys.to_string();
            let (mut client, hold) = (Client::http1(self.world.addr()).await?, key.clone());
            let answer = async move { client.get(host, &[("x-hold", &hold)]).await };
            self.open.push((key, tokio::spawn(answer)));
        }
        self.world.home.wait_in_flight(open).await
    }

    /// Lets the oldest go; each must be answered as if nothing had happened.
    pub async fn release(&mut self, n: usize) -> Result<()> {
        for (key, answer) in self.open.drain(..n) {
            self.world.home.release(&key);
            let answer = answer.await??;
            ensure!((answer.status, answer.served_by()) == (200, HOME), "{key}");
        }
        Ok(())
    }
}

/// Who serves the next requests for `host`: one on each of several connections, so that all workers are asked.
pub async fn served_by(world: &World, host: &str, by: &str) -> Result<()> {
    for n in 0..8 {
        let answer = world.client(n % 2 == 1).await?.get(host, &[]).await?;
        ensure!(
            (answer.status, answer.served_by()) == (200, by),
            "{host}, {n}: {} {}",
            answer.status,
            answer.served_by()
        );
        // Its slot is given back a moment after its answer.
        until_some("it is over", async || {
            let open = world.home.in_flight() as i64;
            (counted(world, host).await.ok()? <= open).then_some(())
        })
        .await?;
    }
    Ok(())
}

pub async fn counted(world: &World, host: &str) -> Result<i64> {
    let name = service_metric(host, "in_flight");
    Ok(world.envoy.stat(&name).await?.unwrap_or(0))
}

pub async fn wait_counted(world: &World, host: &str, n: i64) -> Result<()> {
    let name = service_metric(host, "in_flight");
    world.envoy.wait_stat(&name, |count| count == n).await?;
    Ok(())
}

/// Waits until each VM that lives has ticked so often.
pub async fn beats(world: &World, n: i64) -> Result<()> {
    let before = world.envoy.stats_matching(";.;beats").await?;
    until_some("every VM has ticked", async || {
        let now = world.envoy.stats_matching(";.;beats").await.ok()?;
        let enough = now.iter().filter(|(vm, beat)| {
            let before = before.get(*vm).copied().unwrap_or(0);
            *beat - before >= n
        });
        (enough.count() > WORKERS as usize).then_some(())
    })
    .await
}
