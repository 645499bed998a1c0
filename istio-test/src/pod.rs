//! A pod: its network namespace, its object in the API server, its application, and pilot-agent with Envoy.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envoy_test::wait::{until_some, until_some_by};

use crate::layout::{
    Cluster, HOME_GATEWAY, Layout, PEER_GATEWAY, PROXY_UID, PodSpec, Role, THIRD_GATEWAY,
};
use crate::mesh::daemon;
use crate::{ca, kube::Kube, net, proxy};

const READY: std::time::Duration = std::time::Duration::from_secs(90);

/// Worker threads of each proxy.
pub const WORKERS: u32 = 2;

/// Makes the pod's network namespace, its object and its files. Its programs are started by [`start_app`] and [`start_proxy`].
/// # Errors
/// `ip` or the API server refuses.
pub async fn make(layout: &Layout, pod: &PodSpec) -> Result<()> {
    let (lab, namespace) = (layout.lab(), layout.namespace(pod));
    let (ip, port) = (pod.ip(), port_name(pod));
    net::ip(&format!("netns add {namespace}")).await?;
    for step in [
        format!("-n {namespace} link set lo up"),
        format!("-n {lab} link add {port} type veth peer name eth0 netns {namespace}"),
        format!("-n {lab} link set {port} master br0 up"),
        format!("-n {namespace} addr add {ip}/16 dev eth0"),
        format!("-n {namespace} link set eth0 up"),
        // Cluster addresses are nowhere; they are captured on the way out, and need a route to be sent at all.
        format!("-n {namespace} route add default via 10.77.0.1"),
    ] {
        net::ip(&step).await?;
    }
    object(layout, pod).await?;
    files(layout, pod).await
}

/// A name of at most 15 characters for the pod's end of the bridge.
fn port_name(pod: &PodSpec) -> String {
    format!("v{}", pod.ip().replace('.', "-"))
}

async fn object(layout: &Layout, pod: &PodSpec) -> Result<()> {
    let (name, namespace, ip) = (pod.name, pod.kubernetes_namespace(), pod.ip());
    let kube = Kube::of(layout, pod.cluster);
    let node = pod.cluster.name();
    // The label that the injector would have set says that the pod can speak mTLS.
    kube.apply(&format!(
        r#"apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: {name}, istio: {name}, service.istio.io/canonical-name: {name}, security.istio.io/tlsMode: istio}}
spec: {{serviceAccountName: {name}, nodeName: {node}, containers: [{{name: app, image: echo, ports: [{{containerPort: 8080}}]}}, {{name: istio-proxy, image: proxyv2}}]}}
"#
    ))
    .await?;
    let status = format!(
        r#"{{"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
    );
    kube.kubectl(&[
        "patch",
        "pod",
        name,
        "-n",
        namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ])
    .await?;
    Ok(())
}

/// What the kubelet and the injector would have mounted into the sidecar.
async fn files(layout: &Layout, pod: &PodSpec) -> Result<()> {
    let dir = layout.pod_dir(pod);
    let tokens = dir.join("var/run/secrets/tokens");
    for folder in ["etc/istio/proxy", "etc/istio/pod", "data"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    fs::create_dir_all(&tokens)?;
    let token = Kube::of(layout, pod.cluster)
        .kubectl(&[
            "create",
            "token",
            pod.name,
            "-n",
            pod.kubernetes_namespace(),
            "--audience",
            "istio-ca",
            "--duration",
            "24h",
        ])
        .await?;
    fs::write(tokens.join("istio-token"), token.trim())?;
    fs::copy(ca::root(layout), dir.join("root-cert.pem"))?;
    fs::write(
        dir.join("etc/istio/pod/labels"),
        format!("app=\"{0}\"\nistio=\"{0}\"\n", pod.name),
    )?;
    give_to_proxy(&dir)
}

/// Hands a folder and all in it to the user that the proxy runs as.
fn give_to_proxy(path: &Path) -> Result<()> {
    chown(path, Some(PROXY_UID), Some(PROXY_UID))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to_proxy(&entry?.path())?;
        }
    }
    Ok(())
}

/// The name that the application of this pod answers with, as the origin's did.
pub fn hostname(cluster: Cluster) -> String {
    format!("a-{}", cluster.name())
}

/// Starts Istio's echo server, and waits until it answers.
/// # Errors
/// It does not start.
pub async fn start_app(layout: &Layout, pod: &PodSpec) -> Result<()> {
    let namespace = layout.namespace(pod);
    let mut app = net::command(&namespace, "unshare");
    app.args(["--uts", "sh", "-c"])
        .arg("echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"")
        .arg(hostname(pod.cluster))
        .arg(layout.bin().join("server"))
        .args(["--port", "8080", "--version", "v1"])
        .args(["--cluster", pod.cluster.name()])
        .args(["--log_output_level", "all:error"]);
    daemon(
        layout,
        &format!("{}-{}-app", pod.cluster.word(), pod.name),
        app,
    )?;
    until_some("the echo server answers", async || {
        let answer = proxy::get(&namespace, "http://127.0.0.1:8080/")
            .await
            .ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}

/// Captures the pod's traffic, as istio-init does.
/// # Errors
/// iptables refuses.
pub async fn capture(layout: &Layout, pod: &PodSpec) -> Result<()> {
    if pod.role == Role::Gateway {
        return Ok(());
    }
    let uid = PROXY_UID.to_string();
    let mut iptables = net::command(&layout.namespace(pod), layout.bin().join("pilot-agent"));
    iptables
        .arg("istio-iptables")
        .args(["-p", "15001", "-z", "15006", "-u", &uid, "-g", &uid])
        .args(["-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"])
        .args(["-d", "15090,15021,15020"]);
    net::run(&mut iptables).await?;
    Ok(())
}

/// Starts pilot-agent, which starts Envoy. [`wait_ready`] waits for both.
/// # Errors
/// It cannot be started.
pub fn start_proxy(layout: &Layout, pod: &PodSpec, envoy: &Path) -> Result<()> {
    start_proxy_with(layout, pod, envoy, "", &[])
}

/// As [`start_proxy`], with more of the proxy's configuration (members of a ProxyConfig, as JSON, each after a comma) and of
/// the agent's environment (what Istio's injector makes of `proxyMetadata`).
/// # Errors
/// It cannot be started.
pub fn start_proxy_with(
    layout: &Layout,
    pod: &PodSpec,
    envoy: &Path,
    more: &str,
    environment: &[(&str, &str)],
) -> Result<()> {
    let dir = layout.pod_dir(pod);
    let control_plane = pod.cluster.control_plane();
    let role = match pod.role {
        Role::Gateway => "router",
        Role::Client | Role::App => "sidecar",
    };
    let workers = match more.contains("\"concurrency\"") {
        true => String::new(),
        false => format!(r#","concurrency":{WORKERS}"#),
    };
    let config = format!(
        r#"{{"discoveryAddress":"{control_plane}:15012","binaryPath":"{}","configPath":"{}"{workers},"terminationDrainDuration":"1s","proxyMetadata":{{"ISTIOD_SAN":"istiod.istio-system.svc"}}{more}}}"#,
        envoy.display(),
        dir.join("etc/istio/proxy").display(),
    );
    // pilot-agent keeps the modules that it fetches under /var/lib/istio/data: `ip netns exec` has given the process a mount
    // namespace of its own, in which that is the pod's.
    let script = r#"mount -t tmpfs -o mode=755 tmpfs /var/lib && mkdir -p /var/lib/istio/data &&
mount --bind data /var/lib/istio/data &&
exec setpriv --reuid "$PROXY_UID" --regid "$PROXY_UID" --clear-groups "$@""#;
    let (uid, template) = (
        PROXY_UID.to_string(),
        layout.dir().join("envoy_bootstrap.json"),
    );
    let network = pod.cluster.network();
    let mut agent = net::command(&layout.namespace(pod), "sh");
    agent
        .current_dir(&dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([
            ("PROXY_UID", uid.as_str()),
            ("POD_NAME", pod.name),
            ("POD_NAMESPACE", pod.kubernetes_namespace()),
            ("SERVICE_ACCOUNT", pod.name),
            ("ISTIO_META_CLUSTER_ID", pod.cluster.name()),
            // It means something only in a mesh whose clusters have networks: `multi_primary`.
            ("ISTIO_META_NETWORK", network.as_str()),
            ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
            ("ISTIO_META_MESH_ID", "mesh1"),
            ("ISTIO_META_WORKLOAD_NAME", pod.name),
            ("ISTIO_META_APP_CONTAINERS", "app"),
            ("TRUST_DOMAIN", "cluster.local"),
            ("JWT_POLICY", "third-party-jwt"),
            ("PILOT_CERT_PROVIDER", "istiod"),
            ("ISTIOD_SAN", "istiod.istio-system.svc"),
            ("PROXY_CONFIG", config.as_str()),
        ])
        .envs(environment.iter().copied())
        .env("INSTANCE_IP", pod.ip())
        .env("HOST_IP", pod.ip())
        .env(
            "ISTIO_METAJSON_LABELS",
            format!(r#"{{"app":"{0}","istio":"{0}"}}"#, pod.name),
        )
        .env("CA_ADDR", format!("{control_plane}:15012"))
        .env("XDS_ROOT_CA", dir.join("root-cert.pem"))
        .env("CA_ROOT_CA", dir.join("root-cert.pem"))
        .env("ISTIO_BOOTSTRAP", &template)
        .args(["-c", script, "sh"])
        .arg(layout.bin().join("pilot-agent"))
        .args(["proxy", role, "--domain"])
        .arg(format!("{}.svc.cluster.local", pod.kubernetes_namespace()))
        .args(["--proxyLogLevel=warning,wasm:info"])
        .args(["--log_output_level=default:info,wasm:info"])
        .arg("--templateFile")
        .arg(&template);
    if [HOME_GATEWAY, PEER_GATEWAY, THIRD_GATEWAY].contains(pod) {
        // What comes through an east-west gateway stays in its network.
        agent.env("ISTIO_META_REQUESTED_NETWORK_VIEW", &network);
    }
    daemon(layout, &log_name(pod), agent)
}

/// The name of the log of a pod's proxy: pilot-agent's lines, Envoy's, and the access log.
pub fn log_name(pod: &PodSpec) -> String {
    format!("{}-{}-proxy", pod.cluster.word(), pod.name)
}

/// The file of [`log_name`].
pub fn log_file(layout: &Layout, pod: &PodSpec) -> PathBuf {
    layout.dir().join(format!("log/{}.log", log_name(pod)))
}

/// Waits until the proxy serves.
/// # Errors
/// It does not in time; its log is named.
pub async fn wait_ready(layout: &Layout, pod: &PodSpec) -> Result<()> {
    let namespace = layout.namespace(pod);
    let what = format!(
        "the proxy of {} in {} is ready",
        pod.name,
        pod.cluster.name()
    );
    until_some_by(&what, READY, async || {
        let ready = "http://127.0.0.1:15021/healthz/ready";
        let answer = proxy::get(&namespace, ready).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
    .with_context(|| format!("see {}", log_file(layout, pod).display()))
}

/// Makes a file that every user may read, as those that Envoy reads must be.
/// # Errors
/// It cannot be copied.
pub fn copy_readable(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}
