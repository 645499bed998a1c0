//! Some pods first, then all, and back: by labels of pods and the selector of a WasmPlugin.

use anyhow::Result;
use istio_test::federation::plugin_config;
use istio_test::fixture::{self, federated};
use istio_test::layout::{CLIENT, PodSpec, STRANGER};
use istio_test::mesh::Mesh;
use serde_json::{Value, json};

use crate::plugin::{apply, manifest, rename};
use crate::traffic::Traffic;

const LABEL: &str = "peer-spillover";
const FIRST: &str = "istio.peer-spillover";
const NEXT: &str = "istio.peer-spillover-next";

fn only(value: &str) -> impl FnOnce(&mut Value) {
    move |spec| spec["selector"] = json!({"matchLabels": {LABEL: value}})
}

/// kubectl label: `value` is empty where the label is to go.
async fn label(mesh: &Mesh, pod: &PodSpec, value: &str) -> Result<()> {
    let change = match value {
        "" => format!("{LABEL}-"),
        value => format!("{LABEL}={value}"),
    };
    let arguments = [
        "label",
        "pod",
        pod.name,
        "-n",
        "istio",
        "--overwrite",
        &change,
    ];
    mesh.kube(pod.cluster).kubectl(&arguments).await?;
    Ok(())
}

/// Waits until the listeners of the pod's proxy have the plugin, or no more. Its metrics stay while those of before drain.
async fn runs(mesh: &Mesh, pod: &PodSpec, plugin: &str, expected: bool) -> Result<()> {
    // Istio 1.31 puts more after the name.
    let names = [format!("{plugin}~"), format!("{plugin}\"")];
    let what = format!("{plugin} runs in {}: {expected}", pod.name);
    let has = |listener: &Value| {
        let active = &listener["active_state"]["listener"];
        let text = active.to_string();
        listener["warming_state"].is_null() && names.iter().any(|name| text.contains(name))
    };
    let as_expected = |all: &[Value]| all.iter().any(has) == expected;
    mesh.proxy(pod).wait_listeners(&what, as_expected).await?;
    Ok(())
}

/// What the client's plugins have decided, each request counted once by each.
async fn decided(mesh: &Mesh, plugin: &str) -> Result<i64> {
    let parts = [
        "peer_spillover",
        &format!("plugin=.={plugin}_"),
        ";.;decisions",
    ];
    mesh.proxy(&CLIENT).sum(&parts).await
}

/// The selector is widened, and the label given to more pods: where the plugin runs already nothing happens, not for one
/// request. What is taken back is taken back for those pods alone.
#[tokio::test(flavor = "multi_thread")]
async fn to_some_pods_first_then_to_all_and_back() -> Result<()> {
    let (mesh, folder) = federated().await?;
    for pod in [CLIENT, STRANGER] {
        label(&mesh, &pod, "").await?;
    }
    let some = manifest(&folder, &plugin_config(1), only("enabled"))?;
    let all = manifest(&folder, &plugin_config(1), |_| ())?;
    let traffic = Traffic::start(&mesh).await?;
    apply(&mesh, &some).await?;
    traffic.passes().await?;
    label(&mesh, &CLIENT, "enabled").await?;
    traffic.spills().await?;
    runs(&mesh, &STRANGER, FIRST, false).await?;
    let from = traffic.now().await?;

    label(&mesh, &STRANGER, "enabled").await?;
    runs(&mesh, &STRANGER, FIRST, true).await?;
    label(&mesh, &STRANGER, "").await?;
    runs(&mesh, &STRANGER, FIRST, false).await?;
    apply(&mesh, &all).await?;
    runs(&mesh, &STRANGER, FIRST, true).await?;
    apply(&mesh, &some).await?;
    runs(&mesh, &STRANGER, FIRST, false).await?;
    traffic.all_decided(from, traffic.now().await?)?;

    label(&mesh, &CLIENT, "").await?;
    traffic.passes().await?;
    traffic.end().await?;
    fixture::in_flight(&mesh, 0).await
}

/// Another version, or other settings, for some pods: a second plugin, and a label whose value says which of the two a pod
/// has. A pod that changes sides is never without, and never has both.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_configuration_to_some_pods_first_and_back() -> Result<()> {
    let (mesh, folder) = federated().await?;
    label(&mesh, &CLIENT, "current").await?;
    let current = manifest(&folder, &plugin_config(1), only("current"))?;
    let next = manifest(&folder, &plugin_config(1), only("next"))?;
    let next = rename(next, "peer-spillover-next");
    let traffic = Traffic::start(&mesh).await?;
    apply(&mesh, &current).await?;
    traffic.spills().await?;
    let from = traffic.now().await?;
    apply(&mesh, &next).await?;
    for (value, plugin) in [("next", NEXT), ("current", FIRST)] {
        let before = decided(&mesh, plugin).await?;
        label(&mesh, &CLIENT, value).await?;
        let decisions = [
            "peer_spillover",
            &format!("plugin=.={plugin}_"),
            ";.;decisions",
        ];
        let more = |now: i64| now > before + 100;
        mesh.proxy(&CLIENT).wait_sum(&decisions, more).await?;
    }
    traffic.spills().await?;
    let to = traffic.now().await?;
    traffic.all_decided(from, to)?;
    label(&mesh, &CLIENT, "").await?;
    traffic.passes().await?;
    let answers = traffic.end().await?;
    let counted = decided(&mesh, FIRST).await? + decided(&mesh, NEXT).await?;
    let told = answers
        .iter()
        .filter(|outcome| !outcome.decision.is_empty());
    assert_eq!(counted, told.count() as i64, "each was decided once");
    fixture::in_flight(&mesh, 0).await
}
