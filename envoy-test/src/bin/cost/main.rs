//! `cargo cost`: what the filter costs a request, in instructions of a real Envoy.
//!
//! Instructions and not time, since they repeat to a percent on any machine: callgrind counts all of Envoy, the module's
//! compiled code included, while h2load sends requests over one connection. What Envoy and the filter's ticks do by the
//! clock, and not by the request, is counted apart: under callgrind a second holds a hundredth of its requests.
//!
//! `cargo cost --gate` counts less and fails where it is more than `variant.rs` allows, so that nobody makes the filter
//! slower unseen. As a ratio to the SDK's empty filter in the same run it says the same on another machine.

mod counted;
mod plan;
mod table;
mod variant;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use counted::Counted;
use envoy_test::{Envoy, EnvoyOptions};
use indicatif::{ProgressBar, ProgressStyle};
use plan::Plan;
use table::Row;

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
    let too_dear = cost(&Options::parse()).await;
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
    let variants = tokio::task::spawn_blocking(variant::all).await??;
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
    let mut rows = Vec::new();
    for variant in &variants {
        say(
            &bar,
            format!("{}: starting Envoy under callgrind", variant.name),
        );
        // One at a time: it is gone before the next one starts.
        let proxy = Counted::start(variant, upstream.listener("echo")).await?;
        for (path, _) in plan.paths {
            say(&bar, format!("{}: warming up {path}", variant.name));
            proxy.load(path, plan.warm_up)?;
        }
        proxy.begin()?;
        // After requests: until then the VM still compiles.
        say(&bar, format!("{}: counting at rest", variant.name));
        let at_rest = proxy.at_rest(plan.at_rest).await?;
        let mut counts = Vec::new();
        for (path, _) in plan.paths {
            say(&bar, format!("{}: counting {path}", variant.name));
            counts.push(median(&proxy, path, &plan, at_rest).await?);
        }
        rows.push(Row {
            variant,
            counts,
            at_rest,
        });
    }
    bar.finish_and_clear();
    table::print(&rows, &plan, options.gate);
    Ok(if options.gate {
        table::too_dear(&rows)
    } else {
        Vec::new()
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
