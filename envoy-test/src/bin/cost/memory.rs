//! `cargo cost --memory`: what an Envoy takes without Wasm, with the SDK's empty filter, and with ours.
//!
//! Each variant is an Envoy of its own with two workers, which has answered requests, and whose memory has then stopped changing:
//! V8 compiles in the background. What it takes is what the kernel says (`RssAnon`, `RssFile`); what of its own is in use,
//! and what its allocator holds and could give back, is what Envoy says (`/memory`).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::envoy::reserve_port;
use envoy_test::{Client, Envoy, EnvoyOptions};
use serde_json::Value;

use super::counted::{ECHO, PROXY};
use super::variant::{self, Variant};

/// Requests before it is measured, so that what is hot is compiled.
const REQUESTS: u32 = 2000;
/// How often the memory is looked at. It has stopped changing where it is the same [`SAME`] times in a row.
const LOOK: Duration = Duration::from_millis(250);
const SAME: u32 = 8;
/// It goes on changing, which it should not.
const MOST_LOOKS: u32 = 240;

/// In bytes.
#[derive(Clone, Copy, Default)]
struct Used {
    /// Its own.
    own: u64,
    /// Of its program and libraries, which all proxies of a machine share.
    file: u64,
    allocated: u64,
    free: u64,
}

/// Measures and prints.
/// # Errors
/// An Envoy does not start or does not answer.
pub async fn print() -> Result<()> {
    let variants = tokio::task::spawn_blocking(variant::all).await??;
    println!("Resident memory of an Envoy with two workers after {REQUESTS} requests, in MB.\n");
    println!(
        "{:<40}{:>8}{:>8}{:>8}{:>12}{:>8}",
        "", "all", "shared", "own", "allocated", "free"
    );
    for variant in &variants {
        let used = measure(variant).await?;
        let all = used.own + used.file;
        let [all, file, own, allocated, free] =
            [all, used.file, used.own, used.allocated, used.free].map(|bytes| bytes as f64 / 1e6);
        let name = variant.name;
        println!("{name:<40}{all:>8.1}{file:>8.1}{own:>8.1}{allocated:>12.1}{free:>8.1}");
    }
    Ok(())
}

async fn measure(variant: &Variant) -> Result<Used> {
    let port = reserve_port()?;
    let echo = port.local_addr()?.port().to_string();
    let config = format!("{PROXY}{ECHO}")
        .replace("{{proxy}}", "0")
        .replace("{{echo}}", &echo)
        .replace("{{remote}}", &echo)
        .replace("{{filters}}", &variant.filters.to_string());
    let options = EnvoyOptions {
        name: "cost-memory".to_owned(),
        log_level: "warning".to_owned(),
        concurrency: 2,
        ..EnvoyOptions::default()
    };
    let envoy = Envoy::start(config, options).await?;
    let mut clients = Vec::new();
    for _ in 0..8 {
        // Connections go to workers by chance.
        clients.push(Client::http1(envoy.listener("outbound")).await?);
    }
    for nth in 0..REQUESTS as usize {
        let count = clients.len();
        let answer = clients[nth % count].get("a.istio.svc.cluster.local", &[]);
        let status = answer.await?.status;
        ensure!(status == 200, "{}: {status}", variant.name);
    }
    drop(clients);
    if let Some(proof) = variant.proof {
        let handled: i64 = envoy.stats_matching(proof).await?.values().sum();
        ensure!(handled > 0, "{}: not loaded", variant.name);
    }
    let (mut last, mut same) = (used(&envoy).await?, 0);
    for _ in 0..MOST_LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = used(&envoy).await?;
        // To a tenth of a megabyte.
        same = if now.own.abs_diff(last.own) < 100_000 {
            same + 1
        } else {
            0
        };
        last = now;
        if same == SAME {
            break;
        }
    }
    Ok(last)
}

async fn used(envoy: &Envoy) -> Result<Used> {
    let status = fs::read_to_string(format!("/proc/{}/status", envoy.pid()))?;
    let resident = |name: &str| -> Result<u64> {
        let line = status.lines().find(|line| line.starts_with(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kilobytes.context("no such line")?.parse::<u64>()? * 1024)
    };
    let memory: Value = serde_json::from_str(&envoy.admin_get("/memory").await?)?;
    let heap = |name: &str| -> Result<u64> {
        Ok(memory[name].as_str().context("no such number")?.parse()?)
    };
    Ok(Used {
        own: resident("RssAnon:")?,
        file: resident("RssFile:")?,
        allocated: heap("allocated")?,
        free: heap("pageheap_free")?,
    })
}
