//! What a scraper sees of the filter on the sidecar's own Prometheus endpoint (15090).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use envoy_test::load::{Until, answered_by, closed_loop, failed};
use envoy_test::wait::until_some;
use istio_test::experiment::apply_plugin;
use istio_test::federation::{PEER_HOST, plugin_config};
use istio_test::fixture::{federated, in_flight, load, peer};
use istio_test::layout::{CLIENT, PEER_GATEWAY};
use istio_test::{Cluster, Mesh, control, pod};
use serde_json::Value;

/// The plugin's name as istiod makes it of namespace and name, with what Prometheus does not take replaced.
const PLUGIN: &str = "istio_peer_spillover_istio_translated_wasmplugin";
const SERVICE: &str = "a_istio_svc_cluster_local";

/// Twelve requests by three clients on a limit of 1, and then what the endpoint says.
async fn scraped(mesh: &Mesh) -> Result<String> {
    let outcomes = closed_loop(load(mesh, 3, Until::Requests(12)).await?).await?;
    assert_eq!(failed(&outcomes), 0);
    mesh.proxy(&CLIENT).prometheus().await
}

/// The value of the line that begins with `series`, whatever its labels are but `{}`.
fn value(text: &str, series: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.starts_with(series));
    let line = line.with_context(|| format!("no {series} in:\n{}", ours(text)))?;
    let (_, value) = line.rsplit_once(' ').context("a line without a value")?;
    Ok(value.parse()?)
}

fn ours(text: &str) -> String {
    let lines = text.lines().filter(|line| line.contains("peer_spillover"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Without any setting the whole key is in the name, which begins with `peer_spillover_` and ends with what is counted.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_labels_are_in_the_names() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    in_flight(&mesh, 0).await?;
    let text = scraped(&mesh).await?;
    let plugin = format!("peer_spillover_plugin___{PLUGIN}___role___client___");
    let service = format!("{plugin}service___{SERVICE}___");
    let home = value(
        &text,
        &format!("{service}destination___home___reason___room___decisions{{"),
    )?;
    let peer = value(
        &text,
        &format!("{service}destination___gke___reason___limit___decisions{{"),
    )?;
    assert_eq!(home + peer, 12.0, "each request was decided once");
    assert!(home > 0.0 && peer > 0.0);
    assert_eq!(value(&text, &format!("{service}limit{{"))?, 1.0);
    assert_eq!(value(&text, &format!("{service}in_flight{{"))?, 0.0);
    let info = "version___0_1_0___mode___enforce___cluster___iotcloudserve___info{";
    // Two workers and the main thread.
    assert_eq!(value(&text, &format!("{plugin}{info}"))?, 3.0);
    assert!(value(&text, &format!("{plugin}heartbeat{{"))? > 0.0);
    Ok(())
}

/// With the `extraStatTags` of wasmplugin/telemetry/meshconfig.yaml they are labels.
#[tokio::test(flavor = "multi_thread")]
async fn with_extra_stat_tags_the_labels_are_labels() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let tags = mesh_config(&folder)?["defaultConfig"]["extraStatTags"].to_string();
    mesh.kill_proxy(&CLIENT).await?;
    let more = format!(r#","extraStatTags":{tags}"#);
    pod::start_proxy_with(&mesh.layout, &CLIENT, &mesh.envoy(), &more, &[])?;
    pod::wait_ready(&mesh.layout, &CLIENT).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let text = scraped(&mesh).await?;
    let plugin = r#"plugin="istio.peer-spillover_istio-translated-wasmplugin""#;
    let mut decided = 0.0;
    for (destination, reason) in [("home", "room"), ("gke", "limit")] {
        let line = text.lines().find(|line| {
            line.starts_with("peer_spillover_decisions{")
                && line.contains(plugin)
                && line.contains(r#"role="client""#)
                && line.contains(r#"service="a.istio.svc.cluster.local""#)
                && line.contains(&format!(r#"destination="{destination}""#))
                && line.contains(&format!(r#"reason="{reason}""#))
        });
        let line = line.with_context(|| format!("no {destination} in:\n{}", ours(&text)))?;
        decided += value(line, "peer_spillover_decisions{")?;
    }
    assert_eq!(
        decided,
        12.0,
        "each request was decided once:\n{}",
        ours(&text)
    );
    for name in ["in_flight", "limit", "info", "configured", "heartbeat"] {
        value(&text, &format!("peer_spillover_{name}{{"))?;
    }
    assert!(
        !ours(&text).contains("___"),
        "a label is left in a name:\n{}",
        ours(&text)
    );
    Ok(())
}

/// Where spilled requests come home, the reason is in the proxy: the peer's endpoint in `/clusters` whatever Istio hides, and
/// the statistics of its cluster with the `proxyStatsMatcher` that docs/troubleshooting.md gives. It hides nothing that the
/// filter needs.
#[tokio::test(flavor = "multi_thread")]
async fn why_spilled_requests_come_home() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let proxy = mesh.proxy(&CLIENT);
    let hidden = [PEER_HOST, "upstream_cx_connect_fail"];
    come_home(&mesh).await?;
    let failed = format!("{}:15443::cx_connect_fail::", PEER_GATEWAY.ip());
    let clusters = proxy.admin("/clusters").await?;
    let line = clusters.lines().find(|line| line.contains(&failed));
    assert!(
        line.is_some_and(|line| !line.ends_with("::0")),
        "{clusters}"
    );
    assert_eq!(proxy.sum(&hidden).await?, 0);

    let page = fs::read_to_string(xtask::workspace_root().join("docs/troubleshooting.md"))?;
    let begin = "proxyStatsMatcher:\n";
    let lines = page
        .split_once(begin)
        .context("the page has no proxyStatsMatcher")?
        .1;
    let lines = lines.split("```").next().unwrap_or_default();
    let matcher: Value = serde_yaml_ng::from_str(&format!("proxyStatsMatcher:\n{lines}"))?;
    let more = format!(r#","proxyStatsMatcher":{}"#, matcher["proxyStatsMatcher"]);
    mesh.kill_proxy(&CLIENT).await?;
    pod::start_proxy_with(&mesh.layout, &CLIENT, &mesh.envoy(), &more, &[])?;
    pod::wait_ready(&mesh.layout, &CLIENT).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    come_home(&mesh).await?;
    assert!(proxy.sum(&hidden).await? > 0);
    // It is there, though nothing has failed for its certificate.
    let verify = proxy.stats("ssl.fail_verify_error").await?;
    assert!(
        verify.keys().any(|name| name.contains(PEER_HOST)),
        "{verify:?}"
    );
    Ok(())
}

/// Twelve requests by three clients, some of which are spilled, and all of which are answered by home.
async fn come_home(mesh: &Mesh) -> Result<()> {
    let outcomes = closed_loop(load(mesh, 3, Until::Requests(12)).await?).await?;
    assert_eq!(failed(&outcomes), 0);
    let spilled = outcomes
        .iter()
        .filter(|one| one.decision.starts_with("gke"));
    assert!(spilled.count() > 0);
    assert_eq!(answered_by(&outcomes, &peer()), 0);
    Ok(())
}

/// The access log of wasmplugin/telemetry says what was decided, and only of requests that were not kept within the limit.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_what_was_decided() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let providers = &mesh_config(&folder)?["extensionProviders"];
    let more = format!("extensionProviders: {providers}\n");
    control::write_mesh_config(&mesh.layout, Cluster::Home, &more)?;
    let home = mesh.kube(Cluster::Home);
    home.apply_folder(&folder.join("telemetry")).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let proxy = mesh.proxy(&CLIENT);
    let logged = |config: &str| config.contains("FILTER_STATE(wasm.peer_spillover");
    proxy
        .wait_config("the access log has its format", logged)
        .await?;

    let before = mesh.proxy_log(&CLIENT)?.len();
    let outcomes = closed_loop(load(&mesh, 3, Until::Requests(12)).await?).await?;
    let spilled = answered_by(&outcomes, &peer());
    assert!(spilled > 0 && failed(&outcomes) == 0);
    let entries = until_some("the access log is written", async || {
        let log = mesh.proxy_log(&CLIENT).ok()?;
        let lines = log.get(before..)?.lines();
        let entries: Vec<Value> = lines.filter_map(|l| serde_json::from_str(l).ok()).collect();
        (entries.len() >= spilled).then_some(entries)
    })
    .await?;
    assert_eq!(entries.len(), spilled, "{entries:?}");
    for entry in entries {
        assert_eq!(entry["spillover"], "gke; reason=limit");
        assert_eq!(entry["upstream"], format!("outbound|80||{PEER_HOST}"));
    }
    Ok(())
}

/// What wasmplugin/telemetry/meshconfig.yaml puts into the mesh's configuration.
fn mesh_config(folder: &Path) -> Result<Value> {
    let text = fs::read_to_string(folder.join("telemetry/meshconfig.yaml"))?;
    let values: Value = serde_yaml_ng::from_str(&text)?;
    Ok(values["meshConfig"].clone())
}
