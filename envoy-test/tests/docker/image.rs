//! A stand-in for Envoy's official image, which cannot be fetched where tests run: the same Envoy, and of the rest what the
//! demo uses, out of the machine's own files. As in the official one there are a shell and openssl, it starts as root, and
//! the user `envoy` runs Envoy.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};
use xtask::tools::{ENVOY_VERSION, envoy, on_path};

use crate::engine::Engine;

const PROGRAMS: [&str; 5] = ["sh", "openssl", "chown", "rm", "setpriv"];
const USERS: &str = "root:x:0:0::/:/bin/sh\nenvoy:x:101:101::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nenvoy:x:101:\n";
/// Does what the official image's does: arguments alone are Envoy's, and root becomes `envoy`.
const ENTRYPOINT: &str = r#"#!/bin/sh
set -e
case "$1" in -*) set -- envoy "$@" ;; esac
chown envoy /dev/stdout /dev/stderr
exec setpriv --reuid envoy --regid envoy --clear-groups "$@"
"#;

/// The image's official name.
pub fn name() -> String {
    format!("envoyproxy/envoy:v{ENVOY_VERSION}")
}

/// Makes the image and gives it to `engine`.
/// # Errors
/// A file of it is missing on this machine, or the engine does not take it.
pub fn load(engine: &Engine) -> Result<()> {
    let tar = engine.dir().join("image.tar");
    write(&tar)?;
    let (tar, name) = (tar.display().to_string(), name());
    let entrypoint = r#"ENTRYPOINT ["/docker-entrypoint.sh"]"#;
    let command = r#"CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]"#;
    engine.run(
        "docker",
        &[
            "import", "--change", entrypoint, "--change", command, &tar, &name,
        ],
    )
}

fn write(path: &Path) -> Result<()> {
    let mut programs = vec![(envoy()?, PathBuf::from("usr/local/bin/envoy"))];
    for program in PROGRAMS {
        let found = on_path(program).with_context(|| format!("{program} is missing"))?;
        programs.push((found, Path::new("bin").join(program)));
    }
    let mut libraries = BTreeSet::new();
    for (program, _) in &programs {
        libraries.extend(paths(Command::new("ldd").arg(program))?);
    }
    // `OPENSSLDIR: "/usr/lib/ssl"`
    let openssl = paths(Command::new("openssl").args(["version", "-d"]))?;
    libraries.extend(openssl.iter().map(|dir| dir.join("openssl.cnf")));

    let mut tar = Builder::new(File::create(path)?);
    let libraries = libraries
        .into_iter()
        .map(|library| (library.clone(), library));
    for (from, to) in programs.into_iter().chain(libraries) {
        let to = to.strip_prefix("/").unwrap_or(&to);
        tar.append_path_with_name(&from, to)
            .with_context(|| format!("cannot pack {}", from.display()))?;
    }
    let texts = [
        ("docker-entrypoint.sh", ENTRYPOINT, 0o755),
        ("etc/passwd", USERS, 0o644),
        ("etc/group", GROUPS, 0o644),
    ];
    for (name, text, mode) in texts {
        tar.append_data(
            &mut header(EntryType::Regular, mode, text.len())?,
            name,
            text.as_bytes(),
        )?;
    }
    tar.append_data(
        &mut header(EntryType::Directory, 0o1777, 0)?,
        "tmp",
        &b""[..],
    )?;
    tar.finish()?;
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: usize) -> Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size.try_into()?);
    Ok(header)
}

/// The absolute paths in what `command` prints, bare or quoted.
fn paths(command: &mut Command) -> Result<Vec<PathBuf>> {
    let printed = command
        .output()
        .context("cannot run ldd or openssl")?
        .stdout;
    let text = String::from_utf8_lossy(&printed).into_owned();
    let words = text.split_whitespace().map(|word| word.trim_matches('"'));
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
