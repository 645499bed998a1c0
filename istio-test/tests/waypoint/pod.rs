//! A waypoint of service `a` at home: what istiod's deployment of it would be, and an official Envoy in it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envoy_test::wait::{until_some, until_some_by};
use istio_test::layout::PROXY_UID;
use istio_test::{Cluster, Mesh, control, kube::Kube, mesh, net, proxy, tools};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const IP: &str = "10.77.1.16";
/// How long what this waits for may take.
pub const READY: std::time::Duration = std::time::Duration::from_secs(60);
const CLASS: &str = "gateway.networking.k8s.io/gateway-class-name: istio-waypoint";
const NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// A waypoint that runs.
pub struct Waypoint {
    mesh: Mesh,
    namespace: String,
    crds: String,
}

impl Waypoint {
    /// Brings it up: Gateway API, an istiod that knows ambient meshes, the pod, and the label on the service.
    /// # Errors
    /// Something does not start; its log is named.
    pub async fn up(mesh: &Mesh) -> Result<Waypoint> {
        let tools = tokio::task::spawn_blocking(tools::ensure_built).await??;
        let crds = tools
            .istio
            .join("tests/integration/pilot/testdata/gateway-api-crd.yaml");
        let waypoint = Waypoint {
            mesh: mesh.clone(),
            namespace: format!("{}home-waypoint", mesh.layout.prefix()),
            crds: crds.to_string_lossy().into_owned(),
        };
        waypoint.end().await?;
        let kube = waypoint.kube();
        kube.kubectl(&["apply", "--server-side", "-f", &waypoint.crds])
            .await?;
        mesh.kill_daemon("home-istiod").await?;
        let ambient = [("PILOT_ENABLE_AMBIENT", "true")];
        control::start_istiod_with(&mesh.layout, Cluster::Home, &ambient).await?;

        waypoint.network().await?;
        kube.apply(&objects()).await?;
        let status = json!({"status": {"phase": "Running", "podIP": IP, "podIPs": [{"ip": IP}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let patch = [
            "patch",
            "pod",
            "waypoint",
            "-n",
            "istio",
            "--subresource=status",
            "--type=merge",
            "-p",
        ];
        kube.kubectl(&[&patch[..], &[&status.to_string()]].concat())
            .await?;
        kube.kubectl(&[
            "label",
            "service",
            "a",
            "-n",
            "istio",
            "istio.io/use-waypoint=waypoint",
        ])
        .await?;
        waypoint.start().await?;
        Ok(waypoint)
    }

    fn kube(&self) -> Kube {
        self.mesh.kube(Cluster::Home)
    }

    /// Where it takes tunnels.
    pub fn address(&self) -> String {
        format!("{IP}:15008")
    }

    /// `GET` of a path of the admin interface; empty where there is none.
    pub async fn admin(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:15000{path}");
        match proxy::get(&self.namespace, &url).await {
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Waits until what the admin interface says at `path` is as `holds` says.
    /// # Errors
    /// It is not in time.
    pub async fn wait(&self, what: &str, path: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        until_some_by(what, READY, async || {
            holds(&self.admin(path).await).then_some(())
        })
        .await
    }

    async fn network(&self) -> Result<()> {
        let (lab, namespace) = (self.mesh.layout.lab(), &self.namespace);
        let port = format!("v{}", IP.replace('.', "-"));
        for step in [
            format!("netns add {namespace}"),
            format!("-n {namespace} link set lo up"),
            format!("-n {lab} link add {port} type veth peer name eth0 netns {namespace}"),
            format!("-n {lab} link set {port} master br0 up"),
            format!("-n {namespace} addr add {IP}/16 dev eth0"),
            format!("-n {namespace} link set eth0 up"),
        ] {
            net::ip(&step).await?;
        }
        Ok(())
    }

    fn dir(&self) -> PathBuf {
        self.mesh.layout.cluster_dir(Cluster::Home).join("waypoint")
    }

    /// What istiod's template mounts.
    async fn files(&self) -> Result<()> {
        let dir = self.dir();
        for folder in [
            "etc/istio/proxy",
            "etc/istio/pod",
            "data",
            "var/run/secrets/tokens",
        ] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let arguments = [
            "create",
            "token",
            "waypoint",
            "-n",
            "istio",
            "--audience",
            "istio-ca",
        ];
        let token = self.kube().kubectl(&arguments).await?;
        fs::write(dir.join("var/run/secrets/tokens/istio-token"), token.trim())?;
        fs::write(
            dir.join("root-cert.pem"),
            control::root_certificate(&self.mesh.layout)?,
        )?;
        fs::write(
            dir.join("etc/istio/pod/labels"),
            format!("{NAME}=\"waypoint\"\n"),
        )?;
        // The official Envoy has no extension that discovers workloads' metadata; a waypoint's bootstrap always asks for it.
        let template = fs::read_to_string(self.mesh.layout.dir().join("envoy_bootstrap.json"))?;
        let asks = "{{- if .metadata_discovery }}";
        anyhow::ensure!(
            template.contains(asks),
            "the bootstrap template has changed"
        );
        fs::write(
            dir.join("bootstrap.json"),
            template.replace(asks, "{{- if false }}"),
        )?;
        give(&dir)
    }

    async fn start(&self) -> Result<()> {
        self.files().await?;
        let (layout, dir) = (&self.mesh.layout, self.dir());
        let ip = Cluster::Home.control_plane();
        let config = json!({
            "discoveryAddress": format!("{ip}:15012"),
            "binaryPath": self.mesh.envoy(),
            "configPath": dir.join("etc/istio/proxy"),
            "concurrency": 2,
            "terminationDrainDuration": "1s",
            "proxyMetadata": {"ISTIOD_SAN": "istiod.istio-system.svc"},
        });
        let uid = PROXY_UID.to_string();
        let script = "mount -t tmpfs -o mode=755 tmpfs /var/lib && mkdir -p /var/lib/istio/data &&
mount --bind data /var/lib/istio/data && exec setpriv --reuid $0 --regid $0 --clear-groups \"$@\"";
        let mut agent = net::command(&self.namespace, "sh");
        agent
            .current_dir(&dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([
                ("POD_NAME", "waypoint"),
                ("POD_NAMESPACE", "istio"),
                ("SERVICE_ACCOUNT", "waypoint"),
                ("INSTANCE_IP", IP),
                ("HOST_IP", IP),
                ("TRUST_DOMAIN", "cluster.local"),
                ("JWT_POLICY", "third-party-jwt"),
                ("PILOT_CERT_PROVIDER", "istiod"),
                ("ISTIOD_SAN", "istiod.istio-system.svc"),
                ("WASM_INSECURE_REGISTRIES", "*"),
                ("ISTIO_META_CLUSTER_ID", Cluster::Home.name()),
                ("ISTIO_META_MESH_ID", "mesh1"),
                ("ISTIO_META_WORKLOAD_NAME", "waypoint"),
                // From 1.29.2 on waypoints are sent filter state of types that only Istio's own Envoy knows.
                ("ISTIO_META_ISTIO_VERSION", "1.29.1"),
            ])
            .env("PROXY_CONFIG", config.to_string())
            .env(
                "ISTIO_METAJSON_LABELS",
                json!({NAME: "waypoint"}).to_string(),
            )
            .env("CA_ADDR", format!("{ip}:15012"))
            .env("XDS_ROOT_CA", dir.join("root-cert.pem"))
            .env("CA_ROOT_CA", dir.join("root-cert.pem"))
            .env("ISTIO_BOOTSTRAP", dir.join("bootstrap.json"))
            .args(["-c", script, &uid])
            .arg(layout.bin().join("pilot-agent"))
            .args(["proxy", "waypoint", "--domain", "istio.svc.cluster.local"])
            .args([
                "--proxyLogLevel=warning,wasm:info",
                "--log_output_level=default:info,wasm:info",
            ])
            .arg("--templateFile")
            .arg(dir.join("bootstrap.json"));
        mesh::daemon(layout, "home-waypoint-proxy", agent)?;
        until_some_by("the waypoint is ready", READY, async || {
            let ready = "http://127.0.0.1:15021/healthz/ready";
            let answer = proxy::get(&self.namespace, ready).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await
        .with_context(|| format!("see {}/log/home-waypoint-proxy.log", layout.dir().display()))
    }

    /// Removes all of it. What heals a mesh starts an istiod as it was.
    /// # Errors
    /// A process does not end, or the API server refuses.
    pub async fn down(self) -> Result<()> {
        self.end().await?;
        self.mesh.kill_daemon("home-istiod").await?;
        control::start_istiod(&self.mesh.layout, Cluster::Home).await
    }

    /// Ends what this or an earlier run has left.
    async fn end(&self) -> Result<()> {
        let namespace = &self.namespace;
        if net::namespaces(namespace).await?.contains(namespace) {
            until_some("all of the waypoint has ended", async || {
                let left = net::processes(namespace).await.ok()?;
                for pid in &left {
                    // It may have ended by itself since.
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
                left.is_empty().then_some(())
            })
            .await?;
            net::ip(&format!("netns del {namespace}")).await?;
        }
        let kube = self.kube();
        kube.kubectl(&[
            "label",
            "service",
            "a",
            "-n",
            "istio",
            "istio.io/use-waypoint-",
        ])
        .await?;
        // The Gateway goes with its definition.
        let gone = ["delete", "--ignore-not-found", "-f", self.crds.as_str()];
        kube.kubectl(&gone).await?;
        let gone = ["delete", "--ignore-not-found", "--force", "-n", "istio"];
        let names = [
            "pod/waypoint",
            "service/waypoint",
            "endpointslice/waypoint-1",
            "serviceaccount/waypoint",
        ];
        kube.kubectl(&[&gone[..], &names[..]].concat()).await?;
        Ok(())
    }
}

fn give(path: &Path) -> Result<()> {
    chown(path, Some(PROXY_UID), Some(PROXY_UID))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

/// What `istioctl waypoint apply` makes, and what istiod's template and Kubernetes' controllers make of that.
fn objects() -> String {
    format!(
        r#"apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: waypoint, namespace: istio, labels: {{istio.io/waypoint-for: service}}}}
spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: waypoint, namespace: istio}}
---
apiVersion: v1
kind: Service
metadata: {{name: waypoint, namespace: istio, labels: {{{NAME}: waypoint, {CLASS}}}}}
spec: {{selector: {{{NAME}: waypoint}}, ports: [{{name: mesh, port: 15008, appProtocol: all}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: waypoint-1, namespace: istio, labels: {{kubernetes.io/service-name: waypoint}}}}
addressType: IPv4
ports: [{{name: mesh, port: 15008, protocol: TCP}}]
endpoints: [{{addresses: ["{IP}"], conditions: {{ready: true, serving: true}}, targetRef: {{kind: Pod, name: waypoint, namespace: istio}}}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: waypoint
  namespace: istio
  labels: {{istio.io/dataplane-mode: none, {NAME}: waypoint, {CLASS}, gateway.istio.io/managed: istio.io-mesh-controller}}
spec: {{serviceAccountName: waypoint, nodeName: iotcloudserve, containers: [{{name: istio-proxy, image: proxy}}]}}
---
# Two HTTP filters of Istio's that the official Envoy has not.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: official-envoy, namespace: istio}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}}]
  configPatches: [{}]
"#,
        ["downstream", "upstream"].map(without).join(", ")
    )
}

fn without(side: &str) -> String {
    let filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "subFilter": {"name": format!("waypoint_{side}_peer_metadata")},
    });
    json!({
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": {"filter": filter}}},
        "patch": {"operation": "REMOVE"},
    })
    .to_string()
}
