//! `cargo mesh` itself: it begins from whatever is left, and ends what it started and nothing else.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use istio_test::net;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A mesh beside the one that the other tests share.
const NAME: &str = "robust";

fn mesh(command: &str) -> Command {
    let mut mesh = Command::new(env!("CARGO_BIN_EXE_mesh"));
    mesh.arg(command).env("MESH", NAME).stdin(Stdio::null());
    mesh
}

/// Starts `cargo mesh up` and returns it when it says that it begins with `step`.
async fn up_to(step: &str) -> Result<Child> {
    let mut child = mesh("up").stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().context("no stderr")?;
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains(step) {
            return Ok(child);
        }
    }
    let status = child.wait().await?;
    anyhow::bail!("cargo mesh up ended ({status}) before: {step}")
}

async fn left() -> Result<Vec<String>> {
    net::namespaces(&format!("{NAME}-")).await
}

#[tokio::test]
async fn killed_at_any_step_it_comes_up_again_and_goes_down() -> Result<()> {
    // Somebody else's process, and one of ours that is not the mesh's: they outlive it.
    let mut bystander = Command::new("sleep").arg("600").spawn()?;
    for step in ["starting etcd", "starting the pods"] {
        let mut child = up_to(step).await?;
        child.kill().await?;
        ensure!(
            !left().await?.is_empty(),
            "killed at {step:?}, it had begun"
        );
    }
    // From what the killed one left, and once more from a mesh that is up.
    for _ in 0..2 {
        let output = mesh("up").output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{said}");
    }
    let status = mesh("status").output().await?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.matches("envoy pilot-agent").count(), 7, "{status}");

    ensure!(mesh("down").status().await?.success());
    assert_eq!(left().await?, [""; 0]);
    assert!(bystander.try_wait()?.is_none(), "it ended a stranger");
    bystander.kill().await?;
    // Nothing is no error, and is said.
    let again = mesh("down").output().await?;
    assert!(String::from_utf8_lossy(&again.stdout).contains("Nothing ran"));
    let status = mesh("status").output().await?;
    assert!(String::from_utf8_lossy(&status.stderr).contains("cargo mesh up"));
    Ok(())
}
