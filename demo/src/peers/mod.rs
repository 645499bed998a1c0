//! `cargo demo --peers N`: the surplus of home goes to several peers by priority and weight, and one of them is killed and
//! comes back.

mod plan;
mod promise;
mod report;

use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{LoadOptions, Outcome, Until, closed_loop};
use envoy_test::world::{HOME, HOST, World, decisions};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::in_flight::most_per_second;
use crate::options::Options;
use crate::peers::plan::{Plan, Stage};
use crate::run::{DELAY, begin, start};
pub use report::PeersReport;
use report::{Phase, table};

/// One request of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    /// When it was sent, from the start of the run.
    sent: Duration,
    /// The index of its phase.
    phase: usize,
    /// Where the filter sent it: 0 for home, then the peers in their order. `None` if the answer did not say.
    to: Option<usize>,
    /// Its status. 0 if there was no complete answer.
    status: u16,
}

impl Request {
    fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The run, with its world still there.
pub struct Peers {
    /// The result
    pub report: PeersReport,
    /// Home's proxy has the filter
    pub world: World,
}

/// Runs it. A row for each second goes to stdout after each phase; progress to stderr, if that is a terminal.
/// # Errors
/// A tool is missing, the filter does not build, or an Envoy does not start. A request that fails is in the report.
pub async fn peers(options: &Options) -> Result<Peers> {
    begin().await?;
    let plan = Plan::of(options);
    println!("{}\n", plan.description());
    let builder = World::builder().filter(plan.plugin_config(options));
    let others = plan.peers.iter().skip(1).map(|peer| peer.name);
    let world = start(builder.more_peers(others), options).await?;
    let (requests, most) = drive(&world, &plan, options).await?;
    println!();
    world.wait_idle().await?;
    let seen = Seen::of(&world, &plan).await?;
    let broken = promise::broken(&plan, &requests, &seen);
    let report = PeersReport::new(&plan, options, &requests, seen, most, broken);
    Ok(Peers { report, world })
}

/// The filter's configuration.
pub fn plugin_config(options: &Options) -> Value {
    Plan::of(options).plugin_config(options)
}

/// The numbers that the services and Envoy have of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// The most requests that home and each peer had in flight at once.
    most_in_flight: Vec<u64>,
    /// How many requests the filter says that it sent to home and to each peer.
    decided: Vec<u64>,
    /// How often the peer that was killed was ejected.
    ejections: u64,
    /// The sum of the counts of requests in flight at the end.
    left: i64,
}

impl Seen {
    async fn of(world: &World, plan: &Plan) -> Result<Seen> {
        let names: Vec<&str> = plan.names().collect();
        let decisions = decisions(&world.envoy, HOST).await?;
        let decided = |name: &&str| {
            let name = if *name == HOME { "home" } else { name };
            let of = decisions.iter().filter(|((to, _), _)| to == name);
            of.map(|(_, n)| n.unsigned_abs()).sum()
        };
        let stats = world.envoy.stats_matching("peer_spillover_").await?;
        let sum = |of: &dyn Fn(&str) -> bool| -> i64 {
            let all = stats.iter().filter(|(name, _)| of(name));
            all.map(|(_, value)| *value).sum()
        };
        let killed = format!(";.;peer=.={};", plan.killed());
        let echoes = [&world.home].into_iter().chain(world.peers());
        Ok(Seen {
            most_in_flight: echoes.map(|echo| echo.max_in_flight() as u64).collect(),
            decided: names.iter().map(decided).collect(),
            ejections: sum(&|name| name.contains(&killed) && name.ends_with("peer_ejections"))
                .unsigned_abs(),
            left: sum(&|name| name.ends_with("in_flight")),
        })
    }
}

/// Sends the load of all phases. Returns its requests, and the most that home had in flight in each second.
async fn drive(world: &World, plan: &Plan, options: &Options) -> Result<(Vec<Request>, Vec<u64>)> {
    let seconds = options.seconds();
    let length = Duration::from_secs(seconds.into());
    let progress = ProgressBar::new(plan.stages.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} phase {pos}/{len}")?);
    progress.suspend(|| println!("{}", table::header(plan)));
    progress.tick();
    let (mut requests, mut changes) = (Vec::new(), Vec::new());
    for (phase, stage) in plan.stages.iter().enumerate() {
        match stage {
            Stage::Killed => world.peer.close().await?,
            Stage::Back => world.peer.reopen().await?,
            _ => {}
        }
        let clients = plan.clients(*stage) as usize;
        let load = LoadOptions {
            pace: DELAY,
            ..LoadOptions::new(world.url(), clients, Until::Elapsed(length))
        };
        let from = length * phase as u32;
        world.home.reset_max();
        let began = std::time::Instant::now();
        let outcomes = closed_loop(load).await?;
        for (at, n) in world.home.changes() {
            changes.push((from + at.saturating_duration_since(began), n as u64));
        }
        requests.extend(
            outcomes
                .iter()
                .map(|outcome| request(plan, outcome, phase, from)),
        );
        let of_phase = Phase::of(plan, &requests, phase, seconds);
        progress.suspend(|| print!("{}", table::rows(plan, &of_phase, phase, seconds)));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let all = plan.stages.len() * seconds as usize;
    Ok((requests, most_per_second(&changes, all)))
}

fn request(plan: &Plan, outcome: &Outcome, phase: usize, from: Duration) -> Request {
    let to = outcome.decision.split(';').next().unwrap_or_default();
    let to = if to == "home" { HOME } else { to };
    Request {
        sent: from + outcome.at.saturating_sub(outcome.latency),
        phase,
        to: plan.names().position(|name| name == to),
        status: outcome.status,
    }
}
