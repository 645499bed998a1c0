//! A cluster's control plane: etcd, the API server and istiod.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use envoy_test::wait::{until_some, until_some_by};

use crate::kube::Kube;
use crate::layout::{Cluster, Layout};
use crate::mesh::daemon;
use crate::{ca, net};

/// How long a control plane may take to be ready on a slow and busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Starts etcd and the API server of `cluster`, and waits until they are ready.
/// # Errors
/// One does not start; its log is named.
pub async fn start_kubernetes(layout: &Layout, cluster: Cluster) -> Result<()> {
    let (lab, dir, ip) = (
        layout.lab(),
        layout.cluster_dir(cluster),
        cluster.control_plane(),
    );
    net::ip(&format!("-n {lab} addr replace {ip}/32 dev br0")).await?;
    fs::write(layout.kubeconfig(cluster), kubeconfig(cluster))?;

    let (client, peer) = (format!("http://{ip}:2379"), format!("http://{ip}:2380"));
    let mut etcd = net::command(&lab, "etcd");
    etcd.args(["--name", cluster.word(), "--data-dir"])
        .arg(dir.join("etcd"))
        // What is lost with the machine is lost with the mesh: nothing need reach the disk.
        .arg("--unsafe-no-fsync")
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .arg("--initial-cluster")
        .arg(format!("{}={peer}", cluster.word()));
    daemon(layout, &format!("{}-etcd", cluster.word()), etcd)?;

    let kube = dir.join("kube");
    let mut api = net::command(&lab, layout.bin().join("kube-apiserver"));
    api.args(["--etcd-servers", &client, "--bind-address", &ip])
        .args(["--advertise-address", &ip, "--secure-port", "6443"])
        .arg("--cert-dir")
        .arg(kube.join("certs"))
        .arg("--token-auth-file")
        .arg(kube.join("tokens.csv"))
        .args(["--authorization-mode", "AlwaysAllow"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .arg("--service-account-key-file")
        .arg(kube.join("sa.pub"))
        .arg("--service-account-signing-key-file")
        .arg(kube.join("sa.key"))
        .args(["--service-cluster-ip-range", "10.96.0.0/16"])
        // Nothing here makes service accounts for pods: no controllers run.
        .args(["--disable-admission-plugins", "ServiceAccount"]);
    daemon(layout, &format!("{}-kube-apiserver", cluster.word()), api)?;

    let api = Kube::of(layout, cluster);
    let ready = async || api.kubectl(&["get", "--raw", "/readyz"]).await.ok();
    until_some_by("the API server is ready", DEADLINE, ready)
        .await
        .with_context(|| log(layout, cluster, "kube-apiserver"))?;
    Ok(())
}

fn log(layout: &Layout, cluster: Cluster, what: &str) -> String {
    let file = format!("log/{}-{what}.log", cluster.word());
    format!("see {}", layout.dir().join(file).display())
}

/// How whoever is in the mesh's network reaches a cluster's API server.
pub fn kubeconfig(cluster: Cluster) -> String {
    let (name, ip) = (cluster.name(), cluster.control_plane());
    format!(
        r#"apiVersion: v1
kind: Config
clusters: [{{name: {name}, cluster: {{server: "https://{ip}:6443", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: admintoken}}}}]
contexts: [{{name: {name}, context: {{cluster: {name}, user: admin}}}}]
current-context: {name}
"#
    )
}

/// Istio's own filters are off, since the official Envoy has none of them.
const ISTIOD: [(&str, &str); 9] = [
    ("POD_NAMESPACE", "istio-system"),
    ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
    ("PILOT_ENABLE_ALPN_FILTER", "false"),
    ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
    ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
    ("ISTIOD_CUSTOM_HOST", "istiod.istio-system.svc"),
    ("PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", "false"),
    ("EXTERNAL_ISTIOD", "false"),
    ("ENABLE_DEBUG_ON_HTTP", "true"),
];

/// Writes the mesh configuration that istiod reads; a running istiod takes a change at once.
/// # Errors
/// The file cannot be written.
pub fn write_mesh_config(layout: &Layout, cluster: Cluster, more: &str) -> Result<()> {
    let ip = cluster.control_plane();
    // Istio's own providers ask for filters that the official Envoy has not.
    let providers = match more.contains("extensionProviders:") {
        true => "",
        false => "extensionProviders: []\n",
    };
    let text = format!(
        "trustDomain: cluster.local
accessLogFile: /dev/stdout
enablePrometheusMerge: false
defaultProviders: {{}}
{providers}defaultConfig:
  discoveryAddress: {ip}:15012
  tracing: {{}}
{more}"
    );
    let path = layout.cluster_dir(cluster).join("istiod/mesh.yaml");
    // Renamed into its place: istiod may look at any moment.
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))
}

/// Starts istiod of `cluster`, and waits until it is ready.
/// # Errors
/// It does not start; its log is named.
pub async fn start_istiod(layout: &Layout, cluster: Cluster) -> Result<()> {
    start_istiod_with(layout, cluster, &[]).await
}

/// As [`start_istiod`], with more of its environment: `PILOT_ENABLE_AMBIENT`, say.
/// # Errors
/// It does not start; its log is named.
pub async fn start_istiod_with(
    layout: &Layout,
    cluster: Cluster,
    more: &[(&str, &str)],
) -> Result<()> {
    let ip = cluster.control_plane();
    let dir = layout.cluster_dir(cluster).join("istiod");
    let mut istiod = net::command(&layout.lab(), layout.bin().join("pilot-discovery"));
    istiod
        .current_dir(&dir)
        .envs(ISTIOD)
        .envs(more.iter().copied())
        .env("POD_NAME", format!("istiod-{}", cluster.name()))
        .env("CLUSTER_ID", cluster.name())
        .env("ROOT_CA_DIR", "./etc/cacerts")
        .env("KUBECONFIG", layout.kubeconfig(cluster))
        .arg("discovery")
        .arg("--kubeconfig")
        .arg(layout.kubeconfig(cluster))
        .args(["--clusterID", cluster.name()])
        .args(["--meshConfig", "mesh.yaml", "--networksConfig", "none.yaml"]);
    let lab = layout.lab();
    for (flag, port) in [
        ("--grpcAddr", 15010),
        ("--secureGRPCAddr", 15012),
        ("--httpAddr", 8080),
        ("--httpsAddr", 15017),
        ("--monitoringAddr", 15014),
    ] {
        let address = format!("{ip}:{port}");
        // One that was killed closes its sockets a moment after it has left its namespace.
        let closed = address.parse()?;
        until_some("the istiod of before has closed its ports", async || {
            net::connect(&lab, closed).await.is_err().then_some(())
        })
        .await?;
        istiod.arg(flag).arg(address);
    }
    // The introspection server takes no address; the two clusters' must differ.
    let introspection = 9876 + cluster as u16;
    istiod.args(["--ctrlz_port", &introspection.to_string()]);
    daemon(layout, &format!("{}-istiod", cluster.word()), istiod)?;

    let ready = format!("http://{ip}:8080/ready");
    let ready = async || {
        let answer = crate::proxy::get(&lab, &ready).await.ok()?;
        (answer.status == 200).then_some(())
    };
    until_some_by("istiod is ready", DEADLINE, ready)
        .await
        .with_context(|| log(layout, cluster, "istiod"))
}

/// The root certificate of both clusters, for whoever must trust them.
pub fn root_certificate(layout: &Layout) -> Result<String> {
    let path = ca::root(layout);
    fs::read_to_string(path.as_ref()).context("the root certificate is missing")
}
