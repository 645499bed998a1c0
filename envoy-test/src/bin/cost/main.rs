//! `cargo cost`: what the filter costs a request, in instructions of a real Envoy.
//!
//! Instructions and not time, since they repeat to a percent on any machine: callgrind counts all of Envoy, the module's
//! compiled code included, while h2load sends requests over one connection. What Envoy and the filter's ticks do by the
//! clock, and not by the request, is counted apart: under callgrind a second holds a hundredth of its requests.

mod counted;
mod variant;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use counted::Counted;
use envoy_test::{Envoy, EnvoyOptions};
use indicatif::{ProgressBar, ProgressStyle};

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
}

/// The denominators: where the upstream is.
const PATHS: [(&str, &str); 2] = [
    ("/remote", "the upstream is another process"),
    ("/hop", "the upstream is in the same Envoy, and counted"),
];

/// How long an Envoy without requests is counted.
const AT_REST: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match cost(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn cost(options: &Options) -> Result<()> {
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
        let proxy = {
            say(
                &bar,
                format!("{}: starting Envoy under callgrind", variant.name),
            );
            Counted::start(variant, upstream.listener("echo")).await?
        };
        let mut row = Vec::new();
        // After requests: until then the VM still compiles.
        proxy.load(PATHS[0].0, options.warm_up)?;
        say(&bar, format!("{}: counting at rest", variant.name));
        let at_rest = proxy.at_rest(AT_REST).await?;
        for (path, _) in PATHS {
            say(&bar, format!("{}: counting {path}", variant.name));
            proxy.load(path, options.warm_up)?;
            let mut counts = Vec::new();
            for _ in 0..options.rounds {
                counts.push(proxy.per_request(path, options.requests, at_rest).await?);
            }
            counts.sort_by(f64::total_cmp);
            row.push(counts[counts.len() / 2]);
        }
        row.push(at_rest);
        rows.push((variant.name, row));
    }
    bar.finish_and_clear();
    print(&rows, options);
    Ok(())
}

/// Progress, on a line that moves or, where there is no terminal, on one of its own.
fn say(bar: &ProgressBar, text: String) {
    if bar.is_hidden() {
        eprintln!("{text} …");
    }
    bar.set_message(text);
}

fn print(rows: &[(&str, Vec<f64>)], options: &Options) {
    println!(
        "Instructions per proxied request: one worker, HTTP/1.1, one connection, median of {} rounds of {} requests.",
        options.rounds, options.requests
    );
    for (column, (path, upstream)) in PATHS.iter().enumerate() {
        println!("\n{path}: {upstream}");
        println!(
            "{:<26}{:>14}{:>12}{:>12}",
            "", "instructions", "to empty", "to none"
        );
        let at = |row: usize| rows.get(row).and_then(|(_, counts)| counts.get(column));
        for (name, counts) in rows {
            let (Some(count), Some(none), Some(empty)) = (counts.get(column), at(0), at(1)) else {
                continue;
            };
            let (to_empty, to_none) = (count / empty, count / none);
            println!("{name:<26}{count:>14.0}{to_empty:>12.3}{to_none:>12.3}");
        }
    }
    println!("\nA second at rest, on two VMs (the worker's and the main thread's)");
    for (name, counts) in rows {
        if let Some(at_rest) = counts.get(PATHS.len()) {
            println!("{name:<26}{at_rest:>14.0}");
        }
    }
}
