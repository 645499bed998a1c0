//! `cargo cost`: what the filter costs a request, in instructions of a real Envoy.
//!
//! Instructions and not time, since they repeat to a percent on any machine: callgrind counts all of Envoy, the module's
//! compiled code included, while h2load sends requests over one connection. What Envoy and the filter's ticks do by the
//! clock, and not by the request, is counted apart: under callgrind a second holds a hundredth of its requests.
//!
//! `cargo cost --gate` counts less and fails where it is more than `variant.rs` allows, so that nobody makes the filter
//! slower unseen. As a ratio to the SDK's empty filter in the same run it says the same on another machine.
//!
//! `cargo cost --configure` measures what a change of the configuration costs a worker, and `cargo cost --memory` what
//! memory an Envoy takes.

mod configure;
mod counted;
mod memory;
mod plan;
mod table;
mod variant;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use counted::Counted;
use envoy_test::{Envoy, EnvoyOptions};
use indicatif::{ProgressBar, ProgressStyle};
use plan::Plan;
use table::Row;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use variant::Variant;

/// Count the instructions that a proxied request costs: without a filter, with the SDK's empty one, and with ours.
#[derive(Parser)]
struct Options {
    /// Requests that are counted at a time.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Requests before, so that the VM has compiled what is hot.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    warm_up: u32,
    /// How often it is counted; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Count only what has bounds, quickly, and fail where something costs more than it may.
    #[arg(long, conflicts_with_all = ["requests", "warm_up", "rounds"])]
    gate: bool,
    /// Measure instead how long a worker stands still where the configuration of so many services changes.
    #[arg(long, value_name = "SERVICES", num_args = 0..=1, default_missing_value = "1000", conflicts_with_all = ["gate", "requests", "warm_up"])]
    configure: Option<usize>,
    /// Measure instead what memory an Envoy takes.
    #[arg(long, conflicts_with_all = ["gate", "configure", "requests", "warm_up", "rounds"])]
    memory: bool,
}

impl Options {
    fn plan(&self) -> Plan {
        if self.gate {
            Plan::gate()
        } else {
            Plan::whole(self.requests, self.warm_up, self.rounds)
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let too_dear = match options.configure {
        _ if options.memory => memory::print().await.map(|()| Vec::new()),
        Some(services) => configure::print(services, options.rounds.max(11))
            .await
            .map(|()| Vec::new()),
        None => cost(&options).await,
    };
    let errors = too_dear.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for error in &errors {
        eprintln!("error: {error}");
    }
    if errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Counts and prints. A line for each variant that costs more than it may, where that is asked for.
async fn cost(options: &Options) -> Result<Vec<String>> {
    let plan = options.plan();
    for (program, package) in [
        ("valgrind", "valgrind"),
        ("callgrind_control", "valgrind"),
        ("h2load", "nghttp2-client"),
    ] {
        if xtask::tools::on_path(program).is_none() {
            bail!("{program} is missing: install it (Debian: apt-get install {package})");
        }
    }
    let mut variants = tokio::task::spawn_blocking(variant::all).await??;
    variants.extend(variant::spills()?);
    let echo = format!("static_resources:\n  listeners:\n{}", counted::ECHO);
    let upstream = Envoy::start(
        echo.replace("{{echo}}", "0"),
        EnvoyOptions {
            name: "cost-upstream".to_owned(),
            log_level: "warning".to_owned(),
            ..EnvoyOptions::default()
        },
    )
    .await?;

    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(200));
    let plan = Arc::new(plan);
    let turns = Arc::new(Semaphore::new(plan.at_a_time));
    let local = LocalSet::new();
    let counted: Vec<_> = variants
        .into_iter()
        .map(|variant| {
            let (plan, turns, bar) = (plan.clone(), turns.clone(), bar.clone());
            let upstream = upstream.listener("echo");
            local.spawn_local(async move {
                // In the order of the list: a semaphore is fair.
                let _turn = turns.acquire().await?;
                count(variant, upstream, &plan, &bar).await
            })
        })
        .collect();
    local.await;
    let mut rows = Vec::new();
    for row in counted {
        rows.push(row.await??);
    }
    bar.finish_and_clear();
    table::print(&rows, &plan, options.gate);
    Ok(if options.gate {
        table::too_dear(&rows)
    } else {
        Vec::new()
    })
}

/// Counts what one variant costs. Its Envoy is gone when this returns.
async fn count(
    variant: Variant,
    upstream: SocketAddr,
    plan: &Plan,
    bar: &ProgressBar,
) -> Result<Row> {
    let name = variant.name;
    say(bar, format!("{name}: starting Envoy under callgrind"));
    let proxy = Counted::start(&variant, upstream).await?;
    for (path, _) in plan.paths {
        say(bar, format!("{name}: warming up {path}"));
        proxy.load(path, plan.warm_up).await?;
    }
    proxy.begin()?;
    // After requests: until then the VM still compiles.
    say(bar, format!("{name}: counting at rest"));
    let at_rest = proxy.at_rest(plan.at_rest).await?;
    let mut counts = Vec::new();
    for (path, _) in plan.paths {
        say(bar, format!("{name}: counting {path}"));
        counts.push(median(&proxy, path, plan, at_rest).await?);
    }
    Ok(Row {
        variant,
        counts,
        at_rest,
    })
}

/// Instructions per request of `path`, of all rounds the middle one.
async fn median(proxy: &Counted, path: &str, plan: &Plan, at_rest: f64) -> Result<f64> {
    let mut counts = Vec::new();
    for _ in 0..plan.rounds {
        counts.push(proxy.per_request(path, plan.requests, at_rest).await?);
    }
    counts.sort_by(f64::total_cmp);
    Ok(counts[counts.len() / 2])
}

/// Progress, on a line that moves or, where there is no terminal, on one of its own.
fn say(bar: &ProgressBar, text: String) {
    if bar.is_hidden() {
        eprintln!("{text} …");
    }
    bar.set_message(text);
}
