//! A Docker engine of the test's own, in namespaces of its own: what it makes of networks, mounts and processes nobody else
//! sees, and it all ends with the engine. On the machine's disk it has one temporary folder.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use envoy_test::client::Dial;
use envoy_test::envoy::temp_dir;
use envoy_test::wait::until_some_by;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use xtask::run::quietly;
use xtask::tools::on_path;
use xtask::workspace_root;

/// Programs, and the Debian package of each.
const NEEDS: [(&str, &str); 8] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-compose", "docker-compose"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// Runs as the first process inside; its arguments are the folder for the engine's data and the name of its cgroup.
/// Sockets and state go to a /run that is empty, and the machine's own /etc/docker does not count.
const INIT: &str = r#"
set -e
mkdir -p /etc/docker
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/docker
ip link set lo up
exec dockerd --data-root "$1" --cgroup-parent "$2" --exec-opt native.cgroupdriver=cgroupfs
"#;

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Variables that would lead the clients to another engine or another project.
const ASTRAY: [&str; 6] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS_VERIFY",
    "COMPOSE_FILE",
    "COMPOSE_PROJECT_NAME",
    "COMPOSE_PROFILES",
];

/// A running engine. Dropped, it is killed, with everything that runs in it.
pub struct Engine {
    unshare: Child,
    init: Pid,
    cgroup: String,
    dir: TempDir,
}

impl Engine {
    /// Starts an engine and waits until it answers.
    /// # Errors
    /// Who asks is not root, a program is missing, or the engine does not start here: with its log's end.
    pub async fn start() -> Result<Engine> {
        ensure!(geteuid().is_root(), "only root may start an engine");
        for (program, package) in NEEDS {
            on_path(program)
                .with_context(|| format!("{program} is not on the PATH: install {package}"))?;
        }
        let dir = temp_dir("docker")?;
        let log = File::create(dir.path().join("dockerd.log"))?;
        let cgroup = format!("peer-spillover-{}", std::process::id());
        // The engine also ends where this process is killed: the first option of each kills what it starts.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--kill-child"])
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc"])
            .args(["sh", "-c", INIT, "sh"])
            .arg(dir.path().join("data"))
            .arg(format!("/{cgroup}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let unshare = command.spawn().context("cannot run setpriv")?;
        let mut engine = Engine {
            unshare,
            init: Pid::from_raw(0),
            cgroup,
            dir,
        };
        match engine.wait_until_it_answers().await {
            Ok(()) => Ok(engine),
            Err(error) => {
                let log = fs::read_to_string(engine.dir.path().join("dockerd.log"))?;
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                Err(anyhow!("{error:#}\n--- the end of its log ---\n{end}"))
            }
        }
    }

    async fn wait_until_it_answers(&mut self) -> Result<()> {
        let parent = self.unshare.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        until_some_by("the engine answers", START_DEADLINE, async || {
            if let Ok(Some(status)) = self.unshare.try_wait() {
                return Some(Err(anyhow!("the engine ended: {status}")));
            }
            let init = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            self.init = Pid::from_raw(init);
            let asked = self.command("docker", &["version"]).output().ok()?;
            asked.status.success().then_some(Ok(()))
        })
        .await?
    }

    /// A command as a user of this engine types it at the root of the checkout.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--all"])
            .arg(format!("--wdns={}", workspace_root().display()))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null());
        for variable in ASTRAY {
            command.env_remove(variable);
        }
        command
    }

    /// Runs such a command to its end.
    /// # Errors
    /// It fails: with the end of its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let what = format!("{program} {}", arguments.join(" "));
        quietly(&what, &mut self.command(program, arguments))
    }

    /// What such a command prints, on stdout.
    /// # Errors
    /// It cannot be run.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program, arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The way to a port that is published on this engine's loopback.
    pub fn dial(&self, port: u16) -> Dial {
        let namespace = format!("/proc/{}/ns/net", self.init);
        Dial::by(move || {
            let namespace = namespace.clone();
            async move {
                // A thread of its own, since it never comes back from there.
                let connected = thread::spawn(move || -> Result<std::net::TcpStream> {
                    setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
                    let addr = SocketAddr::from(([127, 0, 0, 1], port));
                    Ok(std::net::TcpStream::connect(addr)?)
                });
                let stream = connected
                    .join()
                    .map_err(|_| anyhow!("the thread panicked"))??;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(tokio::net::TcpStream::from_std(stream)?)
            }
        })
    }

    /// Its folder, which it sees too.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // All of these fail only where there is nothing to end any more. The first process's end is that of all others
        // inside, and `unshare` ends after them.
        if self.init.as_raw() > 0 {
            let _ = kill(self.init, Signal::SIGKILL);
        } else {
            let _ = self.unshare.kill();
        }
        let _ = self.unshare.wait();
        // One hierarchy, or one for each controller.
        let root = Path::new("/sys/fs/cgroup");
        remove_cgroup(&root.join(&self.cgroup));
        for controller in fs::read_dir(root).into_iter().flatten().flatten() {
            remove_cgroup(&controller.path().join(&self.cgroup));
        }
    }
}

/// Removes an empty cgroup, those in it first. Its files are the kernel's and go with it.
fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}
