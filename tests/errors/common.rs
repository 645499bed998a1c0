//! Services whose errors are detected, and what can be seen of one of them.
// Each test file uses a part of it.
#![allow(dead_code)]

use std::pin::Pin;

use anyhow::{Context, Result, bail};
use envoy_test::client::{self, Answer, Client};
use envoy_test::wait::until_some;
use envoy_test::world::{Builder, PEER, Upstream, peer_host, plugin_config, service_metric};
use envoy_test::{World, until};
use serde_json::{Value, json};

/// `sN.istio.svc.cluster.local`, for as many services as a test has cases: none then waits for another to be well again.
pub fn host(n: usize) -> String {
    format!("s{n}.istio.svc.cluster.local")
}

/// The hosts of `n` services.
pub fn hosts(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(host)
}

/// A configuration with a service for each of these `outlierDetection`s, [`host`] 0 and on, and a limit that is never
/// reached.
pub fn detecting(detections: &[Value]) -> Value {
    let mut config = plugin_config(1000);
    let template = config["services"][0].take();
    let services = detections.iter().enumerate().map(|(n, detection)| {
        let mut service = template.clone();
        service["host"] = host(n).into();
        service["peers"][0]["host"] = peer_host(&host(n), PEER).into();
        service["trafficPolicy"]["outlierDetection"] = detection.clone();
        service
    });
    config["services"] = services.collect();
    config
}

/// A world of these, in which upstreams speak what the client speaks.
pub fn builder(detections: &[Value]) -> Builder {
    World::builder()
        .filter(detecting(detections))
        .hosts(hosts(detections.len()))
        .upstream(Upstream::AsClient)
        // Of what is said more than once a minute.
        .log_level("info,wasm:debug")
}

/// So many errors in a row eject, for longer than any test runs.
pub fn after(errors: u32) -> Value {
    json!({"consecutive5xxErrors": errors, "interval": "200ms", "baseEjectionTime": "1h"})
}

/// One service of a world.
pub struct Service<'a> {
    pub world: &'a World,
    pub host: String,
}

impl<'a> Service<'a> {
    pub fn new(world: &'a World, n: usize) -> Self {
        let host = host(n);
        Service { world, host }
    }

    /// `GET /` with these headers on a connection of its own.
    pub async fn get(&self, headers: &[(&str, &str)]) -> Result<Answer> {
        self.world
            .client(false)
            .await?
            .get(&self.host, headers)
            .await
    }

    /// As [`Service::get`], by HTTP/2.
    pub async fn get2(&self, headers: &[(&str, &str)]) -> Result<Answer> {
        self.world
            .client(true)
            .await?
            .get(&self.host, headers)
            .await
    }

    /// A gRPC request with these headers.
    pub async fn grpc(&self, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
        all.extend(headers);
        let body = client::full(vec![0; 5]);
        let request = client::request("POST", &self.host, "/a.A/Get", &all, body)?;
        self.world.client(true).await?.send(request).await
    }

    /// Starts a request and returns it when its answer's head is there.
    pub async fn begin(&self, http2: bool, headers: &[(&str, &str)]) -> Result<Begun> {
        let mut client = self.world.client(http2).await?;
        let answer = client.start(client::get(&self.host, headers)?).await?;
        Ok(Begun {
            rest: Box::pin(client::read(answer)),
            _client: client,
        })
    }

    /// The value of one of its metrics; 0 where there is none.
    pub async fn stat(&self, name: &str) -> Result<i64> {
        // All statistics of a world of many services are long: Envoy is asked for this one.
        let stat = service_metric(&self.host, name);
        let path = format!("/stats?filter={}$", stat.replace([';', '='], "."));
        let text = self.world.envoy.admin_get(&path).await?;
        match text.trim().rsplit_once(": ") {
            Some((_, value)) => Ok(value.parse()?),
            None => Ok(0),
        }
    }

    /// Waits until a metric has this value.
    pub async fn wait(&self, name: &str, value: i64) -> Result<()> {
        let mut last = None;
        let waited = until_some("a metric", async || {
            last = self.stat(name).await.ok();
            (last == Some(value)).then_some(())
        })
        .await;
        waited.with_context(|| format!("{name} of {} is {last:?}, not {value}", self.host))
    }

    /// Waits until the filter has seen the end of all its requests.
    pub async fn wait_done(&self) -> Result<()> {
        self.wait("in_flight", 0).await
    }

    /// Errors seen, and the gauge: 0 available, 1 ejected, 2 in the ramp.
    pub async fn errors_and_ejected(&self) -> Result<(i64, i64)> {
        Ok((self.stat("errors").await?, self.stat("ejected").await?))
    }

    /// The durations that home was ejected for, in milliseconds, by the log.
    pub fn ejected_for(&self) -> Vec<u64> {
        let begin = format!("service {}: home is ejected for ", self.host);
        let log = self.world.envoy.log();
        let lines = log.lines().filter_map(|line| line.split_once(&begin));
        lines
            .filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .collect()
    }

    /// Sends requests until one is home's probe and is held there, under the key `probe`. The peer answers what it gets.
    pub async fn hold_probe(&self, headers: &[(&str, &str)]) -> Result<Held> {
        let mut all = vec![("x-hold", "probe")];
        all.extend(headers);
        self.world.peer.release_all();
        let home = &self.world.home;
        for _ in 0..10_000 {
            let before = home.count();
            let mut client = self.world.client(false).await?;
            let answer = client.start(client::get(&self.host, &all)?);
            let task = tokio::spawn(async move {
                let _client = client;
                client::read(answer.await?).await
            });
            until("an answer of the peer, or a probe", || {
                task.is_finished() || home.count() > before
            })
            .await?;
            if home.count() > before {
                return Ok(task);
            }
            task.await??;
        }
        bail!("there was no probe")
    }
}

/// A request that is on its way.
pub type Held = tokio::task::JoinHandle<Result<Answer>>;

/// An answer of which the head is there. Dropped, it is aborted.
pub struct Begun {
    pub rest: Pin<Box<dyn Future<Output = Result<Answer>> + Send>>,
    _client: Client,
}

/// A connection on each of the workers, in their order.
pub async fn on_each_worker(world: &World, workers: usize) -> Result<Vec<Client>> {
    let mut found: Vec<Option<Client>> = (0..workers).map(|_| None).collect();
    while found.iter().any(Option::is_none) {
        let before = accepted(world).await?;
        let client = world.client(false).await?;
        let worker = loop {
            let now = accepted(world).await?;
            if let Some(worker) = (0..now.len()).find(|n| now.get(*n) != before.get(*n)) {
                break worker;
            }
        };
        found[worker] = Some(client);
    }
    Ok(found.into_iter().flatten().collect())
}

/// Connections accepted by each worker.
async fn accepted(world: &World) -> Result<Vec<i64>> {
    let path = "/stats?filter=^listener.*worker_.*downstream_cx_total$";
    let text = world.envoy.admin_get(path).await?;
    let values = text.lines().filter_map(|line| line.rsplit_once(": "));
    values.map(|(_, value)| Ok(value.parse()?)).collect()
}
