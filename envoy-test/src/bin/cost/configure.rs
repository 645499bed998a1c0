//! `cargo cost --configure`: for how long a worker stands still where the configuration of many services changes.
//!
//! Two Envoys at once, one with the SDK's empty filter and one with ours, are given the same bytes in turn. Of each update
//! there are two figures: the longest that a request waited for its answer meanwhile, of requests that are sent one after
//! another to the only worker; and, without requests, the CPU time of the worker's thread by the kernel's accounting.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use envoy_test::World;
use envoy_test::world::{HOME, HOST, PEER, Update, peer_host};
use serde_json::{Value, json};

/// Until what follows an update has been done: the first tick of the new configuration, and the end of the one before.
const SETTLE: Duration = Duration::from_millis(500);

/// One of the two.
struct Side {
    name: &'static str,
    world: World,
    /// Nanoseconds of the worker, by the update.
    spent: Vec<u64>,
    /// Nanoseconds that a request waited, by the update.
    waited: Vec<u64>,
}

/// Counts and prints.
/// # Errors
/// An Envoy does not start, or refuses an update, or the kernel does not tell.
pub async fn print(services: usize, rounds: u32) -> Result<()> {
    let (empty, ours) = tokio::task::spawn_blocking(|| {
        anyhow::Ok((
            envoy_test::empty_filter::empty_filter()?,
            xtask::filter::ensure()?,
        ))
    })
    .await??;
    let mut sides = [
        Side::start("the SDK's empty filter", &empty, services).await?,
        Side::start("peer-spillover", &ours, services).await?,
    ];
    for round in 1..=rounds {
        for side in &mut sides {
            side.update_at_rest(services, round).await?;
            side.update_under_load(services, rounds + round).await?;
        }
    }
    let bytes = config(services, 1).to_string().len();
    println!(
        "A change of {services} services ({bytes} bytes), of which 3 were used: medians of {rounds}."
    );
    for what in ["The longest wait of a request", "CPU time of the worker"] {
        println!("\n{what}");
        let of = |side: &Side| match what {
            "CPU time of the worker" => median(&side.spent),
            _ => median(&side.waited),
        };
        let yardstick = of(&sides[0]) as f64;
        for side in &sides {
            let median = of(side) as f64;
            let (name, millis, ratio) = (side.name, median / 1e6, median / yardstick);
            println!("{name:<40}{millis:>9.2} ms{ratio:>9.2} to empty");
        }
    }
    Ok(())
}

impl Side {
    async fn start(name: &'static str, module: &Path, services: usize) -> Result<Side> {
        let used = (0..3).map(host);
        let world = World::builder()
            .module(module)
            .filter(config(services, 0))
            .hosts(used.clone())
            .start()
            .await?;
        for host in used {
            world.client(false).await?.get(&host, &[]).await?;
        }
        Ok(Side {
            name,
            world,
            spent: Vec::new(),
            waited: Vec::new(),
        })
    }

    async fn update(&self, services: usize, round: u32) -> Result<()> {
        let update = self
            .world
            .set_filter_config(config(services, round))
            .await?;
        ensure!(update == Update::Accepted, "{} refuses it", self.name);
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    async fn update_at_rest(&mut self, services: usize, round: u32) -> Result<()> {
        let before = worker_time(self.world.envoy.pid())?;
        self.update(services, round).await?;
        let after = worker_time(self.world.envoy.pid())?;
        self.spent.push(after - before);
        Ok(())
    }

    async fn update_under_load(&mut self, services: usize, round: u32) -> Result<()> {
        let mut client = self.world.client(false).await?;
        let mut longest = Duration::ZERO;
        // Until the update is done.
        let load = async {
            loop {
                let sent = Instant::now();
                if let Err(error) = client.get(HOST, &[]).await {
                    break Err(error);
                }
                longest = longest.max(sent.elapsed());
            }
        };
        tokio::select! {
            updated = self.update(services, round) => updated,
            failed = load => failed,
        }?;
        self.waited.push(u64::try_from(longest.as_nanos())?);
        Ok(())
    }
}

fn median(of: &[u64]) -> u64 {
    let mut of = of.to_vec();
    of.sort_unstable();
    of[of.len() / 2]
}

fn host(n: usize) -> String {
    match n {
        0 => HOST.to_owned(),
        n => format!("service-{n}.istio.svc.cluster.local"),
    }
}

/// As a user would write it for so many services; each round has another limit.
fn config(services: usize, round: u32) -> Value {
    let service = |n| {
        let host = host(n);
        json!({
            "host": host,
            "trafficPolicy": {
                "connectionPool": {"http": {"http2MaxRequests": 100 + round}},
                "outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s"},
            },
            "peers": [{"name": PEER, "host": peer_host(&host, PEER)}],
        })
    };
    json!({
        "version": 1,
        "cluster": HOME,
        "services": (0..services).map(service).collect::<Vec<_>>(),
    })
}

/// Nanoseconds that the first worker of this Envoy has run.
fn worker_time(pid: u32) -> Result<u64> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "wrk:worker_0" {
            let times = fs::read_to_string(task.join("schedstat"))?;
            let first = times.split(' ').next().context("schedstat")?;
            return Ok(first.parse()?);
        }
    }
    anyhow::bail!("Envoy {pid} has no thread wrk:worker_0")
}
