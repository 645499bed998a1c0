//! `cargo mesh`: two real Istio clusters on this machine.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, value_parser};
use demo::report::{self, Table};
use istio_test::experiment::{self, Load};
use istio_test::{Cluster, Layout, Mesh, down, heal, multi_primary, needs, third, up};

/// Two real Istio clusters on this machine: etcd, kube-apiserver, istiod, sidecars with iptables capture, gateways.
#[derive(Parser)]
#[command(name = "cargo mesh", bin_name = "cargo mesh", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing, bring both clusters up, and say how to talk to them
    Up {
        /// Make one multi-primary mesh of them, as by remote secrets; the tests and the demo make them two again
        #[arg(long)]
        multi_primary: bool,
        /// How many clusters. The third one is another peer; the tests bring it up themselves where they need it
        #[arg(long, default_value_t = 2, value_name = "N", value_parser = value_parser!(u8).range(2..=3))]
        clusters: u8,
    },
    /// Run the origin's experiment, as it was and with the filter, and draw both
    Demo {
        /// Parallel connections in each phase
        #[arg(long, default_value = "1,3,1", value_name = "N,N,…", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=100))]
        clients: Vec<u32>,
        /// Length of each phase
        #[arg(long, default_value_t = 7, value_name = "N", value_parser = value_parser!(u32).range(1..=3_600))]
        seconds: u32,
    },
    /// Run all tests on the two clusters
    Test {
        /// Only the tests of this file of istio-test/tests, or those whose names contain this
        filter: Option<String>,
    },
    /// What runs
    Status,
    /// End all that runs, and remove it
    Down,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up {
            multi_primary,
            clusters,
        } => {
            let mesh = up::up().await?;
            let what = match multi_primary {
                true => "up, as one multi-primary mesh",
                false => "up",
            };
            if multi_primary {
                multi_primary::join(&mesh).await?;
            }
            if clusters == 3 {
                third::up(&mesh).await?;
            }
            println!("All clusters are {what}.\n\n{}", mesh.how_to_talk());
        }
        Command::Demo { clients, seconds } => {
            with_mesh(async |mesh| demo(&mesh, &Load { clients, seconds }).await).await?;
        }
        Command::Test { filter } => with_mesh(async |_| test(filter).await).await?,
        Command::Status => {
            let mesh = Mesh::attach().await?;
            println!("{}\n{}", mesh.status().await?, mesh.how_to_talk());
        }
        Command::Down => {
            needs::check()?;
            match down::down(&Layout::of_environment()).await? {
                true => println!("All ended and removed."),
                false => println!("Nothing ran."),
            }
        }
    }
    Ok(())
}

/// Runs `work` on the mesh that is up, or on one that is brought up for it and ended after it.
async fn with_mesh(work: impl AsyncFnOnce(Mesh) -> Result<()>) -> Result<()> {
    if let Ok(mesh) = Mesh::attach().await {
        return work(mesh).await;
    }
    let mesh = up::up().await?;
    let layout = mesh.layout.clone();
    let done = work(mesh).await;
    down::down(&layout).await?;
    done
}

async fn demo(mesh: &Mesh, load: &Load) -> Result<()> {
    heal::heal(mesh).await?;
    let (home, peer) = (Cluster::Home.name(), Cluster::Peer.name());
    println!("Two Istio clusters, {home} (home, limit 1) and {peer} (peer), 100 ms a request");
    let most = load.clients.iter().copied().max().unwrap_or(1);
    let table = Table::new(peer, u64::from(most) * 10);
    let titles = [
        "The set-up of 2020: its ServiceEntry and DestinationRule, without the filter",
        "With peer-spillover, loaded by a WasmPlugin from the registry",
    ];
    let report = experiment::both(mesh, load, |run, second, counts| {
        if second == 0 {
            println!("\n{}\n{}", titles[run], table.header());
        }
        let phase = second / load.seconds as usize;
        let clients = load.clients.get(phase).copied().unwrap_or(0);
        println!("{}", table.row(second + 1, clients, counts));
    })
    .await?;
    println!("\n{}", report::summary(&report));
    report::write(&report, &xtask::target_dir().join("mesh-demo"))?;
    println!("Written to target/mesh-demo: result.json, spillover.svg, spillover.png");
    match report.broken_promise() {
        Some(broken) => bail!(broken),
        None => Ok(()),
    }
}

/// The tests are programs of cargo's own; one at a time, since they share the clusters.
async fn test(filter: Option<String>) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = tokio::process::Command::new(cargo);
    tests
        .current_dir(xtask::workspace_root())
        .args(["test", "-p", "istio-test", "--no-fail-fast"])
        .args(selection(filter))
        .args(["--test-threads", "1"]);
    let status = tests.status().await.context("cargo cannot be started")?;
    ensure!(status.success(), "tests failed on the mesh");
    Ok(())
}

/// The arguments for cargo that select a file of tests, if there is one of this name, or else the tests whose names contain it.
/// The last ones are for the tests themselves.
fn selection(filter: Option<String>) -> Vec<String> {
    let tests = xtask::workspace_root().join("istio-test/tests");
    let is_file = |name: &String| tests.join(name).with_extension("rs").exists();
    match filter {
        Some(name) if is_file(&name) => vec!["--test".to_owned(), name, "--".to_owned()],
        Some(name) => vec!["--".to_owned(), name],
        None => vec!["--".to_owned()],
    }
}
