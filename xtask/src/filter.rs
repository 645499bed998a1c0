//! The shipped module: built, what Envoy never calls taken out of it, optimised, written to `target/peer_spillover.wasm`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use crate::run::{alone, quietly};
use crate::{exports, target_dir, toolchain, tools, unused, workspace_root};

/// Bytes that the module may have: every proxy of a mesh fetches it.
pub const MOST_BYTES: usize = 230_000;
/// What stands in a module where its build id goes (`BUILD` in `src/succession/announcement.rs`).
const NO_ID: &[u8; 64] = b"peer-spillover: cargo filter puts the digest of the module here.";
/// What the optimiser is to do.
const OPTIMISE: [&str; 6] = [
    // What runs when Envoy gives a configuration, and in a tick: not written out in one another. V8 takes memory for the largest
    // function that it compiles, and Envoy's allocator keeps it (`cargo cost --memory`).
    "--no-inline=*6config*",
    "--no-inline=*4root*",
    "--no-inline=*8recovery*",
    "-Oz",
    "--strip-debug",
    "--strip-producers",
];
/// What the compiler may write out where it is used, in its own measure: less than by itself. The module is smaller by a
/// twentieth, and a request costs less (`cargo cost --gate`).
const LIMITS: [&str; 3] = [
    "-inline-threshold=30",
    "-inlinehint-threshold=150",
    "-unroll-threshold=30",
];
/// What Rust's target may use and every V8 that Envoy ships understands.
const FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-multivalue",
    "--enable-reference-types",
];

/// Where the module is, built anew if anything it is made of changed. Once per process.
/// # Errors
/// It cannot be built, or is larger than [`MOST_BYTES`].
pub fn ensure() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// Where the module is that traps where a request asks for it (feature `trap`), for tests. Once per process.
/// # Errors
/// It cannot be built.
pub fn ensure_with_traps() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        make(
            "peer_spillover_with_traps.wasm",
            "filter-with-traps",
            &["trap"],
        )
    };
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// Builds the module.
/// # Errors
/// It cannot be built, or is larger than [`MOST_BYTES`].
pub fn build() -> Result<PathBuf> {
    make("peer_spillover.wasm", "filter", &[])
}

fn make(name: &str, dir: &str, features: &[&str]) -> Result<PathBuf> {
    let module = target_dir().join(name);
    let dir = target_dir().join(dir);
    alone(&dir.with_extension("lock"), || {
        let raw = thread::scope(|scope| {
            if !module.is_file() {
                // Takes a while on a fresh machine, and needs not wait for the compiler. What fails here fails again in `finish`.
                scope.spawn(tools::wasm_opt);
            }
            compile(&workspace_root(), &dir, features)
        })?;
        let stamp = dir.join("peer_spillover.from");
        // All that the module is made of: how, and from what.
        let how = (
            exports::KEPT,
            unused::UNUSED,
            tools::BINARYEN,
            OPTIMISE,
            FEATURES,
        );
        let from = format!("{} {how:?} with id", sha256(&fs::read(&raw)?));
        if !module.is_file()
            || fs::read_to_string(&stamp).is_ok_and(|last| last != from)
            || !stamp.is_file()
        {
            let finished = finish(&raw)?;
            // A build for tests may be larger.
            ensure!(
                finished.len() <= MOST_BYTES || !features.is_empty(),
                "the module has {} bytes; at most {MOST_BYTES} may be shipped",
                finished.len()
            );
            // Renamed into place: a proxy that reads it meanwhile gets the old one or the new one, whole.
            let new = module.with_extension("new");
            fs::write(&new, finished)?;
            fs::rename(&new, &module)?;
            fs::write(&stamp, from)?;
        }
        Ok(())
    })?;
    Ok(module)
}

/// Compiles the root package of `root` for Envoy, with these features; the same bytes wherever `root` is.
/// # Errors
/// It does not compile.
pub fn compile(root: &Path, target: &Path, features: &[&str]) -> Result<PathBuf> {
    toolchain::ensure_target(toolchain::ENVOY)?;
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut flags = format!("--remap-path-prefix={}=/peer-spillover", root.display());
    for limit in LIMITS {
        flags.push_str(&format!("\u{1f}-Cllvm-args={limit}"));
    }
    // Of both ways to write a name that the compiler has, the one that says it in full (`unused.rs`).
    flags.push_str("\u{1f}-Csymbol-mangling-version=v0");
    if let Some(home) = cargo_home {
        flags.push_str(&format!(
            "\u{1f}--remap-path-prefix={}=/cargo",
            home.display()
        ));
    }
    let mut cargo = Command::new(tools::cargo());
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "peer-spillover",
        "--lib",
        "--profile",
        "filter",
        "--target",
        toolchain::ENVOY,
    ]);
    cargo
        .arg("--features")
        .arg(features.join(","))
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env_remove("RUSTFLAGS");
    quietly("building the filter", &mut cargo)?;
    Ok(target
        .join(toolchain::ENVOY)
        .join("filter/peer_spillover.wasm"))
}

/// The module to ship, from the one that was compiled.
/// # Errors
/// The optimiser failed.
pub fn finish(raw: &Path) -> Result<Vec<u8>> {
    optimise(raw, unused::trap(&exports::prune(&fs::read(raw)?)?)?)
}

/// The module of a commit before, from the one that was compiled: whole, since what it does not use has other names.
/// # Errors
/// The optimiser failed.
pub fn finish_whole(raw: &Path) -> Result<Vec<u8>> {
    optimise(raw, exports::prune(&fs::read(raw)?)?)
}

fn optimise(raw: &Path, module: Vec<u8>) -> Result<Vec<u8>> {
    let pruned = raw.with_extension("pruned.wasm");
    let optimised = raw.with_extension("optimised.wasm");
    fs::write(&pruned, module)?;
    let mut wasm_opt = tools::wasm_opt()?;
    wasm_opt
        .args(OPTIMISE)
        .args(FEATURES)
        .arg(&pruned)
        .arg("-o")
        .arg(&optimised);
    quietly("optimising the filter", &mut wasm_opt)?;
    let bytes =
        fs::read(&optimised).with_context(|| format!("{} cannot be read", optimised.display()))?;
    identify(bytes)
}

/// `module` with its build id, the digest of what it is without one: as unique as its bytes, and the same wherever it is built.
/// # Errors
/// There is not exactly one place for it.
pub fn identify(mut module: Vec<u8>) -> Result<Vec<u8>> {
    let id = sha256(&module);
    let places = module.windows(NO_ID.len()).enumerate();
    let places = places.filter(|(_, bytes)| *bytes == NO_ID);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    let [at] = places[..] else {
        bail!(
            "the module has {} places for its build id, not one",
            places.len()
        );
    };
    module[at..at + NO_ID.len()].copy_from_slice(id.as_bytes());
    Ok(module)
}

/// The SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
