//! `cargo image`.

use std::fs;

use anyhow::Result;
use clap::Subcommand;
use tokio::runtime;

use super::{Image, Variant, push, write_layout};
use xtask::run::alone;
use xtask::{filter, target_dir};

/// What `cargo image` does.
#[derive(Subcommand)]
pub enum ImageTask {
    /// Write both variants to target/image, an OCI image layout with the tags `artifact` and `compat`, and print their
    /// digests.
    Build,
    /// Push one variant to a registry, and print what a WasmPlugin needs to load it.
    Push {
        /// Where to: REGISTRY/REPOSITORY:TAG. The credential is Docker's (`docker login`).
        reference: String,
        /// How the module lies in the image; Istio loads both. Compat is for registries that take only container images.
        #[arg(long, value_enum, default_value_t = Variant::Artifact)]
        variant: Variant,
        /// The registry speaks HTTP without TLS.
        #[arg(long)]
        plain_http: bool,
    },
}

/// Does it.
/// # Errors
/// The module cannot be built, the layout cannot be written, or what [`Image::push`] says.
pub fn run(task: &ImageTask) -> Result<()> {
    match task {
        ImageTask::Build => build(),
        ImageTask::Push {
            reference,
            variant,
            plain_http,
        } => publish(reference, *variant, *plain_http),
    }
}

fn build() -> Result<()> {
    let images = [shipped(Variant::Artifact)?, shipped(Variant::Compat)?];
    let dir = target_dir().join("image");
    alone(&target_dir().join("image.lock"), || {
        write_layout(&dir, &images)
    })?;
    println!("{}", dir.display());
    for image in &images {
        println!("{:<8}  {}", image.variant().name(), image.digest());
    }
    Ok(())
}

fn publish(reference: &str, variant: Variant, plain_http: bool) -> Result<()> {
    // Before the build: who mistyped need not wait for it.
    let target = push::parse(reference)?;
    let image = shipped(variant)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let digest = runtime.block_on(image.push(reference, plain_http))?;
    println!("{target}@{digest}");
    println!();
    println!("url: oci://{target}");
    println!("sha256: {}", digest.trim_start_matches("sha256:"));
    Ok(())
}

/// The image of the shipped module, at the project's version.
fn shipped(variant: Variant) -> Result<Image> {
    let module = fs::read(filter::ensure()?)?;
    Image::of(&module, env!("CARGO_PKG_VERSION"), variant)
}
