//! Many streams at once: how many requests home ever had in flight, against the limit. A load generator of its own process
//! (h2load) sends them by HTTP/2 to a real Envoy with the filter; another Envoy is home and peer, and holds each request for
//! fifteen seconds. `cargo storm --connections 1000 --streams 100` sends as many as Envoy's default of
//! a hundred streams for each connection allows to a thousand clients.
//!
//! It is no test, since it takes minutes; `tests/overload.rs` shows the same with one busy worker.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use envoy_test::world::{HOST, PEER_HOST, plugin_config};
use envoy_test::{Envoy, EnvoyOptions};
use serde_json::{Value, json};
use tokio::process::Command;

/// How often home's count is read while the load is under way.
const POLL: Duration = Duration::from_millis(50);
const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// More requests at once than a worker can see to between two ticks, and the most that home had in flight.
#[derive(Parser)]
struct Options {
    /// Connections of the load generator
    #[arg(long, default_value_t = 400)]
    connections: u32,
    /// Streams of each connection at once
    #[arg(long, default_value_t = 100)]
    streams: u32,
    /// The limit of the service
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Worker threads of the proxy
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let upstream = Envoy::start(upstream().to_string(), named("upstream", 1)).await?;
    let ports = ["home", "peer"].map(|name| upstream.listener(name).port());
    let module = tokio::task::spawn_blocking(xtask::filter::ensure).await??;
    let filter = json!({"config": {
        "name": "storm",
        "failure_policy": "FAIL_OPEN",
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": plugin_config(options.limit).to_string(),
        },
    }});
    let proxy = Envoy::start(
        proxy(filter, ports).to_string(),
        named("proxy", options.workers),
    )
    .await?;

    let all = options.connections.saturating_mul(options.streams);
    let mut load = Command::new("h2load")
        .args(["-n", &all.to_string()])
        .args(["-c", &options.connections.to_string()])
        .args(["-m", &options.streams.to_string()])
        .args(["-H", &format!(":authority: {HOST}")])
        .arg(format!("http://{}/", proxy.listener("proxy")))
        .stdout(Stdio::piped())
        .spawn()
        .context("h2load is missing: install it (Debian: nghttp2-client)")?;
    let mut most = 0;
    while load.try_wait()?.is_none() {
        let now = upstream.stat("http.home.downstream_rq_active").await;
        most = most.max(now.ok().flatten().unwrap_or(0));
        tokio::time::sleep(POLL).await;
    }
    let output = load.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.starts_with("requests:")) {
        println!("{line}");
    }
    let Options { limit, workers, .. } = options;
    println!("{all} streams, {workers} workers, limit {limit}: at most {most} in flight at home");
    ensure!(most <= i64::from(limit), "home had more than the limit");
    Ok(())
}

fn named(name: &str, concurrency: u32) -> EnvoyOptions {
    EnvoyOptions {
        name: name.to_owned(),
        concurrency,
        ..EnvoyOptions::default()
    }
}

/// Home and peer: each request is held, then answered.
fn upstream() -> Value {
    let hold = json!({"delay": {"fixed_delay": "15s", "percentage": {"numerator": 100}}});
    let answer = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}});
    let listeners = ["home", "peer"].map(|name| {
        listener(
            name,
            json!([filter("fault", "fault.v3.HTTPFault", &hold)]),
            json!([{"name": name, "domains": ["*"], "routes": [answer]}]),
        )
    });
    json!({"static_resources": {"listeners": listeners}})
}

fn proxy(wasm: Value, ports: [u16; 2]) -> Value {
    let hosts = [HOST, PEER_HOST];
    let cluster = |host: &str| format!("outbound|80||{host}");
    let clusters = [0, 1].map(|n| cluster_at(&cluster(hosts[n]), ports[n]));
    let virtual_hosts = hosts.map(|host| {
        let route = json!({"cluster": cluster(host), "timeout": "0s"});
        json!({"name": host, "domains": [host], "routes": [{"match": {"prefix": "/"}, "route": route}]})
    });
    let listener = listener(
        "proxy",
        json!([filter("wasm", "wasm.v3.Wasm", &wasm)]),
        json!(virtual_hosts),
    );
    json!({"static_resources": {"listeners": [listener], "clusters": clusters}})
}

fn filter(name: &str, kind: &str, config: &Value) -> Value {
    let mut config = config.clone();
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}").into();
    json!({"name": name, "typed_config": config})
}

fn listener(name: &str, mut filters: Value, virtual_hosts: Value) -> Value {
    if let Some(filters) = filters.as_array_mut() {
        filters.push(filter("router", "router.v3.Router", &json!({})));
    }
    let manager = json!({
        "@type": HCM,
        "stat_prefix": name,
        "http2_protocol_options": {"max_concurrent_streams": 2_147_483_647},
        "http_filters": filters,
        "route_config": {"virtual_hosts": virtual_hosts},
    });
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}

fn cluster_at(name: &str, port: u16) -> Value {
    let n = 1_000_000;
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "60s",
        "circuit_breakers": {"thresholds": [{"max_connections": n, "max_pending_requests": n, "max_requests": n}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}
