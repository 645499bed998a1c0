//! What can be seen of the filter: its metrics and the access log.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use serde_json::Value;

use super::{HOST, PLUGIN, World};
use crate::envoy::Envoy;
use crate::wait::until_some;

/// Name in `/stats` of a metric of the filter: `labels` as they come, then `name` without its `peer_spillover_`.
pub fn metric(labels: &[(&str, &str)], name: &str) -> String {
    let labels: String = labels
        .iter()
        .map(|(label, value)| format!("{label}=.={value};.;"))
        .collect();
    format!("wasmcustom.peer_spillover_{labels}{name}")
}

/// Name in `/stats` of a metric of one service of home's plugin: `in_flight`, `limit`.
pub fn service_metric(host: &str, name: &str) -> String {
    metric(
        &[("plugin", PLUGIN), ("role", "client"), ("service", host)],
        name,
    )
}

/// The filter's decisions about `host` in this proxy: how many by destination and reason (`("home", "room")`).
/// # Errors
/// The admin interface does not answer.
pub async fn decisions(envoy: &Envoy, host: &str) -> Result<BTreeMap<(String, String), i64>> {
    let prefix = service_metric(host, "");
    let mut decisions = BTreeMap::new();
    for (name, value) in envoy.stats_matching(&prefix).await? {
        let Some(rest) = name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(";.;decisions"))
        else {
            continue;
        };
        if let Some((destination, reason)) = rest.split_once(";.;")
            && let (Some(destination), Some(reason)) = (
                destination.strip_prefix("destination=.="),
                reason.strip_prefix("reason=.="),
            )
        {
            decisions.insert((destination.to_owned(), reason.to_owned()), value);
        }
    }
    Ok(decisions)
}

impl World {
    /// Home's count of requests in flight for [`HOST`], as the filter has it; 0 where it has none.
    /// # Errors
    /// The admin interface does not answer.
    pub async fn in_flight(&self) -> Result<i64> {
        Ok(self
            .envoy
            .stat(&service_metric(HOST, "in_flight"))
            .await?
            .unwrap_or(0))
    }

    /// Waits until the filter's count for [`HOST`] is `n`.
    /// # Errors
    /// It is not by [`crate::DEADLINE`].
    pub async fn wait_count(&self, n: i64) -> Result<()> {
        self.envoy
            .wait_stat(&service_metric(HOST, "in_flight"), |value| value == n)
            .await?;
        Ok(())
    }

    /// Waits until nothing is open at home or at the peer and the filter's count is back at 0.
    /// # Errors
    /// That is not so by [`crate::DEADLINE`].
    pub async fn wait_idle(&self) -> Result<()> {
        self.home.wait_in_flight(0).await?;
        self.peer.wait_in_flight(0).await?;
        self.wait_count(0).await
    }

    /// Waits until each VM of home's proxy has ticked `n` times from now.
    /// # Errors
    /// One has not by [`crate::DEADLINE`].
    pub async fn wait_ticks(&self, n: i64) -> Result<()> {
        wait_ticks(&self.envoy, n).await
    }

    /// How many decisions about [`HOST`] home's proxy has made for this destination and reason.
    /// # Errors
    /// The admin interface does not answer.
    pub async fn decided(&self, destination: &str, reason: &str) -> Result<i64> {
        let decisions = decisions(&self.envoy, HOST).await?;
        Ok(decisions
            .get(&(destination.to_owned(), reason.to_owned()))
            .copied()
            .unwrap_or(0))
    }

    /// Waits until home's access log has at least `n` lines and returns them: objects with `status`, `flags`, `details`,
    /// `cluster`, `attempts`, `authority`, `path`, `decision` and `listener`.
    /// # Errors
    /// It has not by [`crate::DEADLINE`].
    pub async fn access_log(&self, n: usize) -> Result<Vec<Value>> {
        let path = self.dir.path().join("access.log");
        until_some(&format!("{n} lines in home's access log"), async || {
            let text = fs::read_to_string(&path).ok()?;
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }
}

/// Waits until each VM of a proxy has ticked `n` times from now.
/// # Errors
/// One has not by [`crate::DEADLINE`].
pub async fn wait_ticks(envoy: &Envoy, n: i64) -> Result<()> {
    let beats = async || envoy.stats_matching(";.;beats").await;
    let before = beats().await?;
    until_some("every VM ticks", async || {
        let now = beats().await.ok()?;
        let enough = |(vm, beats): (&String, &i64)| now.get(vm).is_some_and(|now| now - beats >= n);
        before.iter().all(enough).then_some(())
    })
    .await
}
