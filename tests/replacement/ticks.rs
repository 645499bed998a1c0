//! Where the plugin comes with its listener, Envoy keeps every root context for as long as the listener drains, ten minutes by
//! default, on all its threads. One that another took the place of ticks no more, unless it has streams; its VM goes on ticking.
//!
//! A build for tests counts the ticks of all root contexts. A VM beats once for each of its own ticks: so there are as many ticks as
//! beats, where one root context of each VM ticks.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PEER, service_metric};
use envoy_test::{Answer, Client, Envoy, EnvoyOptions, World};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::*;

const VMS: i64 = WORKERS as i64 + 1;
/// Beats of each VM in which ticks are counted.
const WINDOW: i64 = 5;

/// A second proxy like the world's, whose listener comes from a file, with the plugin in it.
struct Proxy {
    envoy: Envoy,
    path: PathBuf,
    listener: Value,
}

impl Proxy {
    async fn start(world: &World) -> Result<Proxy> {
        let bootstrap = fs::read_to_string(world.envoy.dir().join("envoy.yaml"))?;
        let mut bootstrap: Value = serde_yaml_ng::from_str(&bootstrap)?;
        let mut listener = bootstrap["static_resources"]["listeners"][0].take();
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        let filters = "/filter_chains/0/filters/0/typed_config/http_filters";
        let filters = listener.pointer_mut(filters).and_then(Value::as_array_mut);
        let mut filters = filters.context("http_filters")?.iter_mut();
        let ours = filters.find(|filter| !filter["config_discovery"].is_null());
        let ours = ours.context("no plugin")?;
        let resource = ours.pointer("/config_discovery/config_source/path_config_source/path");
        let resource = fs::read_to_string(resource.and_then(Value::as_str).context("a path")?)?;
        let resource: Value = serde_yaml_ng::from_str(&resource)?;
        let typed_config = &resource["resources"][0]["typed_config"];
        *ours = json!({"name": ours["name"], "typed_config": typed_config});
        let path = world.envoy.dir().join("listener.json");
        bootstrap["static_resources"]["listeners"] = json!([]);
        bootstrap["dynamic_resources"]["lds_config"] =
            json!({"resource_api_version": "V3", "path_config_source": {"path": path}});
        write(&path, &listener)?;
        let options = EnvoyOptions {
            concurrency: WORKERS,
            name: "lds".to_owned(),
            ..EnvoyOptions::default()
        };
        let envoy = Envoy::start(bootstrap.to_string(), options).await?;
        Ok(Proxy {
            envoy,
            path,
            listener,
        })
    }

    async fn client(&self) -> Result<Client> {
        Client::http1(self.envoy.listener("outbound")).await
    }

    /// Gives it another configuration, which a request sees.
    async fn update(&mut self, config: &str) -> Result<()> {
        let updated = "listener_manager.listener_in_place_updated";
        let before = self.envoy.stat(updated).await?.unwrap_or(0);
        let value = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";
        let value = self.listener.pointer_mut(value);
        *value.context("the plugin's configuration")? = json!(config);
        write(&self.path, &self.listener)?;
        self.envoy.wait_stat(updated, |now| now > before).await?;
        let answer = self.client().await?.get(HOST, &[]).await?;
        ensure!(answer.status == 200, "{config}: {answer:?}");
        Ok(())
    }

    async fn counts(&self, n: i64) -> Result<()> {
        let in_flight = service_metric(HOST, "in_flight");
        self.envoy.wait_stat(&in_flight, |now| now == n).await?;
        Ok(())
    }

    /// Requests that home holds.
    async fn hold(&self, world: &World, n: usize) -> Result<Vec<JoinHandle<Result<Answer>>>> {
        let mut held = Vec::new();
        for _ in 0..n {
            let mut client = self.client().await?;
            held.push(tokio::spawn(async move {
                client.get(HOST, &[("x-hold", "go")]).await
            }));
        }
        world.home.wait_in_flight(n).await?;
        Ok(held)
    }

    /// All beats so far of each VM, and all ticks.
    async fn beats_and_ticks(&self) -> Result<(Vec<i64>, i64)> {
        let stats = self.envoy.stats_matching("wasmcustom.").await?;
        let beats = stats.iter().filter(|(name, _)| name.ends_with(";.;beats"));
        let ticks = stats.get("wasmcustom.peer_spillover_ticks");
        Ok((
            beats.map(|(_, value)| *value).collect(),
            *ticks.context("this build counts no ticks")?,
        ))
    }

    /// Waits for a time in which one root context of each VM has ticked, and `more` in all.
    async fn ticking(&self, more: i64) -> Result<()> {
        let mut seen = Vec::new();
        let found = until_some("old root contexts do not tick", async || {
            let (before, ticks) = self.beats_and_ticks().await.ok()?;
            let (beats, now) = until_some("all VMs tick", async || {
                let (beats, ticks) = self.beats_and_ticks().await.ok()?;
                let mut each = beats.iter().zip(&before);
                let all = each.all(|(now, before)| now - before >= WINDOW);
                (all && beats.len() == VMS as usize).then_some((beats, ticks))
            })
            .await
            .ok()?;
            let beats: i64 = beats
                .iter()
                .zip(&before)
                .map(|(now, then)| now - then)
                .sum();
            seen.push([beats, now - ticks]);
            // The statistics are no snapshot: each may be read in the middle of a tick.
            (now - ticks <= beats + more * (WINDOW + 2) + VMS).then_some(())
        });
        let found = found.await;
        found.map_err(|error| error.context(format!("beats and ticks: {seen:?}")))
    }
}

fn write(path: &PathBuf, listener: &Value) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, json!({"resources": [listener]}).to_string())?;
    Ok(fs::rename(&new, path)?)
}

fn version(n: u32) -> String {
    config(&[(HOST, 4)], n).to_string()
}

async fn start() -> Result<(World, Proxy)> {
    let module = tokio::task::spawn_blocking(xtask::filter::ensure_with_traps).await??;
    let world = World::builder()
        .filter(config(&[(HOST, 4)], 0))
        .module(&module)
        .start()
        .await?;
    let proxy = Proxy::start(&world).await?;
    Ok((world, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn root_contexts_that_others_took_the_place_of_do_not_tick() -> Result<()> {
    let (world, mut proxy) = start().await?;
    for n in 1..=20 {
        proxy.update(&version(n)).await?;
    }
    // One that is refused takes the place of a good one, and goes on with it.
    for n in 0..10 {
        proxy.update(&format!("{{\"version\": {n}}}")).await?;
    }
    proxy.ticking(0).await?;
    // It still counts.
    let held = proxy.hold(&world, 4).await?;
    let answer = proxy.client().await?.get(HOST, &[]).await?;
    assert_eq!(answer.header("x-peer-spillover"), "gke; reason=limit");
    world.home.release("go");
    for answer in held {
        assert_eq!(answer.await??.served_by(), HOME);
    }
    at_rest(&proxy.envoy, VMS).await
}

/// Streams keep an old one at work; without them it ticks no more, and goes on where Envoy goes back to it.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_root_context_ticks_for_its_streams_and_again_when_it_is_the_current_one()
-> Result<()> {
    let (world, mut proxy) = start().await?;
    for n in [1, 0, 1] {
        let held = proxy.hold(&world, 4).await?;
        proxy.update(&version(n)).await?;
        // Those of an old one, on one worker or on both.
        proxy.ticking(i64::from(WORKERS)).await?;
        proxy.counts(4).await?;
        let answer = proxy.client().await?.get(HOST, &[]).await?;
        assert_eq!(answer.served_by(), PEER);
        world.home.release("go");
        for answer in held {
            assert_eq!(answer.await??.served_by(), HOME);
        }
        proxy.counts(0).await?;
        proxy.ticking(0).await?;
        at_rest(&proxy.envoy, VMS).await?;
        world.home.clear();
    }
    Ok(())
}
