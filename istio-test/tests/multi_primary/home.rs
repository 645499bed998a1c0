//! What keeps at home what the filter leaves at home, where the service has the endpoints of both clusters.

use anyhow::Result;
use envoy_test::load::{Outcome, answered_by};
use istio_test::experiment::apply_plugin;
use istio_test::federation::plugin_config;
use istio_test::fixture::{home, peer};
use istio_test::layout::Cluster;
use istio_test::mesh::SERVICE;
use istio_test::{Mesh, control};
use serde_json::json;

use crate::{joined, led_to, priorities, priorities_in, send};

/// Any of three measures keeps at home what the filter leaves at home. The surplus goes the way of two meshes here, which
/// holds with each of them.
#[tokio::test(flavor = "multi_thread")]
async fn with_any_of_three_measures_home_is_home() -> Result<()> {
    let (mesh, folder) = joined().await?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply_folder(&folder.join("federation")).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;

    let near = "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: istio}, spec: {selector: {app: a},
        ports: [{name: http, port: 80, targetPort: 8080}], trafficDistribution: PreferClose}}";
    kube.apply(near).await?;
    keeps_home(&mesh, "trafficDistribution", Some(1)).await?;
    kube.apply(&near.replace(", trafficDistribution: PreferClose", ""))
        .await?;
    priorities(&mesh, "nothing is preferred", Some(0), Some(0)).await?;

    let local =
        format!("serviceSettings: [{{settings: {{clusterLocal: true}}, hosts: [{SERVICE}]}}]\n");
    control::write_mesh_config(&mesh.layout, Cluster::Home, &local)?;
    keeps_home(&mesh, "clusterLocal", None).await?;
    control::write_mesh_config(&mesh.layout, Cluster::Home, "")?;
    priorities(&mesh, "nothing is preferred", Some(0), Some(0)).await?;

    let rule = |detection: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: istio}}, spec: {{
            host: {SERVICE}, trafficPolicy: {{connectionPool: {{http: {{idleTimeout: 2s}}}}, loadBalancer: {{
            localityLbSetting: {{enabled: true, failoverPriority: [\"topology.istio.io/cluster\"]}}}}{detection}}}}}}}"
        )
    };
    kube.apply(&rule(", outlierDetection: {consecutive5xxErrors: 0}"))
        .await?;
    keeps_home(&mesh, "failoverPriority", Some(1)).await?;
    kube.apply(&rule("")).await?;
    priorities(
        &mesh,
        "no outlierDetection, no priorities",
        Some(0),
        Some(0),
    )
    .await
}

/// Three clients at a limit of 1, the peer at this priority.
async fn keeps_home(mesh: &Mesh, measure: &str, at: Option<u64>) -> Result<()> {
    priorities(mesh, measure, Some(0), at).await?;
    goes_where_it_is_decided(mesh, measure).await
}

async fn goes_where_it_is_decided(mesh: &Mesh, measure: &str) -> Result<()> {
    let outcomes = send(mesh, 3, 60).await?;
    let spilled = |one: &&Outcome| one.decision.starts_with(Cluster::Peer.name());
    for one in &outcomes {
        let by = if spilled(&one) { peer() } else { home() };
        assert_eq!(one.served_by, by, "{measure}: {one:?}");
    }
    let spilled = outcomes.iter().filter(spilled).count();
    println!("{measure}: {} home, {spilled} peer", 60 - spilled);
    assert!(spilled > 0 && spilled < 60, "{measure}: {spilled} of 60");
    Ok(())
}

/// A Service with its fields, a DestinationRule with a `trafficPolicy` and subsets, and a VirtualService whose home route has this
/// subset.
async fn set_up(mesh: &Mesh, service: &str, policy: &str, subsets: &str, home: &str) -> Result<()> {
    let kube = mesh.kube(Cluster::Home);
    kube.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: istio}}, spec: {{selector: {{app: a}},
        ports: [{{name: http, port: 80, targetPort: 8080}}]{service}}}}}"
    ))
    .await?;
    kube.apply(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: istio}}, spec: {{
        host: {SERVICE}, trafficPolicy: {{connectionPool: {{http: {{idleTimeout: 2s}}}}{policy}}}, subsets: [{subsets}
        {{name: gke, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, sni: outbound_.80_._.{SERVICE}}},
        {}}}}}]}}}}",
        first("topology.istio.io/cluster=gke")
    ))
    .await?;
    kube.apply(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: a, namespace: istio}}, spec: {{
        hosts: [{SERVICE}], http: [
        {{match: [{{headers: {{x-peer-spillover-to: {{exact: gke}}}}}}], route: [{{destination: {{host: {SERVICE}, subset: gke}}}}]}},
        {{route: [{{destination: {{host: {SERVICE}{home}}}}}]}}]}}}}"
    ))
    .await?;
    Ok(())
}

/// The part of a `trafficPolicy` by which the endpoints of a cluster come first.
fn first(cluster: &str) -> String {
    format!(
        "loadBalancer: {{localityLbSetting: {{enabled: true, failoverPriority: [\"{cluster}\"]}}}},
        outlierDetection: {{consecutive5xxErrors: 0}}"
    )
}

/// What home may be where the peer is a subset: whatever keeps its requests here, a subset of its own too. Only without the
/// peer's endpoints there is no peer.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_subset_as_the_peer_home_may_be_a_subset_too() -> Result<()> {
    let (mesh, folder) = joined().await?;
    let mut config = plugin_config(1);
    config["services"][0]["peers"] = json!([{"name": "gke", "subset": "gke"}]);
    let near = ", trafficDistribution: PreferClose";
    set_up(&mesh, near, "", "", "").await?;
    apply_plugin(&mesh, &folder, &config).await?;
    led_to(&mesh, "gke").await?;
    let (here, there) = (Some(0), Some(1));

    let what = "trafficDistribution";
    priorities(&mesh, what, here, there).await?;
    priorities_in(&mesh, what, "gke", there, here).await?;
    goes_where_it_is_decided(&mesh, what).await?;

    let what = "failoverPriority";
    let prefers_home = format!(", {}", first("topology.istio.io/cluster"));
    set_up(&mesh, "", &prefers_home, "", "").await?;
    priorities(&mesh, what, here, there).await?;
    priorities_in(&mesh, what, "gke", there, here).await?;
    goes_where_it_is_decided(&mesh, what).await?;

    let local =
        format!("serviceSettings: [{{settings: {{clusterLocal: true}}, hosts: [{SERVICE}]}}]\n");
    control::write_mesh_config(&mesh.layout, Cluster::Home, &local)?;
    set_up(&mesh, "", "", "", "").await?;
    priorities_in(&mesh, "clusterLocal", "gke", here, None).await?;
    let outcomes = send(&mesh, 3, 60).await?;
    assert_eq!(answered_by(&outcomes, &home()), 60);
    control::write_mesh_config(&mesh.layout, Cluster::Home, "")?;
    priorities(&mesh, "nothing is preferred", here, here).await?;

    let by_priority = format!(
        "{{name: home, trafficPolicy: {{{}}}}},",
        first("topology.istio.io/cluster")
    );
    let by_label = format!(
        "{{name: home, labels: {{topology.istio.io/cluster: {}}}}},",
        Cluster::Home.name()
    );
    for (what, subset, peer) in [
        ("a subset by priority", by_priority, there),
        ("a subset by label", by_label, None),
    ] {
        set_up(&mesh, "", "", &subset, ", subset: home").await?;
        priorities(&mesh, what, here, here).await?;
        priorities_in(&mesh, what, "home", here, peer).await?;
        priorities_in(&mesh, what, "gke", there, here).await?;
        led_to(&mesh, "home").await?;
        goes_where_it_is_decided(&mesh, what).await?;
    }
    Ok(())
}
