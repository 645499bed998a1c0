//! An Envoy under callgrind.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use envoy_test::envoy::{reserve_port, temp_dir};
use envoy_test::wait::until_some_by;
use envoy_test::{Client, client};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::variant::Variant;

/// The proxy. What follows it is [`ECHO`].
pub const PROXY: &str = include_str!("envoy.yaml");
/// The upstream: what `/remote` reaches in another process, and `/hop` in this one. Listeners of a bootstrap.
pub const ECHO: &str = include_str!("echo.yaml");
/// Compiling a module takes a while under valgrind.
const START_DEADLINE: Duration = Duration::from_secs(300);

/// The proxy, counted from [`Counted::begin`] on. Dropped, it is killed.
pub struct Counted {
    dir: TempDir,
    child: Child,
    proxy: SocketAddr,
    proof: Option<&'static str>,
    // Ours as long as it runs.
    _ports: Vec<TcpSocket>,
}

impl Counted {
    /// Starts it, with its `/remote` at `remote`, and waits until it answers.
    /// # Errors
    /// It does not, within five minutes.
    pub async fn start(variant: &Variant, remote: SocketAddr) -> Result<Counted> {
        let dir = temp_dir("cost")?;
        let ports = [reserve_port()?, reserve_port()?];
        let [proxy, echo] = [&ports[0], &ports[1]].map(TcpSocket::local_addr);
        let (proxy, echo) = (proxy?, echo?);
        let config = format!("{PROXY}{ECHO}")
            .replace("{{proxy}}", &proxy.port().to_string())
            .replace("{{echo}}", &echo.port().to_string())
            .replace("{{remote}}", &remote.port().to_string())
            .replace("{{filters}}", &variant.filters.to_string());
        fs::write(dir.path().join("envoy.yaml"), config)?;
        let envoy = tokio::task::spawn_blocking(xtask::tools::envoy).await??;
        let log = fs::File::create(dir.path().join("envoy.log"))?;
        let child = Command::new("valgrind")
            .args([
                "--tool=callgrind",
                // V8 writes code at run time.
                "--smc-check=all-non-file",
                // Starting and warming up go several times as fast while nothing is counted.
                "--instr-atstart=no",
                "--callgrind-out-file=counts",
            ])
            .arg(envoy)
            .args(["-c", "envoy.yaml", "--concurrency", "1"])
            .args(["--admin-address-path", "admin"])
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("valgrind cannot be run")?;
        let mut counted = Counted {
            dir,
            child,
            proxy,
            proof: variant.proof,
            _ports: ports.into(),
        };
        counted.wait_until_it_serves().await?;
        Ok(counted)
    }

    async fn wait_until_it_serves(&mut self) -> Result<()> {
        let proxy = self.proxy;
        until_some_by(
            "Envoy answers under callgrind",
            START_DEADLINE,
            async || match self.child.try_wait() {
                Ok(None) => (get(proxy, "/remote").await.ok()?.0 == 200).then_some(Ok(())),
                ended => Some(Err(anyhow::anyhow!(
                    "Envoy ended: {ended:?}\n{}",
                    fs::read_to_string(self.dir.path().join("envoy.log")).unwrap_or_default()
                ))),
            },
        )
        .await?
    }

    /// Counts from now on.
    /// # Errors
    /// A tool did not do its part.
    pub fn begin(&self) -> Result<()> {
        self.control("--instr=on")
    }

    /// Instructions per request of `path`, over `requests` on one connection of HTTP/1.1, without the `at_rest` that
    /// Envoy and the filter's ticks need a second, requests or not.
    /// # Errors
    /// A request failed, or was not handled by the filter, or a tool did not do its part.
    pub async fn per_request(&self, path: &str, requests: u32, at_rest: f64) -> Result<f64> {
        let handled = self.handled().await?;
        self.control("-z")?;
        let start = Instant::now();
        self.load(path, requests).await?;
        let seconds = start.elapsed().as_secs_f64();
        self.control("-d")?;
        if let (Some(before), Some(after)) = (handled, self.handled().await?) {
            ensure!(
                after == before + i64::from(requests),
                "of {requests} requests the filter handled {}",
                after - before
            );
        }
        Ok((self.last_total()? - seconds * at_rest) / f64::from(requests))
    }

    /// Instructions per second while there are no requests, over `span`.
    /// # Errors
    /// A tool did not do its part.
    pub async fn at_rest(&self, span: Duration) -> Result<f64> {
        self.control("-z")?;
        let start = Instant::now();
        tokio::time::sleep(span).await;
        let seconds = start.elapsed().as_secs_f64();
        self.control("-d")?;
        Ok(self.last_total()? / seconds)
    }

    /// Sends `requests` to `path`.
    /// # Errors
    /// Not all were answered with 2xx.
    pub async fn load(&self, path: &str, requests: u32) -> Result<()> {
        let output = tokio::process::Command::new("h2load")
            .args(["--h1", "-c", "1", "-n", &requests.to_string()])
            .arg(format!("http://{}{path}", self.proxy))
            .output()
            .await
            .context("h2load cannot be run")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = format!("status codes: {requests} 2xx");
        ensure!(text.contains(&all), "not all requests succeeded:\n{text}");
        Ok(())
    }

    /// Requests that the filter says it handled, where there is one that says so.
    async fn handled(&self) -> Result<Option<i64>> {
        let Some(proof) = self.proof else {
            return Ok(None);
        };
        let admin = fs::read_to_string(self.dir.path().join("admin"))?;
        let (_, stats) = get(admin.trim().parse()?, "/stats").await?;
        let counters = stats.lines().filter(|line| line.contains(proof));
        let values = counters.filter_map(|line| line.rsplit_once(": "));
        let values = values.map(|(_, value)| value.parse::<i64>());
        Ok(Some(values.sum::<Result<i64, _>>()?))
    }

    fn control(&self, what: &str) -> Result<()> {
        let output = Command::new("callgrind_control")
            .args([what, &self.child.id().to_string()])
            .output()
            .context("callgrind_control cannot be run")?;
        ensure!(
            output.status.success(),
            "callgrind_control {what}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(())
    }

    /// Instructions between the last two commands; callgrind numbers its dumps.
    fn last_total(&self) -> Result<f64> {
        let mut last = None;
        for entry in fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| {
                let number = name.to_str()?.strip_prefix("counts.")?;
                number.parse::<u32>().ok()
            });
            last = last.max(number.map(|number| (number, path)));
        }
        let Some((_, path)) = last else {
            bail!(
                "callgrind has written nothing in {}",
                self.dir.path().display()
            );
        };
        let text = fs::read_to_string(&path)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total = total.with_context(|| format!("{} has no totals", path.display()))?;
        let total = total.trim().parse()?;
        ensure!(total > 0.0, "callgrind has counted nothing");
        Ok(total)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(addr: SocketAddr, path: &str) -> Result<(u16, String)> {
    let request = client::request("GET", &addr.to_string(), path, &[], client::empty())?;
    let answer = Client::http1(addr).await?.send(request).await?;
    Ok((
        answer.status,
        String::from_utf8_lossy(&answer.body).into_owned(),
    ))
}
