//! `cargo demo`: the origin's experiment on a real Envoy, with the filter and without.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use envoy_test::demo::options::Options;
use envoy_test::demo::run::{Experiment, experiment};
use envoy_test::demo::{report, run};
use envoy_test::world::HOST;

#[tokio::main]
async fn main() -> ExitCode {
    match demo(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(options: &Options) -> Result<()> {
    let done = experiment(options).await?;
    println!("{}", report::summary(&done.report));
    let dir = xtask::target_dir().join("demo");
    report::write(&done.report, &dir)?;
    println!("Written to target/demo: result.json, spillover.svg, spillover.png");
    if options.keep {
        keep(options, &done).await?;
    }
    match done.report.broken_promise() {
        Some(broken) => anyhow::bail!(broken),
        None => Ok(()),
    }
}

/// Says how to play with what runs, and waits for Ctrl-C.
async fn keep(options: &Options, done: &Experiment) -> Result<()> {
    let (filter, origin) = (&done.filter, &done.origin);
    let burst = options.limit + 2;
    println!(
        "
Both are still running, until Ctrl-C. One request, and what was decided (x-peer-spillover):
  curl -si -H 'Host: {HOST}' {url}
More at once than home takes, {burst} against a limit of {limit}, with the filter and without:
  for i in $(seq {burst}); do curl -sw '\\n' -H 'Host: {HOST}' {url} & done; wait
  for i in $(seq {burst}); do curl -sw '\\n' -H 'Host: {HOST}' {origin_url} & done; wait
What the filter has counted, and its configuration:
  curl -s http://{admin}/stats | grep peer_spillover
  echo '{config}'",
        url = filter.url(),
        limit = options.limit,
        origin_url = origin.url(),
        admin = filter.envoy.admin(),
        config = run::plugin_config(options),
    );
    tokio::signal::ctrl_c()
        .await
        .context("cannot wait for Ctrl-C")
}
