//! Each command of wasmplugin/README.md, in its order, on the two clusters.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use istio_test::fixture::fresh;
use istio_test::net;

/// The README's blocks of commands. The first is the settings.
fn blocks() -> Result<Vec<String>> {
    let path = xtask::workspace_root().join("wasmplugin/README.md");
    let text = fs::read_to_string(path)?;
    let blocks = text.split("```sh\n").skip(1);
    Ok(blocks
        .filter_map(|rest| rest.split("```").next().map(str::to_owned))
        .collect())
}

/// Names that a block of settings exports.
fn exported(block: &str) -> Vec<&str> {
    let words = block
        .lines()
        .filter_map(|line| line.strip_prefix("export "));
    let mut names: Vec<&str> = words
        .flat_map(|line| line.split_whitespace())
        .filter_map(|word| Some(word.split_once('=')?.0))
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() -> Result<()> {
    let mesh = fresh().await?;
    let layout = &mesh.layout;
    let blocks = blocks()?;
    let (theirs, commands) = blocks.split_first().context("no commands")?;
    // Only the settings are ours: those that `cargo mesh status` prints, pasted.
    let status = Command::new(env!("CARGO_BIN_EXE_mesh"))
        .arg("status")
        .output()?;
    let status = String::from_utf8(status.stdout)?;
    ensure!(
        status.contains(&mesh.shell()),
        "no shell to paste into: {status}"
    );
    let is_setting = |line: &&str| line.starts_with("export ");
    let ours: String = status
        .lines()
        .filter(is_setting)
        .map(|line| format!("{line}\n"))
        .collect();
    let mut asked = exported(theirs);
    asked.extend(["KUBECONFIG", "PATH"]);
    asked.sort_unstable();
    assert_eq!(exported(&ours), asked);
    let copy = xtask::workspace_root().join("my-federation");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let script = format!("set -euo pipefail\n{ours}\nset -x\n{}", commands.concat());
    let output = net::command(&layout.lab(), "bash")
        .current_dir(xtask::workspace_root())
        .args(["-c", &script])
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    ensure!(
        output.status.success(),
        "{}\n{said}\n{shown}",
        output.status
    );

    // Every line of it was reached, and did what the README says it does.
    let answered = |name: &str| said.matches(&format!("Hostname=a-{name}\n")).count();
    assert_eq!(
        (answered("iotcloudserve"), answered("gke")),
        (1, 2),
        "{said}"
    );
    assert!(
        said.contains("destination=.=home;.;reason=.=room"),
        "{said}"
    );
    for kind in [
        "wasmplugin",
        "envoyfilter",
        "serviceentry",
        "destinationrule",
        "virtualservice",
    ] {
        let left = format!("{kind}.");
        assert!(
            said.lines()
                .any(|l| l.starts_with(&left) && l.contains(" deleted")),
            "{said}"
        );
    }
    Ok(())
}
