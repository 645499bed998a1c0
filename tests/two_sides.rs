//! One plugin name in two listeners: what is refused on one side of a proxy never goes on with the other side's
//! configuration, and both sides together are one VM in the metrics.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envoy_test::wait::until_some;
use envoy_test::world::{
    HOME, HOST, PEER, PLUGIN, metric, plugin_config, service_metric, wait_ticks,
};
use envoy_test::{Client, Envoy, EnvoyOptions, World};
use serde_json::{Value, json};

const MARKER: &str = "x-peer-spillover-from";
const SIDES: [(&str, &str); 2] = [("inbound", "INBOUND"), ("outbound", "OUTBOUND")];

/// Home's proxy with two listeners that have the same plugin, each with a configuration of its own.
struct Proxy {
    world: World,
    envoy: Envoy,
    dir: PathBuf,
}

impl Proxy {
    /// Its listeners in this order, each with its configuration.
    async fn start(sides: [(usize, Value); 2]) -> Result<Proxy> {
        let world = World::builder().start().await?;
        let dir = world.envoy.dir().to_owned();
        let mut bootstrap: Value =
            serde_yaml_ng::from_str(&fs::read_to_string(dir.join("envoy.yaml"))?)?;
        let listener = bootstrap["static_resources"]["listeners"][0].clone();
        let mut listeners = Vec::new();
        for (side, config) in &sides {
            let (name, direction) = SIDES[*side];
            let mut listener = listener.clone();
            listener["name"] = name.into();
            listener["traffic_direction"] = direction.into();
            let filters =
                &mut listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
            let source = "/0/config_discovery/config_source/path_config_source/path";
            let path = filters.pointer_mut(source).context("a file")?;
            let pattern = PathBuf::from(path.as_str().context("its path")?);
            *path = dir.join(name).display().to_string().into();
            filters[0]["name"] = name.into();
            fs::copy(&pattern, dir.join("pattern"))?;
            write(&dir, name, config)?;
            listeners.push(listener);
        }
        bootstrap["static_resources"]["listeners"] = listeners.into();
        let envoy = Envoy::start(bootstrap.to_string(), EnvoyOptions::default()).await?;
        Ok(Proxy { world, envoy, dir })
    }

    /// Gives a side another configuration; returns when all workers have it.
    async fn configure(&self, side: usize, config: &Value) -> Result<()> {
        let name = SIDES[side].0;
        let reloads = async || -> Result<i64> {
            let of = format!("extension_config_discovery.http_filter.{name}.config_reload");
            Ok(self.envoy.stats_matching(&of).await?.values().sum())
        };
        let before = reloads().await?;
        write(&self.dir, name, config)?;
        until_some("the workers have the new configuration", async || {
            (reloads().await.ok()? > before).then_some(())
        })
        .await
    }

    /// Who answers a request by this side while home's only slot is taken, and what home was told if it did.
    async fn served(&self, side: usize) -> Result<(String, Option<String>)> {
        self.world.home.clear();
        let mut client = Client::http1(self.envoy.listener("outbound")).await?;
        let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
        self.world.home.wait_in_flight(1).await?;
        let mut client = Client::http1(self.envoy.listener(SIDES[side].0)).await?;
        let answer = client.get(HOST, &[(MARKER, "mars")]).await?;
        let marker = self.world.home.requests().get(1).cloned();
        let marker = marker.and_then(|request| request.header(MARKER).map(str::to_owned));
        self.world.home.release("h");
        held.await??;
        self.world.home.wait_in_flight(0).await?;
        Ok((answer.served_by().to_owned(), marker))
    }
}

/// Writes the ECDS resource of a side, in one step.
fn write(dir: &Path, name: &str, config: &Value) -> Result<()> {
    let mut resource: Value = serde_yaml_ng::from_str(&fs::read_to_string(dir.join("pattern"))?)?;
    resource["version_info"] = format!("{config}").into();
    resource["resources"][0]["name"] = name.into();
    resource["resources"][0]["typed_config"]["config"]["configuration"]["value"] =
        config.to_string().into();
    let new = dir.join(format!("{name}.new"));
    fs::write(&new, resource.to_string())?;
    Ok(fs::rename(new, dir.join(name))?)
}

/// One that is refused; another for each side, or Envoy gives both the same root context.
fn bad(side: usize) -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["mode"] = format!("bad-{side}").into();
    config
}

const INBOUND: usize = 0;
const OUTBOUND: usize = 1;

#[tokio::test]
async fn a_refused_inbound_side_leaves_requests_alone_whatever_the_outbound_side_runs() -> Result<()>
{
    let untouched = (HOME.to_owned(), Some("mars".to_owned()));
    let spilled = (PEER.to_owned(), None);
    for inbound in [bad(INBOUND), json!("junk")] {
        let good = plugin_config(1);
        for sides in [
            [(INBOUND, inbound.clone()), (OUTBOUND, good.clone())],
            [(OUTBOUND, good.clone()), (INBOUND, inbound.clone())],
        ] {
            let proxy = Proxy::start(sides).await?;
            for _ in 0..2 {
                assert_eq!(proxy.served(INBOUND).await?, untouched, "{inbound}");
                assert_eq!(proxy.served(OUTBOUND).await?, spilled, "{inbound}");
            }
            proxy
                .envoy
                .wait_log("every request passes untouched")
                .await?;
            // Nor later, when the outbound side is given another good one.
            proxy
                .configure(OUTBOUND, &{
                    let mut c = good.clone();
                    c["debugHeader"] = false.into();
                    c
                })
                .await?;
            assert_eq!(proxy.served(INBOUND).await?, untouched, "{inbound}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_side_goes_on_with_its_own() -> Result<()> {
    let mut inbound = plugin_config(1);
    inbound["services"][0]["mode"] = "observe".into();
    let proxy = Proxy::start([(OUTBOUND, plugin_config(1)), (INBOUND, inbound)]).await?;
    let observed = (HOME.to_owned(), Some("mars".to_owned()));
    let spilled = (PEER.to_owned(), None);
    let labels = [("plugin", PLUGIN), ("role", "client")];
    for refused in [None, Some(INBOUND), Some(OUTBOUND)] {
        if let Some(side) = refused {
            proxy.configure(side, &bad(side)).await?;
        }
        for _ in 0..2 {
            assert_eq!(proxy.served(INBOUND).await?, observed, "{refused:?}");
            assert_eq!(proxy.served(OUTBOUND).await?, spilled, "{refused:?}");
        }
        // The main thread's and the worker's, of which each runs it on both sides.
        let vms = |n| move |value| value == n;
        proxy
            .envoy
            .wait_stat(&metric(&labels, "configured"), vms(2))
            .await?;
        proxy
            .envoy
            .wait_stat(&metric(&labels, "workers"), vms(1))
            .await?;
    }
    let log = proxy.envoy.log();
    assert!(!log.contains("every request passes untouched"));
    Ok(())
}

/// The main thread's VM gets no requests, so it does not know which of its root contexts is of which side.
#[tokio::test]
async fn a_side_shows_nothing_of_what_the_other_side_serves() -> Result<()> {
    let another = |limit| {
        let mut config = plugin_config(limit);
        config["services"][0]["host"] = "b.istio.svc.cluster.local".into();
        config["services"][0]["peers"][0]["host"] = "b.istio.gke.global".into();
        config
    };
    let proxy = Proxy::start([(OUTBOUND, plugin_config(1)), (INBOUND, another(7))]).await?;
    let spilled = (PEER.to_owned(), None);
    let limit = service_metric(HOST, "limit");
    for n in 0..3 {
        if n > 0 {
            proxy.configure(INBOUND, &another(7 + n)).await?;
        }
        assert_eq!(proxy.served(OUTBOUND).await?, spilled, "{n}");
        assert_eq!(proxy.served(INBOUND).await?.0, HOME, "{n}");
        wait_ticks(&proxy.envoy, 3).await?;
        assert_eq!(proxy.envoy.stat(&limit).await?, Some(1), "{n}");
    }
    // What no side serves any more shows no limit.
    proxy.configure(OUTBOUND, &another(3)).await?;
    proxy.envoy.wait_stat(&limit, |limit| limit == 0).await?;
    Ok(())
}

/// As a WasmPlugin without `match` is: Envoy gives listeners with the same configuration one root context.
#[tokio::test]
async fn sides_that_share_a_configuration_go_on_with_it_both() -> Result<()> {
    let good = plugin_config(1);
    let proxy = Proxy::start([(OUTBOUND, good.clone()), (INBOUND, good)]).await?;
    let spilled = (PEER.to_owned(), None);
    for round in 0..3 {
        for side in [INBOUND, OUTBOUND, INBOUND] {
            assert_eq!(proxy.served(side).await?, spilled, "{round}");
        }
        // The same bad one on both sides, one after the other.
        if round < 2 {
            proxy.configure([INBOUND, OUTBOUND][round], &bad(0)).await?;
        }
    }
    Ok(())
}

/// Each side had its own, and both get the same bad one.
#[tokio::test]
async fn a_refused_configuration_of_both_sides_goes_on_with_what_each_had() -> Result<()> {
    let mut inbound = plugin_config(1);
    inbound["services"][0]["mode"] = "observe".into();
    let proxy = Proxy::start([(OUTBOUND, plugin_config(1)), (INBOUND, inbound)]).await?;
    for round in 0..3 {
        for _ in 0..2 {
            let observed = (HOME.to_owned(), Some("mars".to_owned()));
            assert_eq!(proxy.served(INBOUND).await?, observed, "{round}");
            assert_eq!(
                proxy.served(OUTBOUND).await?,
                (PEER.to_owned(), None),
                "{round}"
            );
        }
        if round < 2 {
            proxy.configure([INBOUND, OUTBOUND][round], &bad(0)).await?;
        }
    }
    Ok(())
}

/// Where a listener does not say its direction, the role still keeps two apart, if the refused configuration says it.
#[tokio::test]
async fn a_refused_server_does_not_go_on_as_a_client() -> Result<()> {
    let world = World::builder().start().await?;
    let server = json!({"version": 1, "cluster": HOME, "role": "server", "services": []});
    world.set_filter_config(server).await?;
    let line = world.envoy.wait_log("configuration rejected").await?;
    assert!(
        line.contains("every request passes untouched: services: is empty"),
        "{line}"
    );
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
    world.home.wait_in_flight(1).await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    world.home.release("h");
    held.await??;
    Ok(())
}
