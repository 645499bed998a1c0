//! The table of metrics, and with it docs/metrics.md, is what Envoy shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use envoy_test::World;
use envoy_test::world::{HOST, PEER, PeerRoute, Update, peer_host};
use policy::names::metrics::{INTERNAL, Kind, LABELS, METRICS, fault};
use regex::Regex;
use serde_json::{Value, json};

use super::{two_more, with};

const TELEMETRY: &str = "wasmplugin/telemetry";

fn yaml(file: &str) -> Result<Value> {
    let path = xtask::workspace_root().join(TELEMETRY).join(file);
    Ok(serde_yaml_ng::from_str(&fs::read_to_string(path)?)?)
}

/// The filter's metrics that Envoy shows, by their full names, and what each is called. Every one is declared, with its kind,
/// its labels and their values.
pub async fn declared(world: &World) -> Result<BTreeMap<String, String>> {
    let prometheus = world.envoy.prometheus().await?;
    let kind_of = |name: &str| {
        let typed = format!("# TYPE peer_spillover_{name} ");
        let kind = prometheus
            .lines()
            .find_map(|line| line.strip_prefix(&typed));
        [Kind::Counter, Kind::Gauge]
            .into_iter()
            .find(|k| Some(k.word()) == kind)
    };
    let mut found = BTreeMap::new();
    for full in world
        .envoy
        .stats_matching("peer_spillover_")
        .await?
        .into_keys()
    {
        let full = full.trim_start_matches("wasmcustom.");
        let (_, name) = full.rsplit_once(";.;").context("labels")?;
        let kind = kind_of(name).with_context(|| format!("{name} is not in Prometheus' form"))?;
        assert_eq!(fault(kind, full), None);
        found.insert(full.to_owned(), name.to_owned());
    }
    Ok(found)
}

/// What Prometheus is told to drop, whole names.
fn dropped() -> Result<Regex> {
    let rules = yaml("prometheus.yaml")?;
    let rule = |rules: &Value, source: &str| -> Result<String> {
        assert_eq!(rules[0]["action"], "drop");
        assert_eq!(rules[0][source], json!(["__name__"]));
        Ok(rules[0]["regex"].as_str().context("regex")?.to_owned())
    };
    let own = rule(&rules["metric_relabel_configs"], "source_labels")?;
    assert_eq!(own, rule(&rules["metricRelabelings"], "sourceLabels")?);
    Ok(Regex::new(&format!("^(?:{own})$"))?)
}

/// And the rule for Prometheus drops those that are internal and no other, with the labels in the names or not.
#[tokio::test]
async fn envoy_shows_every_metric_that_is_declared_and_no_other() -> Result<()> {
    let mut seen = BTreeMap::new();
    let detecting = with(|c| {
        c["services"][0]["trafficPolicy"]["outlierDetection"] = json!({});
    });
    let mut two_peers = detecting.clone();
    let mut peers = ["nowhere", PEER]
        .map(|name| json!({"name": name, "host": peer_host(HOST, name), "trafficPolicy": {"outlierDetection": {}}}));
    peers[1]["priority"] = json!(1);
    two_peers["services"][0]["peers"] = json!(peers);
    for (route, config) in [
        (PeerRoute::Gateway, &detecting),
        (PeerRoute::Missing, &detecting),
        (PeerRoute::Gateway, &two_peers),
    ] {
        let world = World::builder()
            .filter(config.clone())
            .peer_route(route)
            .workers(2);
        let world = world.start().await?;
        two_more(&world).await?;
        world.get(&[("x-peer-spillover-from", "mars")]).await?;
        let bad = with(|c| c["version"] = json!(2));
        assert_eq!(world.set_filter_config(bad).await?, Update::Accepted);
        world.wait_ticks(1).await?;
        seen.extend(declared(&world).await?);
    }
    let shown: BTreeSet<&str> = seen.values().map(String::as_str).collect();
    let all = METRICS.iter().chain(INTERNAL).map(|metric| metric.name);
    assert_eq!(shown, all.collect());

    let dropped = dropped()?;
    for (full, name) in &seen {
        let internal = INTERNAL.iter().any(|metric| metric.name == name);
        assert_eq!(
            dropped.is_match(&format!("peer_spillover_{name}")),
            internal,
            "{name}"
        );
        // As Envoy names them where nobody asks for labels.
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let sample: String = full.chars().map(plain).collect();
        assert_eq!(dropped.is_match(&sample), internal, "{sample}");
    }
    Ok(())
}

#[test]
fn istio_is_asked_to_take_every_label_out_of_the_names() -> Result<()> {
    let tags = yaml("meshconfig.yaml")?["meshConfig"]["defaultConfig"]["extraStatTags"].take();
    let tags: BTreeSet<&str> = tags
        .as_array()
        .context("no tags")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(tags, LABELS.iter().map(|label| label.name).collect());
    Ok(())
}
