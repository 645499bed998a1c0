//! `cargo demo`: the origin's experiment on a real Envoy, with the filter and without; or home's errors; or
//! several peers.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use demo::errors::errors;
use demo::options::Options;
use demo::peers::peers;
use demo::run::experiment;
use demo::{keep, report};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse()
        .check()
        .unwrap_or_else(|error| error.exit());
    let done = match options.peers {
        _ if options.errors => of_errors(&options).await,
        1 => of_overflow(&options).await,
        _ => of_peers(&options).await,
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
        until_ctrl_c(&keep::lines(options, &done)).await?;
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
        until_ctrl_c(&keep::errors_lines(options, &done)).await?;
    }
    ended(done.report.broken)
}

async fn of_peers(options: &Options) -> Result<()> {
    let done = peers(options).await?;
    println!("{}", done.report.summary());
    report::write_peers(&done.report, &xtask::target_dir().join("demo"))?;
    println!("Written to target/demo: peers.json, peers.svg, peers.png");
    if options.keep {
        until_ctrl_c(&keep::peers_lines(options, &done)).await?;
    }
    ended(done.report.broken)
}

fn ended(broken: Option<String>) -> Result<()> {
    match broken {
        Some(broken) => anyhow::bail!(broken),
        None => Ok(()),
    }
}

/// Says how to play with what runs, and waits.
async fn until_ctrl_c(lines: &str) -> Result<()> {
    println!("{lines}");
    tokio::signal::ctrl_c()
        .await
        .context("cannot wait for Ctrl-C")
}
