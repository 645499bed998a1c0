//! The mesh that runs: its parts, and what can be done to them.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use envoy_test::client::Dial;
use envoy_test::wait::until_some;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::kube::Kube;
use crate::layout::{
    CLIENT, CLUSTERS, Cluster, HOME_GATEWAY, Layout, PEER_GATEWAY, PODS, PROXY_UID, PodSpec,
    REGISTRY, THIRD_GATEWAY,
};
use crate::proxy::Proxy;
use crate::{net, pod};

/// Starts a program that goes on when we end, in a process group of its own; what it writes goes to log/NAME.log.
/// # Errors
/// It cannot be started.
pub fn daemon(layout: &Layout, name: &str, mut command: Command) -> Result<()> {
    let logs = layout.dir().join("log");
    fs::create_dir_all(&logs)?;
    let path = logs.join(format!("{name}.log"));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    // Proxies open /dev/stdout anew, as their own user.
    std::os::unix::fs::fchown(
        &log,
        Some(crate::layout::PROXY_UID),
        Some(crate::layout::PROXY_UID),
    )?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let pid = child.id().context("ended at once")?;
    let pids = layout.dir().join("pid");
    fs::create_dir_all(&pids)?;
    fs::write(pids.join(name), pid.to_string())?;
    Ok(())
}

/// A mesh that runs.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Its names.
    pub layout: Layout,
}

impl Mesh {
    /// The mesh that `cargo mesh up` left running.
    /// # Errors
    /// None runs; one line says how to start it.
    pub async fn attach() -> Result<Mesh> {
        let layout = Layout::of_environment();
        ensure!(
            layout.dir().join("up").is_file(),
            "no mesh runs here; start one: cargo mesh up"
        );
        Ok(Mesh { layout })
    }

    /// kubectl against one cluster.
    pub fn kube(&self, cluster: Cluster) -> Kube {
        Kube::of(&self.layout, cluster)
    }

    /// A pod's proxy.
    pub fn proxy(&self, pod: &PodSpec) -> Proxy {
        Proxy::of(&self.layout, pod)
    }

    /// Connections from inside a pod, to `ADDRESS:PORT`; its sidecar takes them on the way out.
    pub fn dial(&self, from: &PodSpec, to: &str) -> Dial {
        let (namespace, to) = (self.layout.namespace(from), to.to_owned());
        Dial::by(move || {
            let (namespace, to) = (namespace.clone(), to.clone());
            async move {
                let addr = to
                    .parse()
                    .with_context(|| format!("{to} must be ADDRESS:PORT"))?;
                net::connect(&namespace, addr).await
            }
        })
    }

    /// The cluster address of a service of the namespace `istio`.
    /// # Errors
    /// There is none.
    pub async fn cluster_ip(&self, cluster: Cluster, service: &str) -> Result<String> {
        let kube = self.kube(cluster);
        let path = "jsonpath={.spec.clusterIP}";
        kube.kubectl(&["get", "service", service, "-n", "istio", "-o", path])
            .await
    }

    /// What a part has written.
    /// # Errors
    /// There is no such part.
    pub fn log(&self, name: &str) -> Result<String> {
        let path = self.layout.dir().join(format!("log/{name}.log"));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a pod's proxy has written, its access log included.
    /// # Errors
    /// There is no such pod.
    pub fn proxy_log(&self, of: &PodSpec) -> Result<String> {
        self.log(&pod::log_name(of))
    }

    /// The Envoy that the proxies run.
    pub fn envoy(&self) -> PathBuf {
        self.layout.bin().join("envoy")
    }

    /// Kills (-9) the processes of `namespace` whose program has this name, and waits until they are gone.
    /// # Errors
    /// There is none of that name.
    pub async fn kill(&self, namespace: &str, program: &str, signal: Signal) -> Result<()> {
        let victims = named(&net::processes(namespace).await?, program);
        ensure!(!victims.is_empty(), "no {program} runs in {namespace}");
        for pid in &victims {
            kill(Pid::from_raw(*pid), signal)?;
        }
        if signal != Signal::SIGKILL {
            return Ok(());
        }
        until_some(&format!("{program} has ended"), async || {
            let left = net::processes(namespace).await.ok()?;
            victims.iter().all(|pid| !left.contains(pid)).then_some(())
        })
        .await
    }

    /// Ends a pod's proxy, pilot-agent and Envoy, at once.
    /// # Errors
    /// It does not run.
    pub async fn kill_proxy(&self, of: &PodSpec) -> Result<()> {
        let namespace = self.layout.namespace(of);
        // The agent first: it would end in good order, and say so, when Envoy is gone.
        self.kill(&namespace, "pilot-agent", Signal::SIGKILL)
            .await?;
        if !named(&net::processes(&namespace).await?, "envoy").is_empty() {
            self.kill(&namespace, "envoy", Signal::SIGKILL).await?;
        }
        Ok(())
    }

    /// Starts a pod's proxy, cold, and waits until it serves.
    /// # Errors
    /// It does not.
    pub async fn start_proxy(&self, of: &PodSpec) -> Result<()> {
        pod::start_proxy(&self.layout, of, &self.envoy())?;
        pod::wait_ready(&self.layout, of).await
    }

    /// Ends and starts a pod's proxy: a pod that is new.
    /// # Errors
    /// It does not come back.
    pub async fn restart_proxy(&self, of: &PodSpec) -> Result<()> {
        self.kill_proxy(of).await?;
        self.start_proxy(of).await
    }

    async fn pid(&self, name: &str) -> Result<Option<i32>> {
        let path = self.layout.dir().join("pid").join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("{name} was never started"))?;
        let pid = text.trim().parse()?;
        // A number may have gone to another process since: only one inside the mesh is ours.
        let ours = net::processes(&self.layout.lab()).await?;
        Ok(ours.contains(&pid).then_some(pid))
    }

    /// Whether a part of the control planes that [`daemon`] started under this name runs.
    /// # Errors
    /// It was never started.
    pub async fn daemon_runs(&self, name: &str) -> Result<bool> {
        Ok(self.pid(name).await?.is_some())
    }

    /// Ends a part that [`daemon`] started under this name.
    /// # Errors
    /// It does not run.
    pub async fn kill_daemon(&self, name: &str) -> Result<()> {
        let Some(pid) = self.pid(name).await? else {
            bail!("{name} does not run")
        };
        let lab = self.layout.lab();
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        until_some(&format!("{name} has ended"), async || {
            let left = net::processes(&lab).await.ok()?;
            (!left.contains(&pid)).then_some(())
        })
        .await
    }

    /// The clusters that are there: two, or three.
    pub fn clusters(&self) -> Vec<Cluster> {
        let third = self.layout.kubeconfig(Cluster::Third).exists();
        let third = third.then_some(Cluster::Third);
        CLUSTERS.into_iter().chain(third).collect()
    }

    /// How to talk to what runs.
    /// # Errors
    /// A namespace is gone.
    pub async fn status(&self) -> Result<String> {
        let mut text = String::new();
        for name in net::namespaces(&self.layout.prefix()).await? {
            let processes = net::processes(&name).await?;
            let mut programs: Vec<String> = processes.iter().filter_map(|pid| comm(*pid)).collect();
            programs.sort();
            text.push_str(&format!("{name:<28} {}\n", programs.join(" ")));
        }
        Ok(text)
    }

    /// Lines to copy: kubectl, a request, statistics.
    pub fn how_to_talk(&self) -> String {
        let (layout, bin) = (&self.layout, self.layout.bin());
        let (lab, bin) = (layout.lab(), bin.display());
        let mut text = String::new();
        for cluster in self.clusters() {
            let config = layout.kubeconfig(cluster);
            text.push_str(&format!(
                "{:<14} ip netns exec {lab} {bin}/kubectl --kubeconfig {} get pods -A\n",
                cluster.name(),
                config.display(),
            ));
        }
        let client = layout.namespace(&PODS[0]);
        text.push_str(&format!(
            "three requests ip netns exec {client} {bin}/client 'http://{SERVICE}/?delay=100ms' --count 3\n\
             statistics     ip netns exec {client} curl -s 127.0.0.1:15000/stats?filter=peer_spillover\n\
             logs           {}/log\n\n\
             The settings of wasmplugin/README.md, for a shell that this starts: {}\n{}",
            layout.dir().display(),
            self.shell(),
            self.settings(),
        ));
        text
    }

    /// What wasmplugin/README.md asks for under "Settings", as this mesh has it, and where to find kubectl and both
    /// clusters: lines for a shell that [`Mesh::shell`] starts.
    pub fn settings(&self) -> String {
        let third = Cluster::Third;
        let (layout, client) = (&self.layout, self.layout.namespace(&CLIENT));
        let [home, peer] = CLUSTERS.map(|cluster| layout.kubeconfig(cluster));
        let inside = format!("ip netns exec {client}");
        let kubeconfig = format!("KUBECONFIG={}:{}", home.display(), peer.display());
        let mut settings = vec![
            format!("PATH={}:$PATH", layout.bin().display()),
            match self.clusters().contains(&third) {
                true => {
                    let more = layout.kubeconfig(third);
                    format!("{kubeconfig}:{}", more.display())
                }
                false => kubeconfig,
            },
            format!(
                "HOME_CONTEXT={} PEER_CONTEXT={}",
                Cluster::Home.name(),
                Cluster::Peer.name()
            ),
            format!(
                "HOME_GATEWAY={} PEER_GATEWAY={}",
                HOME_GATEWAY.ip(),
                PEER_GATEWAY.ip()
            ),
            format!("IMAGE={REGISTRY}/peer-spillover:0.1.0"),
            "PUSH_OPTIONS=--plain-http".to_owned(),
            format!("IN_CLIENT=\"{inside}\""),
            // The proxy's own user, whose requests the sidecar does not capture.
            format!("IN_PROXY=\"{inside} setpriv --reuid {PROXY_UID} --clear-groups\""),
        ];
        if self.clusters().contains(&third) {
            let (name, gateway) = (third.name(), THIRD_GATEWAY.ip());
            settings.push(format!("THIRD_CONTEXT={name} THIRD_GATEWAY={gateway}"));
        }
        settings
            .iter()
            .map(|setting| format!("export {setting}\n"))
            .collect()
    }

    /// What starts a shell from which the API servers and the registry can be reached.
    pub fn shell(&self) -> String {
        format!("ip netns exec {} bash", self.layout.lab())
    }
}

/// The federated service.
pub const SERVICE: &str = "a.istio.svc.cluster.local";

fn comm(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(text.trim().to_owned())
}

/// Those of `processes` whose program has this name.
pub(crate) fn named(processes: &[i32], program: &str) -> Vec<i32> {
    // The kernel keeps 15 characters of a program's name.
    let short: String = program.chars().take(15).collect();
    let ours = processes.iter().copied();
    ours.filter(|pid| comm(*pid).as_deref() == Some(&short))
        .collect()
}
