//! `cargo demo`: the origin's experiment on a real Envoy, with the filter and without; or home's errors.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use envoy_test::demo::errors::{self, Errors, errors};
use envoy_test::demo::options::Options;
use envoy_test::demo::run::{Experiment, experiment};
use envoy_test::demo::{report, run};
use envoy_test::world::{HOST, World};
use serde_json::Value;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse()
        .check()
        .unwrap_or_else(|error| error.exit());
    let done = match options.errors {
        true => of_errors(&options).await,
        false => of_overflow(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn of_overflow(options: &Options) -> Result<()> {
    let done = experiment(options).await?;
    println!("{}", report::summary(&done.report));
    let dir = xtask::target_dir().join("demo");
    match &done.eject {
        Some(eject) => {
            println!("{}", eject.summary(&done.report.peer));
            report::write_eject(&done.report, eject, &dir)?;
            println!("Written to target/demo: eject.json, eject.svg, eject.png");
        }
        None => {
            report::write(&done.report, &dir)?;
            println!("Written to target/demo: result.json, spillover.svg, spillover.png");
        }
    }
    if options.keep {
        keep(options, &done).await?;
    }
    let broken = done.report.broken_promise();
    ended(broken.or_else(|| done.eject.and_then(|eject| eject.broken)))
}

async fn of_errors(options: &Options) -> Result<()> {
    let done = errors(options).await?;
    println!("{}", done.report.summary());
    report::write_errors(&done.report, &xtask::target_dir().join("demo"))?;
    println!("Written to target/demo: errors.json, errors.svg, errors.png");
    if options.keep {
        keep_errors(options, &done).await?;
    }
    ended(done.report.broken)
}

fn ended(broken: Option<String>) -> Result<()> {
    match broken {
        Some(broken) => anyhow::bail!(broken),
        None => Ok(()),
    }
}

/// Says how to play with what runs, and waits for Ctrl-C.
async fn keep(options: &Options, done: &Experiment) -> Result<()> {
    let burst = options.limit + 2;
    println!(
        "
Both are still running, until Ctrl-C. One request, and what was decided (x-peer-spillover):
  curl -si -H 'Host: {HOST}' {url}
More at once than home takes, {burst} against a limit of {limit}, with the filter and without:
  for i in $(seq {burst}); do curl -sw '\\n' -H 'Host: {HOST}' {url} & done; wait
  for i in $(seq {burst}); do curl -sw '\\n' -H 'Host: {HOST}' {origin_url} & done; wait",
        url = done.filter.url(),
        limit = options.limit,
        origin_url = done.origin.url(),
    );
    until_ctrl_c(&done.filter, &run::plugin_config(options)).await
}

/// As [`keep`], for a home that can be made to fail.
async fn keep_errors(options: &Options, done: &Errors) -> Result<()> {
    println!(
        "
It is still running, until Ctrl-C. One request, and what was decided (x-peer-spillover):
  curl -si -H 'Host: {HOST}' {url}
Five errors of home, and then its requests go to the peer until a probe is answered:
  for i in $(seq 5); do curl -sw '\\n' -H 'Host: {HOST}' -H 'x-status: 500' {url}; done
  for i in $(seq 20); do curl -si -H 'Host: {HOST}' {url} | grep x-peer-spillover: ; sleep 0.2; done",
        url = done.world.url(),
    );
    until_ctrl_c(&done.world, &errors::plugin_config(options)).await
}

async fn until_ctrl_c(world: &World, config: &Value) -> Result<()> {
    println!(
        "What the filter has counted, and its configuration:
  curl -s http://{}/stats | grep peer_spillover
  echo '{config}'",
        world.envoy.admin(),
    );
    tokio::signal::ctrl_c()
        .await
        .context("cannot wait for Ctrl-C")
}
