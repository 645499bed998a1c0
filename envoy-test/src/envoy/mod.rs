//! A real Envoy as a child of this process.

mod admin;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use crate::wait::{DEADLINE, until_some, until_some_by};

/// How to run an Envoy.
#[derive(Clone, Debug)]
pub struct EnvoyOptions {
    /// Worker threads.
    pub concurrency: u32,
    /// What messages and its directory call it.
    pub name: String,
    /// `info`, `debug`, `wasm:info,warning`…: Envoy's level, or `COMPONENT:LEVEL` pairs after it, separated by commas.
    pub log_level: String,
    /// Further arguments. Among them `--restart-epoch` makes it one of several that take over from each other (hot restart).
    pub args: Vec<String>,
}

impl Default for EnvoyOptions {
    fn default() -> Self {
        EnvoyOptions {
            concurrency: 1,
            name: "envoy".to_owned(),
            log_level: "info".to_owned(),
            args: Vec::new(),
        }
    }
}

/// A running Envoy, its workers started and its listeners accepting. Dropped, it is killed; in a test that fails, the end
/// of its log goes to stderr.
pub struct Envoy {
    options: EnvoyOptions,
    // The file in it is read until the end.
    dir: TempDir,
    child: Child,
    admin: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
}

/// Lines of the log that a failure shows.
const LOG_TAIL: usize = 60;
/// A busy machine that loads several Wasm VMs needs longer than for anything else.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A new directory under `target/envoy-test/`, gone when it is dropped.
/// # Errors
/// It cannot be made.
pub fn temp_dir(prefix: &str) -> Result<TempDir> {
    let parent = xtask::target_dir().join("envoy-test");
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    Ok(tempfile::Builder::new()
        .prefix(&format!("{prefix}-"))
        .tempdir_in(parent)?)
}

/// A port of 127.0.0.1 that is ours until the socket is dropped, for a listener whose port must be known before it starts.
/// Envoy, which sets SO_REUSEPORT too, can listen on it meanwhile.
/// # Errors
/// There is no free port.
pub fn reserve_port() -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(socket)
}

impl Envoy {
    /// Starts an Envoy with this bootstrap (YAML; `admin` is added, or has port 0) and waits until it serves.
    /// Listeners had best have port 0: [`Envoy::listener`] says where they are.
    /// # Errors
    /// There is no Envoy, or it does not accept the configuration, or does not serve after a minute: with its log's end.
    pub async fn start(config_yaml: String, options: EnvoyOptions) -> Result<Envoy> {
        let binary = tokio::task::spawn_blocking(xtask::tools::envoy).await??;
        let dir = temp_dir(&options.name)?;
        let config = dir.path().join("envoy.yaml");
        fs::write(&config, config_yaml)?;
        let log = File::create(dir.path().join("envoy.log"))?;
        let (level, components) = options
            .log_level
            .split_once(',')
            .unwrap_or((&options.log_level, ""));
        let mut command = Command::new(&binary);
        command
            .arg("-c")
            .arg(&config)
            .args([
                "--config-yaml",
                "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}",
            ])
            .arg("--admin-address-path")
            .arg(dir.path().join("admin"))
            .args(["--concurrency", &options.concurrency.to_string()])
            .args(["--file-flush-interval-msec", "50", "--log-level", level])
            .args(&options.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if !components.is_empty() {
            command.args(["--component-log-level", components]);
        }
        if !options.args.iter().any(|arg| arg == "--restart-epoch") {
            command.arg("--disable-hot-restart");
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy = Envoy {
            options,
            dir,
            child,
            admin: unknown,
            listeners: BTreeMap::new(),
        };
        match envoy.wait_until_it_serves().await {
            Ok(()) => Ok(envoy),
            Err(error) => Err(envoy.with_log(error)),
        }
    }

    async fn wait_until_it_serves(&mut self) -> Result<()> {
        let file = self.dir.path().join("admin");
        self.admin = self
            .while_it_runs("its admin address", async |_| {
                fs::read_to_string(&file).ok()?.trim().parse().ok()
            })
            .await?;
        // The admin answers before the workers run, and `/ready` before they accept.
        self.while_it_runs("its workers", async |envoy| {
            let started = envoy
                .stat("listener_manager.workers_started")
                .await
                .ok()??;
            (started == 1).then_some(())
        })
        .await?;
        let listeners = self.admin_get("/listeners?format=json").await?;
        self.listeners = admin::listeners(&listeners).context("/listeners is not what it was")?;
        for (name, addr) in self.listeners.clone() {
            self.while_it_runs(&format!("its listener {name}"), async |_| {
                TcpStream::connect(addr).await.ok()
            })
            .await?;
        }
        Ok(())
    }

    async fn while_it_runs<T>(
        &mut self,
        what: &str,
        mut attempt: impl AsyncFnMut(&Envoy) -> Option<T>,
    ) -> Result<T> {
        let what = format!("Envoy {} has started {what}", self.options.name);
        until_some_by(&what, START_DEADLINE, async || {
            match self.child.try_wait() {
                Ok(None) => attempt(self).await.map(Ok),
                ended => Some(Err(anyhow!("Envoy {} ended: {ended:?}", self.options.name))),
            }
        })
        .await?
    }

    fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        anyhow!(
            "{error:#}\n--- the end of {}'s log ---\n{}",
            self.options.name,
            self.log_tail()
        )
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        // Envoy begins with long lists of what it is made of, indented.
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("]   ")).collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// Where the listener of this name accepts.
    /// # Panics
    /// The configuration has no such listener.
    pub fn listener(&self, name: &str) -> SocketAddr {
        match self.listeners.get(name) {
            Some(addr) => *addr,
            None => panic!(
                "Envoy {} has no listener {name}, only {:?}",
                self.options.name, self.listeners
            ),
        }
    }

    /// Where its admin interface answers.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its directory: `envoy.yaml`, `envoy.log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its admin interface answers to `GET path`.
    /// # Errors
    /// It answers with another status than 200, or not at all.
    pub async fn admin_get(&self, path: &str) -> Result<String> {
        admin::ask(self.admin, "GET", path).await
    }

    /// What its admin interface answers to `POST path`: what changes something.
    /// # Errors
    /// It answers with another status than 200, or not at all.
    pub async fn admin_post(&self, path: &str) -> Result<String> {
        admin::ask(self.admin, "POST", path).await
    }

    /// All counters and gauges by name, as `/stats` prints them. A gauge below zero is shown so.
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stats(&self) -> Result<BTreeMap<String, i64>> {
        Ok(admin::stats(&self.admin_get("/stats?type=All").await?))
    }

    /// Those of [`Envoy::stats`] whose name contains `text`.
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stats_matching(&self, text: &str) -> Result<BTreeMap<String, i64>> {
        let mut stats = self.stats().await?;
        stats.retain(|name, _| name.contains(text));
        Ok(stats)
    }

    /// The counter or gauge of exactly this name, if there is one.
    /// # Errors
    /// The admin interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.stats().await?.remove(name))
    }

    /// Waits until the counter or gauge of this name is as wanted (absent counts as 0) and returns its value.
    /// # Errors
    /// It is not by [`DEADLINE`]: with its last value and the end of Envoy's log.
    pub async fn wait_stat(&self, name: &str, wanted: impl Fn(i64) -> bool) -> Result<i64> {
        self.wait_stat_by(name, wanted, DEADLINE).await
    }

    /// As [`Envoy::wait_stat`], with a deadline of its own.
    /// # Errors
    /// As there.
    pub async fn wait_stat_by(
        &self,
        name: &str,
        wanted: impl Fn(i64) -> bool,
        deadline: Duration,
    ) -> Result<i64> {
        let mut last = None;
        let waited = until_some_by(
            &format!("stat {name} of Envoy {}", self.options.name),
            deadline,
            async || {
                last = self.stat(name).await.ok()?;
                let value = last.unwrap_or(0);
                wanted(value).then_some(value)
            },
        )
        .await;
        waited.map_err(|error| self.with_log(error.context(format!("it is {last:?}"))))
    }

    /// `/stats/prometheus`.
    /// # Errors
    /// The admin interface does not answer.
    pub async fn prometheus(&self) -> Result<String> {
        self.admin_get("/stats/prometheus").await
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The file that it logs to.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("envoy.log")
    }

    /// Waits until a line of the log contains `text`, and returns that line.
    /// # Errors
    /// None does by [`DEADLINE`]: with the log's end.
    pub async fn wait_log(&self, text: &str) -> Result<String> {
        let what = format!("Envoy {} logs {text:?}", self.options.name);
        let waited = until_some(&what, async || {
            self.log()
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        })
        .await;
        waited.map_err(|error| self.with_log(error))
    }

    /// Kills it, as a crash would, and waits until it is gone.
    /// # Errors
    /// It cannot be.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// An error if it runs no more.
    /// # Errors
    /// So.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(self.with_log(anyhow!("Envoy {} ended: {status}", self.options.name)));
        }
        Ok(())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- the end of {}'s log ---\n{}",
                self.options.name,
                self.log_tail()
            );
        }
    }
}
