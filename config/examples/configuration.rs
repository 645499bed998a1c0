//! Writes what is made from the declaration of the configuration into the folder it is given: `cargo xtask config`.

use std::fs;
use std::io::Result;
use std::path::PathBuf;

use config::reference;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "docs".into()));
    let schema = format!("{:#}\n", reference::schema());
    fs::write(folder.join("configuration.schema.json"), schema)?;
    fs::write(folder.join("configuration.md"), reference::page())
}
