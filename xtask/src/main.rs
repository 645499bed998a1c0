//! `cargo xtask`, and behind the alias `cargo filter`.

use std::fs;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's tasks.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the shipped module, target/peer_spillover.wasm, and print its size and sha256.
    Filter,
    /// Run the tests of policy and configuration on bare WebAssembly, under Node.
    PolicyWasm,
    /// Write docs/configuration.md, its JSON Schema and docs/metrics.md, from what the code declares.
    Config,
    /// Check the format and the lints.
    Lint,
    /// Fetch Envoy, and print where it is.
    Envoy,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Filter => {
            let module = xtask::filter::build()?;
            let bytes = fs::read(&module)?;
            println!(
                "{}  {} bytes  sha256 {}",
                module.display(),
                bytes.len(),
                xtask::filter::sha256(&bytes)
            );
        }
        Task::PolicyWasm => xtask::policy::test_on_bare_wasm()?,
        Task::Config => xtask::config::write()?,
        Task::Lint => xtask::lint::lint()?,
        Task::Envoy => println!("{}", xtask::tools::envoy()?.display()),
    }
    Ok(())
}
