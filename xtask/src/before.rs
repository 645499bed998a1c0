//! The module of a commit before, for tests of an upgrade from it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{alone, quietly};
use crate::{filter, target_dir, workspace_root};

/// The module as `commit` had it, built from its sources and finished as ours is. It is built once.
/// # Errors
/// The history of this checkout has no such commit, or its sources do not build.
pub fn module(commit: &str) -> Result<PathBuf> {
    let dir = target_dir().join("before").join(commit);
    let module = dir.join("peer_spillover.wasm");
    alone(&dir.with_extension("lock"), || {
        if module.is_file() {
            return Ok(());
        }
        let sources = dir.join("sources");
        unpack(commit, &sources)?;
        let raw = filter::compile(&sources, &dir.join("target"), &[])?;
        let new = module.with_extension("new");
        fs::write(&new, filter::finish_whole(&raw)?)?;
        Ok(fs::rename(&new, &module)?)
    })?;
    Ok(module)
}

/// Writes the files of `commit` into `sources`.
fn unpack(commit: &str, sources: &PathBuf) -> Result<()> {
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(workspace_root());
        git
    };
    let is_there = || {
        let there = git().args(["cat-file", "-e", commit]).output();
        let there = there.context("git is missing: install it")?;
        anyhow::Ok(there.status.success())
    };
    if !is_there()? {
        // A shallow clone does not have it. Where it still is not there afterwards, that is said below.
        let _ = git().args(["fetch", "--quiet", "--unshallow"]).output();
    }
    ensure!(
        is_there()?,
        "commit {commit} is not in the history of this checkout: clone the repository with its history"
    );
    fs::create_dir_all(sources)?;
    let archive = sources.with_extension("tar");
    let mut write = git();
    write
        .args(["archive", "--format=tar", commit, "--output"])
        .arg(&archive);
    quietly("reading the sources of a commit before", &mut write)?;
    tar::Archive::new(fs::File::open(&archive)?).unpack(sources)?;
    Ok(fs::remove_file(&archive)?)
}
