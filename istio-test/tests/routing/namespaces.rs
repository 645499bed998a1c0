//! The way to the peer in another namespace than its clients, and what `exportTo` does to it.

use anyhow::{Context, Result};
use envoy_test::wait::until_some;
use istio_test::Mesh;
use istio_test::experiment::apply_plugin;
use istio_test::federation::{self, PEER_HOST, answered, field};
use istio_test::fixture::{federated, get, home, peer};
use istio_test::layout::{CLIENT, Cluster};
use istio_test::mesh::SERVICE;
use serde_json::{Value, json};

use crate::config;

/// A namespace in which no client is.
const ELSEWHERE: &str = "elsewhere";

/// The three manifests of the way to the peer, in [`ELSEWHERE`]; `hidden` is the kind of the one that is not exported.
async fn apply(mesh: &Mesh, folder: &std::path::Path, hidden: &str) -> Result<()> {
    let kube = mesh.kube(Cluster::Home);
    for file in ["serviceentry", "destinationrule", "virtualservice"] {
        let text = std::fs::read_to_string(folder.join(format!("federation/{file}.yaml")))?;
        let mut manifest: Value = serde_yaml_ng::from_str(&text)?;
        manifest["metadata"]["namespace"] = ELSEWHERE.into();
        let to = if hidden == file { "." } else { "*" };
        manifest["spec"]["exportTo"] = json!([to]);
        kube.apply(&manifest.to_string()).await?;
    }
    Ok(())
}

/// How a request ends, by what its client sees.
async fn outcome(mesh: &Mesh) -> Result<(u16, String, Option<String>)> {
    let answer = get(mesh, "/", &[]).await?;
    let host = field(&answer, "Host");
    Ok((answer.status, answered(&answer), host))
}

/// By default each of them holds for clients in all namespaces. Kept to its own, each costs something else.
#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_peer_may_be_in_another_namespace_if_it_is_exported() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let kube = mesh.kube(Cluster::Home);
    let namespaces = kube.kubectl(&["get", "namespaces", "-o", "name"]).await?;
    if !namespaces.contains(ELSEWHERE) {
        kube.kubectl(&["create", "namespace", ELSEWHERE]).await?;
    }
    apply_plugin(&mesh, &folder, &config("authority", "evacuate")).await?;
    let proxy = mesh.proxy(&CLIENT);
    let way = folder.join("federation");
    let way = way.to_string_lossy();
    kube.kubectl(&["delete", "-k", &way]).await?;
    let cluster = federation::peer_cluster();
    let gone = |config: &str| !config.contains(&cluster);
    proxy.wait_config("the way of istio is gone", gone).await?;

    let rule = "\"split_external_local_origin_errors\": true";
    let retries = "\"retry_on\": \"connect-failure,refused-stream\"";
    let canonical = (200, peer(), Some(SERVICE.to_owned()));
    let of_the_peer = (200, peer(), Some(PEER_HOST.to_owned()));
    for (hidden, words, absent, expected) in [
        (
            "",
            vec![cluster.as_str(), rule, retries],
            vec![],
            canonical.clone(),
        ),
        (
            "virtualservice",
            vec![&cluster, rule],
            vec![retries],
            of_the_peer,
        ),
        (
            "destinationrule",
            vec![&cluster, retries],
            vec![rule],
            (503, String::new(), None),
        ),
        (
            "serviceentry",
            vec![],
            vec![&cluster],
            (200, home(), Some(SERVICE.to_owned())),
        ),
        ("", vec![&cluster, rule, retries], vec![], canonical),
    ] {
        apply(&mesh, &folder, hidden).await?;
        let holds = |config: &str| {
            words.iter().all(|word| config.contains(word))
                && !absent.iter().any(|word| config.contains(word))
        };
        let what = format!("all but this are exported: {hidden}");
        proxy.wait_config(&what, holds).await?;
        // What the plugin believed of the way before, it unlearns within ten seconds.
        let mut seen = None;
        let so = until_some(&what, async || {
            seen = outcome(&mesh).await.ok();
            (seen.as_ref() == Some(&expected)).then_some(())
        });
        so.await.with_context(|| format!("{seen:?}"))?;
    }
    federation::reset(&mesh).await
}
