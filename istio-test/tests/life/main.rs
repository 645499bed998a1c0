//! The life of the plugin under a load of a hundred requests a second: whatever is done to it, no request fails.

mod access;
mod broken;
mod plugin;
mod registry;
mod rollout;
mod traffic;
mod two;
mod upgrade;

use anyhow::Result;
use istio_test::Cluster;
use istio_test::federation::plugin_config;
use istio_test::fixture::{self, federated};
use istio_test::layout::CLIENT;
use plugin::{apply, manifest};
use traffic::Traffic;

/// Applied to a running sidecar, changed, and removed.
#[tokio::test(flavor = "multi_thread")]
async fn applied_changed_and_removed() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let with = |config| manifest(&folder, &config, |_| ());
    let proxy = mesh.proxy(&CLIENT);
    let traffic = Traffic::start(&mesh).await?;
    traffic.passes().await?;

    for limit in [1, 100, 1] {
        apply(&mesh, &with(plugin_config(limit))?).await?;
        match limit {
            1 => traffic.spills().await?,
            _ => traffic.stays().await?,
        }
    }

    let would = [
        "peer_spillover",
        "destination=.=gke;.;reason=.=limit;.;decisions",
    ];
    let mut config = plugin_config(1);
    config["mode"] = "observe".into();
    apply(&mesh, &with(config.clone())?).await?;
    traffic.passes().await?;
    let before = proxy.sum(&would).await?;
    proxy.wait_sum(&would, |now| now > before + 10).await?;

    config["mode"] = "off".into();
    apply(&mesh, &with(config)?).await?;
    proxy
        .wait_sum(&["mode=.=off;.", "info"], |running| running > 0)
        .await?;
    traffic.passes().await?;

    apply(&mesh, &with(plugin_config(1))?).await?;
    traffic.spills().await?;
    let plugin = with(plugin_config(1))?.to_string();
    mesh.kube(Cluster::Home).delete(&plugin).await?;
    traffic.passes().await?;
    traffic.end().await?;
    fixture::in_flight(&mesh, 0).await?;
    Ok(())
}
