//! Every folder of `wasmplugin/` is taken by the real API server, CEL rules included, and nothing in it worries istioctl.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use istio_test::Cluster;
use istio_test::federation::{self, manifests, push_module};
use istio_test::fixture::fresh;
use serde_json::Value;

/// What a user of the folder `gateway` has already: the Gateway that its VirtualService names.
const INGRESS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ingress, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}
"#;

/// The folders that a user need not apply, since not everybody may.
const WITH_ENVOY_FILTER: [&str; 2] = ["receiver-unreached", "silent-peer"];

/// IST0133 and IST0151: istioctl warns of every EnvoyFilter, and of most patches.
fn is_of_envoy_filters(finding: &Value) -> bool {
    finding["code"] == "IST0133" || finding["code"] == "IST0151"
}

#[tokio::test(flavor = "multi_thread")]
async fn every_folder_is_applied_and_analysed() -> Result<()> {
    let mesh = fresh().await?;
    let (image, digest) = push_module(&mesh).await?;
    let folder = manifests(&mesh, &image, &digest)?;
    let bases = kustomizations(&folder)?;
    assert!(bases.len() >= 4, "{bases:?}");
    let home = mesh.kube(Cluster::Home);
    for base in bases {
        federation::reset(&mesh).await?;
        home.apply(INGRESS).await?;
        let printed = home.apply_folder(&base).await?;
        for line in printed.lines() {
            assert!(line.ends_with(" created"), "{}: {line}", base.display());
        }
        let findings = home.analyze().await?;
        let folder = base.file_name().and_then(|name| name.to_str());
        if folder.is_some_and(|folder| WITH_ENVOY_FILTER.contains(&folder)) {
            assert!(
                findings.iter().all(is_of_envoy_filters),
                "{}: {findings:#?}",
                base.display()
            );
        } else {
            assert!(findings.is_empty(), "{}: {findings:#?}", base.display());
        }
    }
    Ok(())
}

/// The check is one: what is wrong is refused by the API server, or found by istioctl.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_or_found() -> Result<()> {
    let mesh = fresh().await?;
    let (image, digest) = push_module(&mesh).await?;
    let folder = manifests(&mesh, &image, &digest)?;
    let home = mesh.kube(Cluster::Home);
    let plugin = fs::read_to_string(folder.join("client-sidecar/wasmplugin.yaml"))?;
    for (right, wrong) in [
        ("FAIL_OPEN", "FAIL_SOFT"),
        ("oci://", "ftp://"),
        ("sha256: \"", "sha256: \"x"),
        ("  pluginConfig:", "  pluginConf:"),
    ] {
        let refused = home.apply(&plugin.replacen(right, wrong, 1)).await;
        assert!(refused.is_err(), "{wrong} is taken");
    }
    // A route to a host that nobody declares is no error to the API server.
    home.apply(&fs::read_to_string(
        folder.join("federation/virtualservice.yaml"),
    )?)
    .await?;
    let findings = home.analyze().await?;
    assert!(
        findings
            .iter()
            .any(|finding| finding.to_string().contains("a.istio.gke.global")),
        "{findings:?}"
    );
    Ok(())
}

/// Whether a word of a manifest belongs to the example, not to a reader's clusters: the service and its namespace, the two
/// clusters, their gateways and addresses, the image.
fn is_of_the_example(word: &str) -> bool {
    const WORDS: [&str; 10] = [
        "a",
        "gke",
        "eks",
        "iotcloudserve",
        "istio",
        "istio-system",
        "istio-system/ingress",
        "ingressgateway",
        "eastwestgateway",
        "waypoint",
    ];
    const PARTS: [&str; 5] = [
        "a.istio.",
        "a.example.com",
        "192.0.2.",
        "registry.example",
        "00000000",
    ];
    WORDS.contains(&word) || word.starts_with("a-") || PARTS.iter().any(|part| word.contains(part))
}

/// The lines of a manifest that a reader must change and that are not marked.
fn unmarked(manifest: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || "[]{},\"'".contains(c);
    let forgotten = |line: &&str| {
        let (value, comment) = line.split_once('#').unwrap_or((line, ""));
        !comment.contains("CHANGE") && value.split(ends).any(is_of_the_example)
    };
    let lines = manifest.lines();
    lines
        .filter(|line| !line.starts_with("apiVersion:"))
        .filter(forgotten)
        .collect()
}

/// The README says to change what is marked CHANGE: nothing of the example may be left that is not.
#[test]
fn every_value_of_the_example_is_marked() -> Result<()> {
    let folders = kustomizations(&xtask::workspace_root().join("wasmplugin"))?;
    assert!(folders.len() >= 10, "{folders:?}");
    for folder in folders {
        let mut marked = 0;
        for entry in fs::read_dir(&folder)? {
            let file = entry?.path();
            let text = fs::read_to_string(&file)?;
            let forgotten = unmarked(&text);
            assert!(forgotten.is_empty(), "{}: {forgotten:#?}", file.display());
            marked += text.matches("# CHANGE").count();
        }
        assert!(marked > 0, "{}", folder.display());
    }
    // The check is one.
    for line in [
        "  hosts: [a.istio.gke.global]",
        "    rewrite: {authority: a.istio.svc.cluster.local} # seen by the application",
        "      - name: gke",
        "  namespace: istio-system",
        "  - address: 192.0.2.15",
        "      sni: outbound_.80_._.a.istio.svc.cluster.local",
    ] {
        assert_eq!(unmarked(line), [line]);
    }
    Ok(())
}

/// The folders that `kubectl apply -k` takes.
fn kustomizations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("kustomization.yaml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
