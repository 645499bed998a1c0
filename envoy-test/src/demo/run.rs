//! The two runs of the demo, each in a world of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::drive::{Target, drive};
use super::options::Options;
use super::report::Table;
use super::result::{self, Report, Run, windows};
use crate::client::Dial;
use crate::world::{HOME, HOST, PEER, PEER_HOST, World};

/// How long either service takes for a request.
pub const DELAY: Duration = Duration::from_millis(100);

/// The experiment after its two runs, with both worlds still there.
pub struct Experiment {
    /// What they came to
    pub report: Report,
    /// Home's proxy has the filter
    pub filter: World,
    /// The set-up of 2020
    pub origin: World,
}

/// Runs the experiment with the filter, and as it was set up in 2020. Rows of what happened go to stdout as it happens;
/// progress to stderr, if that is a terminal.
/// # Errors
/// A tool is missing, the filter does not build, or an Envoy does not start. A request that fails is in the report.
pub async fn experiment(options: &Options) -> Result<Experiment> {
    // Both have their own progress, and take a while on a fresh machine.
    tokio::task::spawn_blocking(|| xtask::tools::envoy().and_then(|_| xtask::filter::ensure()))
        .await??;

    println!(
        "{HOME} (home, limit {}) and {PEER} (peer, behind its mTLS gateway), 100 ms a request\n",
        options.limit
    );
    println!("With peer-spillover, routing: {}", options.routing.word());
    let builder = World::builder().filter(plugin_config(options));
    let (filter, with) = world_and_run(builder, options).await?;
    println!("\nThe set-up of 2020 (its limits are 1) on the same Envoy, without the filter");
    let (origin, without) = world_and_run(World::builder().origin_of_2020(), options).await?;
    println!();

    let report = Report {
        home: HOME.to_owned(),
        peer: PEER.to_owned(),
        limit: options.limit,
        routing: options.routing.word().to_owned(),
        workers: options.workers,
        filter: with,
        without_filter: without,
    };
    Ok(Experiment {
        report,
        filter,
        origin,
    })
}

/// The filter's configuration, written as the DestinationRule of 2020 was.
pub fn plugin_config(options: &Options) -> Value {
    json!({
        "version": 1,
        "cluster": HOME,
        "role": "client",
        "mode": "enforce",
        "debugHeader": true,
        "services": [{
            "host": HOST,
            "routing": options.routing.word(),
            "trafficPolicy": {"connectionPool": {
                "tcp": {"maxConnections": options.limit},
                "http": {"http2MaxRequests": options.limit},
            }},
            "peers": [{"name": PEER, "host": PEER_HOST}],
        }],
    })
}

async fn world_and_run(builder: crate::world::Builder, options: &Options) -> Result<(World, Run)> {
    let starting = ProgressBar::new_spinner().with_message("starting both clusters");
    starting.enable_steady_tick(DELAY);
    let world = builder
        .workers(options.workers)
        .delays(DELAY, DELAY)
        .start()
        .await;
    starting.finish_and_clear();
    let world = world?;
    let run = run(&world, options).await?;
    Ok((world, run))
}

async fn run(world: &World, options: &Options) -> Result<Run> {
    let Options {
        clients, seconds, ..
    } = options;
    let progress = ProgressBar::new(clients.len() as u64 * u64::from(*seconds)).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} s")
            .context("the progress bar's template")?,
    );
    let per_second =
        u64::from(clients.iter().copied().max().unwrap_or(0)) * 1000 / DELAY.as_millis() as u64;
    let table = Table::new(PEER, per_second);
    progress.suspend(|| println!("{}", table.header()));
    progress.tick();

    world.home.reset_max();
    let target = Target {
        dial: Dial::to(world.addr()),
        url: (HOST.to_owned(), "/".to_owned()),
        served_by: |answer| answer.served_by().to_owned(),
        clusters: (HOME.to_owned(), PEER.to_owned()),
        pace: DELAY,
    };
    let samples = drive(target, &windows(clients, *seconds), |second, counts| {
        let clients = clients
            .get(second / *seconds as usize)
            .copied()
            .unwrap_or(0);
        progress.suspend(|| println!("{}", table.row(second + 1, clients, counts)));
        progress.inc(1);
    })
    .await;
    progress.finish_and_clear();
    let most = world.home.max_in_flight() as u64;
    Ok(result::run(
        &samples?,
        clients,
        *seconds,
        options.limit,
        most,
    ))
}
