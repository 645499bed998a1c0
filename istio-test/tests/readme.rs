//! Each command of wasmplugin/README.md, in its order, on the two clusters.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use istio_test::fixture::fresh;
use istio_test::layout::PEER_GATEWAY;
use istio_test::mesh::SERVICE;
use istio_test::{Cluster, Mesh, multi_primary, net, third};

/// The section that is for another kind of mesh, and has a test of its own.
const MULTI_PRIMARY: &str = "## On a multi-primary mesh\n";

/// The section that needs a third cluster, and has a test of its own too.
const SEVERAL: &str = "## Several peers\n";

/// The README without these sections, and of it one of them.
fn readme(of: &str) -> Result<(String, String)> {
    let path = xtask::workspace_root().join("wasmplugin/README.md");
    let mut text = fs::read_to_string(path)?;
    let mut found = None;
    for title in [SEVERAL, MULTI_PRIMARY] {
        let (before, rest) = text.split_once(title).context("no such section")?;
        let (section, after) = rest.split_once("\n## ").context("it is the last one")?;
        if title == of {
            found = Some(section.to_owned());
        }
        text = format!("{before}## {after}");
    }
    Ok((text, found.context("no such section")?))
}

/// A text's blocks of commands. The README's first is the settings.
fn blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("```").next().map(str::to_owned))
        .collect()
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

/// Runs commands of the README one after another, with this mesh's settings in the place of `theirs`, and returns what they
/// printed.
async fn run(mesh: &Mesh, theirs: &str, commands: &str) -> Result<String> {
    // Only the settings are ours: those that `cargo mesh status` prints, pasted.
    let status = Command::new(env!("CARGO_BIN_EXE_mesh"))
        .arg("status")
        .output()?;
    let status = String::from_utf8(status.stdout)?;
    ensure!(
        status.contains(&mesh.shell()),
        "no shell to paste into: {status}"
    );
    // The third cluster's are there where it runs.
    let of_third = |line: &str| line.contains("THIRD_") && !theirs.contains("THIRD_");
    let is_setting = |line: &&str| line.starts_with("export ") && !of_third(line);
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
    let script = format!("set -euo pipefail\n{ours}\nset -x\n{commands}");
    let output = net::command(&mesh.layout.lab(), "bash")
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
    Ok(said)
}

/// How many requests each cluster's application answered.
fn answered(said: &str) -> (usize, usize) {
    let of = |name: &str| said.matches(&format!("Hostname=a-{name}\n")).count();
    (of(Cluster::Home.name()), of(Cluster::Peer.name()))
}

fn deleted(said: &str, kinds: &[&str]) {
    for kind in kinds {
        let begin = format!("{kind}.");
        let gone = |line: &str| line.starts_with(&begin) && line.contains(" deleted");
        assert!(said.lines().any(gone), "{kind}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() -> Result<()> {
    let mesh = fresh().await?;
    let blocks = blocks(&readme(MULTI_PRIMARY)?.0);
    let (theirs, commands) = blocks.split_first().context("no commands")?;
    let said = run(&mesh, theirs, &commands.concat()).await?;

    // Every line of it was reached, and did what the README says it does.
    assert_eq!(answered(&said), (1, 2), "{said}");
    assert!(
        said.contains("destination=.=home;.;reason=.=room"),
        "{said}"
    );
    deleted(
        &said,
        &[
            "wasmplugin",
            "envoyfilter",
            "serviceentry",
            "destinationrule",
            "virtualservice",
        ],
    );
    Ok(())
}

/// The settings, the image and the copy are those of the other kind of mesh; what is applied is not.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_for_a_multi_primary_mesh_works() -> Result<()> {
    let mesh = fresh().await?;
    multi_primary::join(&mesh).await?;
    let (rest, section) = readme(MULTI_PRIMARY)?;
    let common = blocks(&rest);
    let (theirs, common) = common.split_first().context("no commands")?;
    let common = common.iter().take_while(|block| !block.contains(" apply "));
    let commands = common.cloned().chain(blocks(&section));
    let said = run(&mesh, theirs, &commands.collect::<String>()).await?;

    assert_eq!(answered(&said), (1, 2), "{said}");
    let endpoint = format!("outbound|80||{SERVICE}::{}:15443", PEER_GATEWAY.ip());
    for seen in [
        "istio-remote-secret-gke",
        &format!("{endpoint}::priority::0"),
        &format!("{endpoint}::priority::1"),
    ] {
        assert!(said.contains(seen), "{seen}: {said}");
    }
    deleted(&said, &["wasmplugin", "destinationrule", "virtualservice"]);
    Ok(())
}

/// The settings, the image and the copy are those of two clusters.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_for_several_peers_works() -> Result<()> {
    let mesh = fresh().await?;
    let (rest, section) = readme(SEVERAL)?;
    let common = blocks(&rest);
    let (theirs, common) = common.split_first().context("no commands")?;
    let common = common.iter().take_while(|block| !block.contains(" apply "));
    let section = blocks(&section);
    let (more, section) = section.split_first().context("no commands")?;
    let commands: String = common.chain(section).map(String::as_str).collect();
    third::with(&mesh, async || {
        let said = run(&mesh, &format!("{theirs}{more}"), &commands).await?;
        assert_eq!(answered(&said), (1, 1), "{said}");
        assert!(said.contains("Hostname=a-eks"), "{said}");
        for peer in [Cluster::Peer, Cluster::Third] {
            let name = peer.name();
            for one in [
                format!("destination=.={name};.;reason=.=limit;.;decisions: 1\n"),
                format!("peer=.={name};.;peer_limit: 1\n"),
            ] {
                assert!(said.contains(&one), "{one}: {said}");
            }
        }
        deleted(
            &said,
            &[
                "wasmplugin",
                "serviceentry",
                "destinationrule",
                "virtualservice",
            ],
        );
        Ok(())
    })
    .await
}
