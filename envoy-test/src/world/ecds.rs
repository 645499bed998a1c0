//! A filter whose configuration a running Envoy takes from a file, as a sidecar takes it from istiod: ECDS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use super::template::fill;
use crate::envoy::Envoy;
use crate::wait::until_some;

/// What Envoy did with a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It runs.
    Accepted,
    /// Envoy refused it and keeps the one before.
    Rejected,
}

/// A filter of this name in one proxy.
pub(super) struct Ecds {
    name: String,
    path: PathBuf,
    version: AtomicUsize,
    /// The configuration written last, and what became of it.
    last: Mutex<(String, Update)>,
}

impl Ecds {
    /// The filter `name` with its first configuration: a YAML block with `@type`.
    pub fn new(dir: &Path, name: &str, typed_config: &str) -> Result<Self> {
        let ecds = Ecds {
            name: name.to_owned(),
            path: dir.join(format!("{name}.yaml")),
            version: AtomicUsize::new(0),
            last: Mutex::new((typed_config.to_owned(), Update::Accepted)),
        };
        ecds.write(typed_config)?;
        Ok(ecds)
    }

    /// Its entry among `http_filters`.
    pub fn entry(&self, type_url: &str) -> String {
        let path = self.path.display().to_string();
        let values = [
            ("name", self.name.as_str()),
            ("path", &path),
            ("type_url", type_url),
        ];
        fill(include_str!("templates/config_discovery.yaml"), &values)
    }

    /// Gives a running Envoy a new configuration and waits until all its workers have taken it, or it has refused it.
    pub async fn update(&self, envoy: &Envoy, typed_config: &str) -> Result<Update> {
        let mut last = self.last.lock().await;
        // Envoy does nothing at all where the configuration is the same.
        if last.0 == typed_config {
            return Ok(last.1);
        }
        let before = self.counted(envoy).await?;
        self.write(typed_config)?;
        let what = format!(
            "Envoy takes or refuses a new configuration of filter {}",
            self.name
        );
        let outcome = until_some(&what, async || {
            // A refused one counts as a reload too. A reload counts when the last worker has done it.
            let [reloaded, refused] = self.counted(envoy).await.ok()?;
            if refused > before[1] {
                return Some(Update::Rejected);
            }
            (reloaded > before[0]).then_some(Update::Accepted)
        })
        .await?;
        *last = (typed_config.to_owned(), outcome);
        Ok(outcome)
    }

    async fn counted(&self, envoy: &Envoy) -> Result<[i64; 2]> {
        let stats = envoy
            .stats_matching(&format!(
                "extension_config_discovery.http_filter.{}.",
                self.name
            ))
            .await?;
        let sum = |ends: &[&str]| -> i64 {
            stats
                .iter()
                .filter(|(name, _)| ends.iter().any(|end| name.ends_with(end)))
                .map(|(_, value)| value)
                .sum()
        };
        Ok([
            sum(&[".config_reload"]),
            sum(&[".config_fail", ".update_rejected", ".update_failure"]),
        ])
    }

    fn write(&self, typed_config: &str) -> Result<()> {
        let version = self.version.fetch_add(1, Ordering::Relaxed).to_string();
        let values = [
            ("name", self.name.as_str()),
            ("version", &version),
            ("typed_config", typed_config),
        ];
        let text = fill(include_str!("templates/ecds.yaml"), &values);
        // Envoy watches for a file that is moved to this name: it never reads one half written.
        let new = self.path.with_extension("new");
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        Ok(fs::rename(&new, &self.path)?)
    }
}
