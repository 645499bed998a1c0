//! The plugin as a user applies it, and what is seen of it in the client's sidecar.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use envoy_test::wait::until_some_by;
use istio_test::federation::wasmplugin;
use istio_test::layout::{CLIENT, PodSpec, REGISTRY};
use istio_test::pod::log_file;
use istio_test::{Cluster, Mesh};
use serde_json::Value;

/// How long a change may take to a proxy's log, fetching a module included.
const PUSHED: Duration = Duration::from_secs(60);

/// The manifest of `wasmplugin/client-sidecar` with another configuration, and another `spec` where `change` says so.
pub fn manifest(folder: &Path, config: &Value, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut manifest = wasmplugin(&folder.join("client-sidecar"), config)?;
    change(&mut manifest["spec"]);
    Ok(manifest)
}

/// An image by its tag alone.
pub fn by_tag(spec: &mut Value, tag: &str) {
    spec["url"] = format!("oci://{REGISTRY}/peer-spillover:{tag}").into();
    spec.as_object_mut().unwrap().remove("sha256");
}

/// Applies a manifest at home. Returns at once: whoever changes something sees it in what happens.
pub async fn apply(mesh: &Mesh, manifest: &Value) -> Result<()> {
    mesh.kube(Cluster::Home)
        .apply(&manifest.to_string())
        .await?;
    Ok(())
}

/// The log of a proxy, from where it ends now.
pub struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    /// Of the client's proxy.
    pub fn from_now(mesh: &Mesh) -> Result<Log> {
        Log::of(mesh, &CLIENT)
    }

    pub fn of(mesh: &Mesh, pod: &PodSpec) -> Result<Log> {
        let path = log_file(&mesh.layout, pod);
        let from = fs::metadata(&path)?.len();
        Ok(Log { path, from })
    }

    fn later(&self) -> Result<String> {
        // The access log makes it long.
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// How many lines have `part`.
    pub fn count(&self, part: &str) -> Result<usize> {
        Ok(self
            .later()?
            .lines()
            .filter(|line| line.contains(part))
            .count())
    }

    /// The lines of its access log that tell of an answer that Envoy gave in place of the service, under the log's name.
    pub fn failures(&self) -> Result<String> {
        let later = self.later()?;
        let failed = later.lines().filter(|line| line.contains("HTTP/1.1\" 5"));
        let name = self.path.file_name().unwrap_or_default().display();
        Ok(format!(
            "{name}:\n{}",
            failed.collect::<Vec<_>>().join("\n")
        ))
    }

    /// Waits for a line that has each of `parts`, and returns it.
    pub async fn wait(&self, parts: &[&str]) -> Result<String> {
        let what = format!("a line of the client's proxy with {parts:?}");
        until_some_by(&what, PUSHED, async || {
            let later = self.later().ok()?;
            let found = |line: &&str| parts.iter().all(|part| line.contains(part));
            later.lines().find(found).map(str::to_owned)
        })
        .await
    }
}

/// The manifest under another name.
pub fn rename(mut manifest: Value, name: &str) -> Value {
    manifest["metadata"]["name"] = name.into();
    manifest
}

/// kubectl annotate: a change of nothing, for which istiod pushes.
pub async fn touch(mesh: &Mesh, name: &str) -> Result<()> {
    let arguments = [
        "annotate",
        "wasmplugin",
        name,
        "-n",
        "istio",
        "--overwrite",
        "touched=now",
    ];
    mesh.kube(Cluster::Home).kubectl(&arguments).await?;
    Ok(())
}
