//! kubectl and istioctl, against the API server of one cluster.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::layout::{Cluster, Layout};
use crate::net;

/// One cluster's API server.
#[derive(Clone, Debug)]
pub struct Kube {
    /// Which cluster's.
    pub cluster: Cluster,
    lab: String,
    bin: PathBuf,
    config: PathBuf,
}

impl Kube {
    /// The API server of `cluster`.
    pub fn of(layout: &Layout, cluster: Cluster) -> Kube {
        Kube {
            cluster,
            lab: layout.lab(),
            bin: layout.bin(),
            config: layout.kubeconfig(cluster),
        }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = net::command(&self.lab, self.bin.join(program));
        command
            .arg("--kubeconfig")
            .arg(&self.config)
            .args(arguments);
        command
    }

    /// `kubectl ARGUMENTS`, and what it printed.
    /// # Errors
    /// It failed (with what it said).
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        net::run(&mut self.command("kubectl", arguments)).await
    }

    /// `istioctl ARGUMENTS`, and what it printed.
    /// # Errors
    /// It failed (with what it said).
    pub async fn istioctl(&self, arguments: &[&str]) -> Result<String> {
        net::run(&mut self.command("istioctl", arguments)).await
    }

    /// What `istioctl analyze` finds in all namespaces, but what it merely mentions (level Info).
    /// # Errors
    /// It cannot be run, or does not print JSON.
    pub async fn analyze(&self) -> Result<Vec<Value>> {
        let arguments = ["analyze", "--all-namespaces", "--output", "json"];
        // It ends with an error where it finds one; what it found is printed all the same.
        let output = self.command("istioctl", &arguments).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let findings: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(findings
            .into_iter()
            .filter(|finding| finding["level"] != "Info")
            .collect())
    }

    /// `kubectl apply` of a manifest's text.
    /// # Errors
    /// The API server refuses it (with what it said).
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.piped(&["apply", "-f", "-"], manifest).await
    }

    /// `kubectl delete` of what a manifest's text names, where it is there.
    /// # Errors
    /// The API server refuses.
    pub async fn delete(&self, manifest: &str) -> Result<String> {
        let arguments = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
        self.piped(&arguments, manifest).await
    }

    /// `kubectl apply -k` of a folder.
    /// # Errors
    /// It is no kustomization, or the API server refuses a part.
    pub async fn apply_folder(&self, folder: &Path) -> Result<String> {
        let folder = folder.to_string_lossy();
        self.kubectl(&["apply", "-k", &folder]).await
    }

    async fn piped(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .command("kubectl", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl cannot be started")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!(
                "kubectl {} in the cluster {}: {}\nof:\n{input}",
                arguments.join(" "),
                self.cluster.name(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
