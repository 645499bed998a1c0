//! The plugin is removed and added again, as istiod does it: with a listener that has it or has it not.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::load::{answered_by, failed};
use envoy_test::world::{HOME, HOST, PLUGIN, metric, service_metric};
use envoy_test::{Client, Envoy, EnvoyOptions, World, until};
use serde_json::{Value, json};

use crate::common::*;

/// Home's proxy with its listener from a file, which istiod sends with the plugin or without.
struct Listener {
    path: PathBuf,
    with: Value,
}

impl Listener {
    /// A second proxy like the world's, that has it so.
    async fn start(world: &World) -> Result<(Envoy, Listener)> {
        let bootstrap = fs::read_to_string(world.envoy.dir().join("envoy.yaml"))?;
        let mut bootstrap: Value = serde_yaml_ng::from_str(&bootstrap)?;
        let mut with = bootstrap["static_resources"]["listeners"][0].take();
        with["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        let path = world.envoy.dir().join("listener.json");
        bootstrap["static_resources"]["listeners"] = json!([]);
        bootstrap["dynamic_resources"]["lds_config"] =
            json!({"resource_api_version": "V3", "path_config_source": {"path": path}});
        let listener = Listener { path, with };
        listener.send(0)?;
        let options = EnvoyOptions {
            concurrency: WORKERS,
            name: "lds".to_owned(),
            // Its timer counts from before the module was loaded, so it must be longer than that takes on a busy machine, and
            // than a request of the load.
            args: ["--drain-time-s", "10"].map(str::to_owned).into(),
            ..EnvoyOptions::default()
        };
        Ok((
            Envoy::start(bootstrap.to_string(), options).await?,
            listener,
        ))
    }

    /// Without the first so many of the plugins.
    fn send(&self, mut without: usize) -> Result<()> {
        let mut listener = self.with.clone();
        let filters = "/filter_chains/0/filters/0/typed_config/http_filters";
        let filters = listener.pointer_mut(filters).and_then(Value::as_array_mut);
        let filters = filters.context("http_filters")?;
        filters.retain(|filter| {
            let goes = without > 0 && !filter["config_discovery"].is_null();
            without = without.saturating_sub(goes.into());
            !goes
        });
        let new = self.path.with_extension("new");
        fs::write(&new, json!({"resources": [listener]}).to_string())?;
        Ok(fs::rename(&new, &self.path)?)
    }
}

/// Without the plugin nothing is counted; with it again, all of it from 0. What is lost is what Envoy loses: a stream that
/// is longer than the drain time of the listener.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_removed_and_added_again_loses_nothing() -> Result<()> {
    let world = world(&[HOST], &[(HOST, 16)]).await?;
    let (envoy, listener) = Listener::start(&world).await?;
    let vms = i64::from(WORKERS) + 1;
    let room = [("plugin", PLUGIN), ("role", "client"), ("service", HOST)];
    let room = [&room[..], &[("destination", "home"), ("reason", "room")]].concat();
    let room = metric(&room, "decisions");
    let configured = metric(&[("plugin", PLUGIN), ("role", "client")], "configured");
    let replacement = async {
        wait_more(&envoy, &room).await?;
        let mut client = Client::http1(envoy.listener("outbound")).await?;
        let long = async move { client.get(HOST, &[("x-hold", "long")]).await };
        let long = tokio::spawn(long);
        until("it is at home", || {
            let requests = world.home.requests();
            requests.iter().any(|r| r.header("x-hold").is_some())
        })
        .await?;

        listener.send(usize::MAX)?;
        at_rest(&envoy, 0).await?;
        ensure!(long.await?.is_err(), "a stream outlived its listener");
        let served = world.home.count();
        until("requests are served without it", || {
            world.home.count() > served + 50
        })
        .await?;

        listener.send(0)?;
        envoy.wait_stat(&configured, |n| n == vms).await?;
        wait_more(&envoy, &room).await
    };
    let loads = mixed(&format!("http://{}/", envoy.listener("outbound")), HOST);
    let ((), mut outcomes) = under(loads, replacement).await?;
    at_rest(&envoy, vms).await?;
    // That is hyper's word for one that was never sent, since the connection had been drained meanwhile.
    outcomes.retain(|outcome| !outcome.error.starts_with("operation was canceled"));
    eprintln!(
        "plugin removed: {} requests, {} failed",
        outcomes.len(),
        failed(&outcomes)
    );
    assert_eq!(failed(&outcomes), 0, "{:?}", failures(&outcomes));
    assert_eq!(answered_by(&outcomes, HOME), outcomes.len());
    Ok(())
}

/// Two plugins share a VM, which goes on with the second: the first leaves neither a limit nor an ejection behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_removed_shows_no_limit_and_no_ejection() -> Result<()> {
    let mut detecting = config(&[(HOST, 16)], 0);
    detecting["services"][0]["trafficPolicy"]["outlierDetection"] =
        json!({"consecutive5xxErrors": 1, "baseEjectionTime": "1h"});
    let world = World::builder()
        .filter(detecting)
        .another_filter("other", config(&[(HOST, 16)], 0))
        .workers(WORKERS);
    let world = world.start().await?;
    let (envoy, listener) = Listener::start(&world).await?;
    let mut client = Client::http1(envoy.listener("outbound")).await?;
    client.get(HOST, &[("x-status", "500")]).await?;
    let [limit, other] = [PLUGIN, "other"].map(|plugin| {
        let labels = [("plugin", plugin), ("role", "client"), ("service", HOST)];
        metric(&labels, "limit")
    });
    let ejected = service_metric(HOST, "ejected");
    for (name, value) in [(&limit, 16), (&other, 16), (&ejected, 1)] {
        envoy.wait_stat(name, |now| now == value).await?;
    }
    listener.send(1)?;
    // After the listener has drained.
    for name in [&limit, &ejected] {
        let wait = envoy.wait_stat_by(name, |now| now == 0, Duration::from_secs(60));
        wait.await?;
    }
    assert_eq!(envoy.stat(&other).await?, Some(16));
    Ok(())
}

/// Waits until the counter of this name has grown by what many requests make.
async fn wait_more(envoy: &Envoy, name: &str) -> Result<()> {
    let before = envoy.stat(name).await?.unwrap_or(0);
    envoy.wait_stat(name, |now| now > before + 50).await?;
    Ok(())
}
