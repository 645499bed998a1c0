//! Writes the pages that are made from declarations in the code into the folder that it is given: `cargo xtask config`.

use std::fs;
use std::io::Result;
use std::path::PathBuf;

use config::reference;
use policy::names::metrics;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "docs".into()));
    let schema = format!("{:#}\n", reference::schema());
    fs::write(folder.join("configuration.schema.json"), schema)?;
    fs::write(folder.join("configuration.md"), reference::page())?;
    fs::write(folder.join("metrics.md"), metrics::page())
}
