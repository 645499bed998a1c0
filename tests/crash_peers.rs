//! A crash with requests at several peers: the count of each is right again, its limit holds afterwards, and its ejection stays
//! or heals.
//!
//! The module is a build of its own that traps where a request asks for it (`src/trap.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use envoy_test::client;
use envoy_test::load::{LoadOptions, Until, closed_loop};
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PEER, PLUGIN, Upstream, metric, service_metric};
use envoy_test::{Answer, Client, World, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

#[path = "many_peers/common.rs"]
#[allow(dead_code)]
mod common;

use common::*;

const DEAD: &str = "a VM of this proxy is dead";
/// The limits of home and of [`NAMES`], which are asked in this order.
const LIMITS: [usize; 4] = [2, 4, 3, 5];
/// What they hold when a VM traps: there is a place for the request that says so.
const HELD: [usize; 4] = [2, 4, 3, 4];

/// Peers with these limits, of which no errors of a test eject any.
fn limited() -> Vec<Value> {
    let peers = NAMES.iter().zip(&LIMITS[1..]).zip(0..);
    let peers = peers.map(|((name, most), priority)| {
        let mut policy = after(1000);
        policy["connectionPool"] = json!({"http": {"http2MaxRequests": most}});
        peer(name, json!({"priority": priority, "trafficPolicy": policy}))
    });
    peers.collect()
}

async fn world(config: Value, workers: u32) -> Result<World> {
    let module = tokio::task::spawn_blocking(xtask::filter::ensure_with_traps).await??;
    builder(config)
        .module(&module)
        .failure_policy("FAIL_RELOAD")
        .workers(workers)
        // So that there are trailers.
        .upstream(Upstream::Http2)
        .log_level("info,wasm:debug")
        .start()
        .await
}

fn dead(world: &World) -> usize {
    world.envoy.log().matches(DEAD).count()
}

/// By the names of home and of the peers: the count, and the shares of it, by the VM.
struct Counts(BTreeMap<String, (i64, BTreeMap<String, i64>)>);

impl Counts {
    async fn of(world: &World) -> Result<Counts> {
        let stats = world.envoy.stats_matching("requests_share").await?;
        let mut counts = BTreeMap::new();
        for name in [HOME].iter().chain(&NAMES) {
            let end = match *name {
                HOME => ";.;requests_share".to_owned(),
                name => format!("peer=.={name};.;peer_requests_share"),
            };
            let shares = stats.iter().filter(|(share, _)| share.ends_with(&end));
            let shares = shares.map(|(share, n)| (share.clone(), *n)).collect();
            let count = match *name {
                HOME => world.envoy.stat(&service_metric(HOST, "in_flight")).await?,
                name => Some(stat(world, name, "peer_in_flight").await?),
            };
            counts.insert((*name).to_owned(), (count.unwrap_or(0), shares));
        }
        Ok(Counts(counts))
    }

    fn counted(&self, name: &str) -> i64 {
        self.0.get(name).map_or(0, |(count, _)| *count)
    }

    /// What the VMs that live now have lost since then.
    fn lost_until(&self, now: &Counts, name: &str) -> i64 {
        let (Some((_, before)), Some((_, after))) = (self.0.get(name), now.0.get(name)) else {
            return 0;
        };
        let lost = before.iter().map(|(vm, n)| n - after.get(vm).unwrap_or(&0));
        lost.sum()
    }
}

/// Requests that fill every destination but the last, each on a connection of its own, so that all workers have some.
async fn fill(world: &World) -> Result<Vec<JoinHandle<Result<Answer>>>> {
    let mut held = Vec::new();
    for _ in 0..HELD.iter().sum() {
        held.push(hold(world, "crash").await?);
    }
    let (home, peers) = in_flight(world);
    assert_eq!([vec![home], peers].concat(), HELD);
    Ok(held)
}

/// One VM traps in `callback`. What is counted at each destination is what of it can still be answered.
async fn one_trap(world: &World, callback: &str) -> Result<()> {
    let held = fill(world).await?;
    let (before, deaths) = (Counts::of(world).await?, dead(world));
    for (name, n) in [HOME].iter().chain(&NAMES).zip(HELD) {
        assert_eq!(before.counted(name), n as i64, "{callback}: {name}");
    }
    let mut client = Client::http1(world.addr()).await?;
    let _ = client
        .get(HOST, &[("x-trap", callback), ("x-trailers", "1")])
        .await;
    until("the dead VM is noticed", || dead(world) > deaths).await?;
    let after = Counts::of(world).await?;
    for echo in world.peers() {
        echo.release("crash");
    }
    world.home.release("crash");
    let mut answered: BTreeMap<String, i64> = BTreeMap::new();
    for answer in held {
        match answer.await? {
            Ok(answer) if answer.status == 200 => {
                *answered.entry(answer.served_by().to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
    for (name, n) in [HOME].iter().chain(&NAMES).zip(HELD) {
        let (left, lost) = (after.counted(name), before.lost_until(&after, name));
        ensure!(
            left + lost == n as i64,
            "{callback}: {left} left and {lost} lost of {n} at {name}"
        );
        let well = answered.get(*name).copied().unwrap_or(0);
        ensure!(
            well == left,
            "{callback}: {name} answered {well}, and {left} were counted"
        );
    }
    wait_nothing_counted(world).await
}

/// Waits until all workers have a VM again, which comes with the next request of each.
async fn all_live(world: &World, workers: u32) -> Result<()> {
    let live = metric(&[("plugin", PLUGIN), ("role", "client")], "workers");
    until_some("all workers have their filter again", async || {
        for _ in 0..4 * workers {
            let _ = world.get(&[]).await;
        }
        let live = world.envoy.stat(&live).await.ok()??;
        (live == i64::from(workers)).then_some(())
    })
    .await
}

/// Of a load of more clients than all limits together, each destination gets as many at once as its limit, and never more.
async fn limits_hold(world: &World) -> Result<()> {
    clear(world);
    let load = LoadOptions::new(world.url(), 32, Until::Requests(2000)).header("x-delay-ms", "5");
    let outcomes = closed_loop(load).await?;
    assert!(outcomes.iter().all(|o| o.status == 200 || o.status == 503));
    wait_nothing_counted(world).await?;
    let all = std::iter::once(&world.home).chain(world.peers());
    for (echo, limit) in all.zip(LIMITS) {
        assert_eq!(echo.max_in_flight(), limit, "at {}", echo.name());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_with_requests_at_three_peers_leaks_nothing_and_the_limits_hold() -> Result<()> {
    let case = async |workers: u32| -> Result<()> {
        let mut config = config(LIMITS[0] as u32, &limited());
        config["services"][0]["whenFull"] = "reject".into();
        config["services"][0]["trafficPolicy"]["outlierDetection"] =
            json!({"consecutive5xxErrors": 1000});
        let world = world(config, workers).await?;
        for callback in ["request-headers", "tick", "response-headers", "delete"] {
            // The request that says so must come to this callback.
            one_trap(&world, callback).await?;
            all_live(&world, workers).await?;
            limits_hold(&world).await?;
        }
        Ok(())
    };
    tokio::try_join!(case(1), case(2)).map(|_| ())
}

/// Ejections of two peers: one has just begun, and the probe of the other is on its way in the VM that dies.
#[tokio::test(flavor = "multi_thread")]
async fn ejections_of_peers_survive_a_trap_and_a_probe_of_the_dead_vm_is_let_go() -> Result<()> {
    let mut peers: Vec<Value> = NAMES
        .iter()
        .zip(0..)
        .map(|(name, priority)| {
            peer(
                name,
                json!({"priority": priority, "trafficPolicy": after(1)}),
            )
        })
        .collect();
    peers[0]["trafficPolicy"]["outlierDetection"] =
        json!({"consecutive5xxErrors": 1, "interval": "1ms", "baseEjectionTime": "200ms"});
    let world = world(evacuating(&peers), 2).await?;
    for name in [PEER, "eks"] {
        let answer = world.get(&[("x-status", "503")]).await?;
        assert_eq!(
            answer.header("x-peer-spillover"),
            format!("{name}; reason=evacuate")
        );
        wait(&world, name, "peer_ejected", 1).await?;
    }
    world.peer.clear();
    let mut client = Client::http2(world.addr()).await?;
    let probe = probe(&world, &mut client).await?;
    assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 1);
    let _ = client.get(HOST, &[("x-trap", "delete")]).await;
    until("the dead VM is noticed", || dead(&world) == 1).await?;
    assert_eq!(stat(&world, PEER, "peer_in_flight").await?, 0);
    assert_eq!(stat(&world, "eks", "peer_ejected").await?, 1);
    assert_eq!(world.peer.count(), 1, "one probe at a time");
    world.peer.release_all();
    let _ = probe.await?;
    // Long before a probe without an answer is given up for its age, which is half a minute.
    all_live(&world, 2).await?;
    until_some("the peer is probed again", async || {
        let answer = world.get(&[]).await.ok()?;
        (answer.served_by() == PEER).then_some(())
    })
    .await?;
    wait(&world, PEER, "peer_ejected", 0).await?;
    for _ in 0..20 {
        assert_eq!(said(&world, &[]).await?, "gke; reason=evacuate");
    }
    // The other one is ejected still.
    assert_eq!(stat(&world, "eks", "peer_ejected").await?, 1);
    assert_eq!((at(&world, "eks")?.count(), world.home.count()), (1, 0));
    wait_nothing_counted(&world).await
}

/// Sends requests on this connection until one is the probe of [`PEER`], which is held there.
async fn probe(world: &World, client: &mut Client) -> Result<JoinHandle<Result<Answer>>> {
    at(world, "aks")?.release_all();
    for _ in 0..10_000 {
        let answer = client.start(client::get(HOST, &[("x-hold", "probe")])?);
        let task = tokio::spawn(async move { client::read(answer.await?).await });
        until("an answer of another peer, or a probe", || {
            task.is_finished() || world.peer.count() > 0
        })
        .await?;
        if world.peer.count() > 0 {
            return Ok(task);
        }
        task.await??;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("there was no probe")
}
