//! The two runs of the demo, each in a world of its own, and what its other runs share with them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use envoy_test::client::Dial;
use envoy_test::world::{Builder, HOME, HOST, PEER, PEER_HOST, World};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::drive::{Target, drive};
use crate::eject::Eject;
use crate::in_flight::most_per_second;
use crate::options::{EJECT_INTERVAL, Options};
use crate::report::Table;
use crate::result::{self, LIMIT_OF_2020, Report, Run, Window, windows};
use crate::sample::Sample;

/// How long either service takes for a request.
pub const DELAY: Duration = Duration::from_millis(100);

/// The experiment after its two runs, with both worlds still there.
pub struct Experiment {
    /// What they came to
    pub report: Report,
    /// What became of home, with `--overflow eject`
    pub eject: Option<Eject>,
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
    begin().await?;
    println!(
        "{HOME} (home, limit {}) and {PEER} (peer, behind its mTLS gateway), 100 ms a request\n",
        options.limit
    );
    let overflow = match options.ejects() {
        true => format!(
            ", overflow: eject, baseEjectionTime: {}",
            options.ejection()
        ),
        false => String::new(),
    };
    println!(
        "With peer-spillover, routing: {}{overflow}",
        options.routing.word()
    );
    let filter = start(World::builder().filter(plugin_config(options)), options).await?;
    let (with, samples) = run(&filter, options, options.limit).await?;
    let eject = match options.ejects() {
        true => Some(Eject::of(&filter, &samples, options).await?),
        false => None,
    };
    println!(
        "\nThe set-up of 2020 (its limits are {LIMIT_OF_2020}) on the same Envoy, without the filter"
    );
    let origin = start(World::builder().origin_of_2020(), options).await?;
    let (without, _) = run(&origin, options, LIMIT_OF_2020).await?;
    println!();

    let report = Report {
        home: HOME.to_owned(),
        peer: PEER.to_owned(),
        routing: options.routing.word().to_owned(),
        workers: options.workers,
        filter: with,
        without_filter: without,
    };
    Ok(Experiment {
        report,
        eject,
        filter,
        origin,
    })
}

/// Sees to it that what is needed is there.
pub(crate) async fn begin() -> Result<()> {
    // Both have their own progress, and take a while on a fresh machine: side by side, since one waits for the network.
    let envoy = async { spawn_blocking(xtask::tools::envoy).await? };
    let filter = async { spawn_blocking(xtask::filter::ensure).await? };
    tokio::try_join!(envoy, filter)?;
    Ok(())
}

/// The filter's configuration, written as the DestinationRule of 2020 was.
pub fn plugin_config(options: &Options) -> Value {
    let mut config = service(options);
    let service = &mut config["services"][0];
    service["trafficPolicy"] = json!({"connectionPool": {
        "tcp": {"maxConnections": options.limit},
        "http": {"http2MaxRequests": options.limit},
    }});
    if options.ejects() {
        service["overflow"] = "eject".into();
        service["trafficPolicy"]["outlierDetection"] = json!({
            "consecutiveErrors": 1,
            "interval": format!("{EJECT_INTERVAL}s"),
            "baseEjectionTime": options.ejection().to_string(),
            "maxEjectionPercent": 100,
        });
    }
    config
}

/// The filter's configuration without a `trafficPolicy`.
pub(crate) fn service(options: &Options) -> Value {
    json!({
        "version": 1,
        "cluster": HOME,
        "role": "client",
        "mode": "enforce",
        "debugHeader": true,
        "services": [{
            "host": HOST,
            "routing": options.routing.word(),
            "peers": [{"name": PEER, "host": PEER_HOST}],
        }],
    })
}

/// Starts both clusters.
pub(crate) async fn start(builder: Builder, options: &Options) -> Result<World> {
    let starting = ProgressBar::new_spinner().with_message("starting both clusters");
    starting.enable_steady_tick(DELAY);
    let world = builder
        .workers(options.workers)
        .delays(DELAY, DELAY)
        .start()
        .await;
    starting.finish_and_clear();
    world
}

async fn run(world: &World, options: &Options, limit: u32) -> Result<(Run, Vec<Sample>)> {
    let (clients, seconds) = (options.clients(), options.seconds());
    let most = clients.iter().copied().max().unwrap_or(0);
    let table = Table::new(PEER, u64::from(most) * 1000 / DELAY.as_millis() as u64);
    let length = clients.len() as u32 * seconds;
    let connections = |second: usize| {
        let clients = clients.get(second / seconds as usize);
        clients.copied().unwrap_or(0).to_string()
    };
    world.home.reset_max();
    let windows = windows(&clients, seconds);
    let (start, samples) = shown(world, &windows, length, &table, connections).await?;
    let changes = world.home.changes();
    let changes = changes
        .iter()
        .map(|&(at, n)| (at.saturating_duration_since(start), n as u64));
    let most = most_per_second(&changes.collect::<Vec<_>>(), length as usize);
    let run = result::run(&samples, &clients, seconds, limit, most);
    Ok((run, samples))
}

/// Runs a load of so many seconds and prints a row for each; `what` is said of a second in the row's second column.
/// Returns when it began, and its requests.
pub(crate) async fn shown(
    world: &World,
    windows: &[Window],
    length: u32,
    table: &Table,
    what: impl Fn(usize) -> String,
) -> Result<(Instant, Vec<Sample>)> {
    let progress = ProgressBar::new(length.into()).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} s")
            .context("the progress bar's template")?,
    );
    progress.suspend(|| println!("{}", table.header()));
    progress.tick();
    let target = Target {
        dial: Dial::to(world.addr()),
        url: (HOST.to_owned(), "/".to_owned()),
        served_by: |answer| answer.served_by().to_owned(),
        clusters: (HOME.to_owned(), PEER.to_owned()),
        pace: DELAY,
    };
    let start = Instant::now();
    let samples = drive(target, windows, |second, counts| {
        progress.suspend(|| println!("{}", table.row(second + 1, what(second), counts)));
        progress.inc(1);
    })
    .await;
    progress.finish_and_clear();
    Ok((start, samples?))
}
