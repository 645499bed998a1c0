//! Brings the mesh up, step by step, each waited for.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};

use crate::kube::Kube;
use crate::layout::{
    CLUSTERS, Cluster, HOME_APP, Layout, NAMESPACE, PEER_APP, PODS, PodSpec, REGISTRY, Role,
    SYSTEM, THIRD_APP,
};
use crate::mesh::{Mesh, SERVICE};
use crate::tools::{self, Tools};
use crate::{ca, control, down, needs, net, pod, registry};

/// Brings both clusters up, from nothing: what an earlier run left is ended first.
/// # Errors
/// Something is missing, does not build or does not start: one line says what, and where its log is.
pub async fn up() -> Result<Mesh> {
    needs::check()?;
    let layout = Layout::of_environment();
    // Both have their own progress, and take minutes on a fresh machine.
    let tools = tokio::task::spawn_blocking(tools::ensure_built).await??;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(200));
    let say = |what: &str| {
        bar.set_message(what.to_owned());
        if bar.is_hidden() {
            eprintln!("{what} …");
        }
    };

    say("ending what an earlier run left");
    down::down(&layout).await?;
    say("making the network, the certificates and the registry");
    files(&layout, &tools)?;
    ca::make(&layout)?;
    bridge(&layout).await?;
    registry::start(&layout).await?;

    say("starting etcd and the API server of both clusters");
    both(&layout, async |layout, cluster| {
        control::start_kubernetes(&layout, cluster).await
    })
    .await?;
    say("applying Istio's resource definitions, and starting istiod");
    let crds = definitions(&tools);
    both(&layout, async move |layout, cluster| {
        start_istio(&layout, cluster, &crds).await
    })
    .await?;

    say("starting the pods");
    let envoy = layout.bin().join("envoy");
    let (layout_of_all, envoy) = (&layout, &envoy);
    try_join_all(
        PODS.iter()
            .map(|spec| start_pod(layout_of_all, spec, envoy)),
    )
    .await?;
    names(&layout).await?;
    File::create(layout.dir().join("up"))?;
    bar.finish_and_clear();
    Ok(Mesh { layout })
}

/// Istio's resource definitions.
pub(crate) fn definitions(tools: &Tools) -> String {
    let file = "manifests/charts/base/files/crd-all.gen.yaml";
    tools.istio.join(file).to_string_lossy().into_owned()
}

/// Applies Istio's resource definitions `crds` and the federated service, and starts istiod.
pub(crate) async fn start_istio(layout: &Layout, cluster: Cluster, crds: &str) -> Result<()> {
    let kube = Kube::of(layout, cluster);
    kube.kubectl(&["apply", "--server-side", "-f", crds])
        .await?;
    for namespace in [SYSTEM, NAMESPACE] {
        kube.kubectl(&["create", "namespace", namespace]).await?;
    }
    let injected = ["label", "namespace", NAMESPACE, "istio-injection=enabled"];
    kube.kubectl(&injected).await?;
    kube.apply(&service(cluster)).await?;
    kube.apply(include_str!("../manifests/keep-alive.yaml"))
        .await?;
    control::write_mesh_config(layout, cluster, "")?;
    control::start_istiod(layout, cluster).await
}

/// Makes a pod and starts what is in it.
pub(crate) async fn start_pod(layout: &Layout, spec: &PodSpec, envoy: &Path) -> Result<()> {
    pod::make(layout, spec).await?;
    if spec.role == Role::App {
        pod::start_app(layout, spec).await?;
    }
    pod::capture(layout, spec).await?;
    pod::start_proxy(layout, spec, envoy)?;
    pod::wait_ready(layout, spec).await
}

/// Inside the clients' namespaces the service's names mean its address: what cluster DNS would have said. `ip netns exec`
/// shows what is in this folder as /etc.
async fn names(layout: &Layout) -> Result<()> {
    let mesh = Mesh {
        layout: layout.clone(),
    };
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    for pod in PODS.iter().filter(|pod| pod.role == Role::Client) {
        let dir = net::etc(&layout.namespace(pod));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let hosts = format!(
            "127.0.0.1 localhost\n{address} a a.istio a.istio.svc {SERVICE}\n{} registry.test\n",
            REGISTRY.split(':').next().unwrap_or_default(),
        );
        fs::write(dir.join("hosts"), hosts)?;
    }
    Ok(())
}

fn files(layout: &Layout, tools: &Tools) -> Result<()> {
    let (dir, bin) = (layout.dir(), layout.bin());
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    for folder in [&dir, &bin] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    for program in &tools.programs {
        let name = program.file_name().context("a program without a name")?;
        pod::copy_readable(program, &bin.join(name), 0o755)?;
    }
    pod::copy_readable(&tools.envoy, &bin.join("envoy"), 0o755)?;
    let template = "tools/packaging/common/envoy_bootstrap.json";
    pod::copy_readable(
        &tools.istio.join(template),
        &dir.join("envoy_bootstrap.json"),
        0o644,
    )
}

async fn bridge(layout: &Layout) -> Result<()> {
    let lab = layout.lab();
    for step in [
        format!("netns add {lab}"),
        format!("-n {lab} link set lo up"),
        format!("-n {lab} link add br0 type bridge"),
        format!("-n {lab} addr add 10.77.0.1/16 dev br0"),
        format!("-n {lab} link set br0 up"),
    ] {
        net::ip(&step).await?;
    }
    Ok(())
}

async fn both<F>(layout: &Layout, step: F) -> Result<()>
where
    F: AsyncFn(Layout, Cluster) -> Result<()>,
{
    let (home, peer) = tokio::join!(
        step(layout.clone(), CLUSTERS[0]),
        step(layout.clone(), CLUSTERS[1])
    );
    home.and(peer)
}

/// The gateways' services, the federated service, and its endpoint, which no controller writes here.
pub fn service(cluster: Cluster) -> String {
    let app = match cluster {
        Cluster::Home => HOME_APP,
        Cluster::Peer => PEER_APP,
        Cluster::Third => THIRD_APP,
    };
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: eastwestgateway, namespace: {SYSTEM}}}
spec: {{selector: {{istio: eastwestgateway}}, ports: [{{name: tls, port: 15443}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: ingressgateway, namespace: {SYSTEM}}}
spec: {{selector: {{istio: ingressgateway}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: a, namespace: {NAMESPACE}}}
spec: {{selector: {{app: a}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: a-1, namespace: {NAMESPACE}, labels: {{kubernetes.io/service-name: a}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: ["{}"], conditions: {{ready: true, serving: true}}, targetRef: {{kind: Pod, name: a, namespace: {NAMESPACE}}}}}]
"#,
        app.ip()
    )
}
