//! Network namespaces: made, entered and removed. The machine's own network is never touched.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tokio::process::Command;
use tokio::sync::oneshot;

const CONNECT: Duration = Duration::from_secs(5);

/// `ip ARGUMENTS`.
/// # Errors
/// It failed (with what it said).
pub async fn ip(arguments: &str) -> Result<String> {
    run(Command::new("ip").args(arguments.split_whitespace())).await
}

/// A command to be run in the network namespace `namespace`. The process is the program itself: `ip` execs it.
pub fn command(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// Runs a command to its end and returns what it wrote to stdout.
/// # Errors
/// It cannot be started, or it failed (with what it wrote to stderr).
pub async fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The network namespaces whose names begin with `prefix`.
/// # Errors
/// `ip` fails.
pub async fn namespaces(prefix: &str) -> Result<Vec<String>> {
    let list = ip("netns list").await?;
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names
        .filter(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .collect())
}

/// The folder of a namespace's own files of /etc.
pub fn etc(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

/// The processes of a namespace.
/// # Errors
/// There is no such namespace.
pub async fn processes(namespace: &str) -> Result<Vec<i32>> {
    let list = ip(&format!("netns pids {namespace}")).await?;
    Ok(list.lines().filter_map(|pid| pid.parse().ok()).collect())
}

/// Runs `work` on a thread of its own inside `namespace`: its sockets, and those of threads it starts, belong there.
/// # Errors
/// There is no such namespace, or `work` failed.
pub async fn inside<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let file = File::open(format!("/run/netns/{namespace}"))
        .with_context(|| format!("there is no network namespace {namespace}; cargo mesh up"))?;
    let (done, result) = oneshot::channel();
    thread::spawn(move || {
        let entered = setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace");
        // Nobody waits any more: nobody wants to know.
        let _ = done.send(entered.and_then(|()| work()));
    });
    result
        .await
        .context("the thread inside the namespace panicked")?
}

/// A TCP connection from inside `namespace`.
/// # Errors
/// There is no such namespace, or nobody listens at `addr`.
pub async fn connect(namespace: &str, addr: SocketAddr) -> Result<tokio::net::TcpStream> {
    let stream = inside(namespace, move || {
        TcpStream::connect_timeout(&addr, CONNECT)
            .with_context(|| format!("cannot connect to {addr}"))
    })
    .await?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(tokio::net::TcpStream::from_std(stream)?)
}
