//! `cargo image`.

use anyhow::Result;
use clap::Parser;
use image::ImageTask;

/// The shipped module as an OCI image, for an `oci://` URL in a WasmPlugin.
#[derive(Parser)]
#[command(name = "cargo image", bin_name = "cargo image", version)]
struct Arguments {
    #[command(subcommand)]
    task: ImageTask,
}

fn main() -> Result<()> {
    image::run(&Arguments::parse().task)
}
