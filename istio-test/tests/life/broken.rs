//! A configuration that is wrong: on a proxy where a good one runs, on a proxy that starts with it, and mended.

use anyhow::Result;
use istio_test::federation::plugin_config;
use istio_test::fixture::federated;
use istio_test::layout::CLIENT;
use istio_test::{Cluster, pod};
use serde_json::{Value, json};

use crate::plugin::{Log, apply, manifest, rename};
use crate::traffic::Traffic;

const REJECTED: [&str; 2] = ["peer_spillover", "config_rejected"];

/// What users get wrong: a name for each kind, the configuration, and how the line that says so begins.
fn wrong() -> Vec<(&'static str, Value, &'static str)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = plugin_config(1);
        change(&mut config);
        config
    };
    let limit = |value: Value| {
        with(&|config| {
            let pool = &mut config["services"][0]["trafficPolicy"]["connectionPool"];
            pool["http"]["http2MaxRequests"] = value.clone();
        })
    };
    const LIMIT: &str =
        "services[0].trafficPolicy.connectionPool.http.http2MaxRequests: must be a whole number";
    vec![
        (
            "unknown-field",
            with(&|config| config["services"][0]["limit"] = 5.into()),
            "services[0].limit: unknown field; remove it",
        ),
        ("wrong-type", limit("1".into()), LIMIT),
        ("impossible-value", limit(0.into()), LIMIT),
        (
            "one-host-twice",
            with(&|config| {
                let service = config["services"][0].clone();
                config["services"] = json!([service.clone(), service]);
            }),
            "services[1]: host a.istio.svc.cluster.local is there twice",
        ),
        (
            "missing-peers",
            with(&|config| {
                config["services"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("peers");
            }),
            "services[0].peers: is missing; add",
        ),
        (
            "version-2",
            with(&|config| config["version"] = 2.into()),
            "version: must be a whole number from 1 to 1, not 2",
        ),
        (
            "empty",
            json!({}),
            "configuration: is empty; set spec.pluginConfig",
        ),
    ]
}

/// Whatever is wrong, the good configuration goes on as before, and what is mended takes effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_on_a_running_proxy() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let with = |config: &Value| manifest(&folder, config, |_| ());
    let proxy = mesh.proxy(&CLIENT);
    let traffic = Traffic::start(&mesh).await?;
    apply(&mesh, &with(&plugin_config(1))?).await?;
    traffic.spills().await?;
    // The API server already refuses what is no object.
    for config in [json!("limit: 1"), json!([plugin_config(1)]), json!(1)] {
        let error = apply(&mesh, &with(&config)?).await.unwrap_err().to_string();
        assert!(
            error.contains("spec.pluginConfig: Invalid value"),
            "{error}"
        );
    }
    for (_, config, line) in wrong() {
        let log = Log::from_now(&mesh)?;
        let before = proxy.sum(&REJECTED).await?;
        apply(&mesh, &with(&config)?).await?;
        let line = format!("the configuration before stays in force: {line}");
        log.wait(&["configuration rejected", &line]).await?;
        proxy.wait_sum(&REJECTED, |now| now > before).await?;
        traffic.spills().await?;
    }
    apply(&mesh, &with(&plugin_config(100))?).await?;
    traffic.stays().await?;

    // Removed and put back with what is wrong, while connections of before may still be there.
    apply(&mesh, &with(&plugin_config(1))?).await?;
    traffic.spills().await?;
    mesh.kube(Cluster::Home)
        .delete(&with(&plugin_config(1))?.to_string())
        .await?;
    traffic.passes().await?;
    let log = Log::from_now(&mesh)?;
    // Not one of those: Envoy remembers what it refused, and does not ask a second time.
    let mut config = plugin_config(1);
    config["version"] = 3.into();
    apply(&mesh, &with(&config)?).await?;
    log.wait(&["configuration rejected", "not 3"]).await?;
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}

/// A proxy that starts with what is wrong serves, leaves every request alone, says so, and takes what is mended.
///
/// Each kind is a plugin of its own, all in one proxy: one that answered in place of the application would be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_on_a_cold_proxy() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let all = |config: &dyn Fn(&Value) -> Value| -> Result<Value> {
        let of = |(kind, bad, _): &(&str, Value, &str)| -> Result<Value> {
            Ok(rename(manifest(&folder, &config(bad), |_| ())?, kind))
        };
        let items: Result<Vec<Value>> = wrong().iter().map(of).collect();
        Ok(json!({"apiVersion": "v1", "kind": "List", "items": items?}))
    };
    let proxy = mesh.proxy(&CLIENT);
    apply(&mesh, &all(&Value::clone)?).await?;
    let log = Log::from_now(&mesh)?;
    mesh.restart_proxy(&CLIENT).await?;
    let traffic = Traffic::start(&mesh).await?;
    traffic.passes().await?;
    for (kind, _, line) in wrong() {
        let line = format!("every request passes untouched: {line}");
        log.wait(&["configuration rejected", &line]).await?;
        let rejected = [&format!("plugin=.=istio.{kind}_"), "config_rejected"];
        assert!(proxy.sum(&rejected).await? > 0, "{kind}");
    }
    assert_eq!(proxy.sum(&["peer_spillover", "decisions"]).await?, 0);
    assert_eq!(proxy.sum(&["peer_spillover", "info"]).await?, 0);

    apply(&mesh, &all(&|_| plugin_config(1))?).await?;
    for (kind, _, _) in wrong() {
        let decided = [&format!("plugin=.=istio.{kind}_"), ";.;decisions"];
        proxy.wait_sum(&decided, |n| n > 10).await?;
    }
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}

/// What a proxy started with, and what was mended since, comes back, and is mended once more.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_mistake_twice() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let good = manifest(&folder, &plugin_config(1), |_| ())?;
    let mut config = plugin_config(1);
    config["version"] = 2.into();
    let bad = manifest(&folder, &config, |_| ())?;
    let traffic = Traffic::start(&mesh).await?;
    let log = Log::from_now(&mesh)?;
    apply(&mesh, &bad).await?;
    log.wait(&["configuration rejected, every request passes untouched"])
        .await?;
    apply(&mesh, &good).await?;
    traffic.spills().await?;

    let log = Log::from_now(&mesh)?;
    apply(&mesh, &bad).await?;
    log.wait(&["configuration rejected, the configuration before stays in force"])
        .await?;
    traffic.spills().await?;
    apply(&mesh, &manifest(&folder, &plugin_config(100), |_| ())?).await?;
    traffic.stays().await?;
    traffic.end().await?;
    Ok(())
}

/// What was refused while a good one ran is put back when that one is gone, and another plugin has kept the module loaded.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_mistake_after_a_removal() -> Result<()> {
    let (mesh, folder) = federated().await?;
    // Connections of before are closed soon, and with them ends what served them. Not sooner than a connection manager says
    // so to those who use them, five seconds after the drain began: a drain that ends before breaks requests off.
    mesh.kill_proxy(&CLIENT).await?;
    let drain = r#","drainDuration":"8s""#;
    pod::start_proxy_with(&mesh.layout, &CLIENT, &mesh.envoy(), drain, &[])?;
    pod::wait_ready(&mesh.layout, &CLIENT).await?;
    let mut config = plugin_config(100);
    config["debugHeader"] = false.into();
    let other = rename(manifest(&folder, &config, |_| ())?, "other");
    let good = manifest(&folder, &plugin_config(1), |_| ())?;
    let mut config = plugin_config(1);
    config["version"] = 2.into();
    let bad = manifest(&folder, &config, |_| ())?;
    let traffic = Traffic::start(&mesh).await?;
    apply(&mesh, &other).await?;
    apply(&mesh, &good).await?;
    traffic.spills().await?;
    let log = Log::from_now(&mesh)?;
    apply(&mesh, &bad).await?;
    log.wait(&["configuration rejected", "stays in force"])
        .await?;
    traffic.spills().await?;
    mesh.kube(Cluster::Home).delete(&bad.to_string()).await?;
    traffic.passes().await?;
    let proxy = mesh.proxy(&CLIENT);
    let ran = ["plugin=.=istio.peer-spillover_", "configured"];
    proxy.wait_sum(&ran, |running| running == 0).await?;

    apply(&mesh, &bad).await?;
    proxy
        .wait_config("the plugin is back", |config| {
            config.contains("istio.peer-spillover~")
        })
        .await?;
    traffic.passes().await?;
    apply(&mesh, &good).await?;
    traffic.spills().await?;
    traffic.end().await?;
    Ok(())
}
