//! A hot restart: the new Envoy's counts include the old one's, its repair takes none of the old one's requests for dead
//! ones, and when the old one ends what it held is gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::wait::{until, until_some_by};
use envoy_test::world::{HOME, HOST, PEER, PLUGIN, metric, plugin_config, service_metric};
use envoy_test::{Answer, Client, Envoy, EnvoyOptions, World};
use tokio::task::JoinHandle;

const WORKERS: u32 = 2;
const LIMIT: u32 = 8;
/// Ticks of a VM, more than any that watches another needs to find it dead.
const LONG: i64 = 20;

/// Home and the peer. Its own proxy is only a pattern for those that restart.
async fn world() -> Result<World> {
    let world = World::builder().filter(plugin_config(LIMIT));
    world.start().await
}

/// What Envoys leave in the system's shared memory, which the next one may need. Dropped, it is gone.
struct Shared<'a>(&'a World);

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let base_id = fs::read_to_string(self.0.envoy.dir().join("base-id"));
        // Envoy appends a digit. Where this fails a hundred bytes stay.
        let name = format!("envoy_shared_memory_{}0", base_id.unwrap_or_default());
        let _ = fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

/// The Envoy that takes over from `parent`, on the same port, or the first one.
async fn epoch(
    world: &World,
    epoch: u32,
    parent: Option<&Envoy>,
    parent_lives: u32,
) -> Result<Envoy> {
    let bootstrap = fs::read_to_string(world.envoy.dir().join("envoy.yaml"))?;
    // A child gets its parent's gauges when it flushes its own.
    let mut bootstrap = format!("stats_flush_interval: 0.2s\n{bootstrap}");
    let mut args = vec!["--restart-epoch".to_owned(), epoch.to_string()];
    // What of the system two Envoys share is known by this number, and Envoy finds a free one.
    let base_id = world.envoy.dir().join("base-id");
    if let Some(parent) = parent {
        let port = parent.listener("outbound").port();
        bootstrap = bootstrap.replacen("port_value: 0", &format!("port_value: {port}"), 1);
        args.extend(["--base-id".to_owned(), fs::read_to_string(base_id)?]);
    } else {
        let path = base_id.display().to_string();
        args.extend(["--use-dynamic-base-id", "--base-id-path", &path].map(str::to_owned));
    }
    args.extend(["--drain-time-s".to_owned(), "600".to_owned()]);
    args.extend([
        "--parent-shutdown-time-s".to_owned(),
        parent_lives.to_string(),
    ]);
    let options = EnvoyOptions {
        concurrency: WORKERS,
        name: format!("epoch-{epoch}"),
        args,
        ..EnvoyOptions::default()
    };
    let envoy = Envoy::start(bootstrap, options).await?;
    if let Some(parent) = parent {
        let [is, was] = [&envoy, parent].map(|envoy| envoy.listener("outbound"));
        ensure!(is == was, "the child listens on {is}, its parent on {was}");
    }
    Ok(envoy)
}

/// The number in the names of the shares and beats of this one, none of which it has from another: the greatest.
async fn process(envoy: &Envoy) -> Result<u64> {
    let stats = envoy.stats_matching(";.;beats").await?;
    let workers = stats.keys().filter_map(|name| name.split_once("worker=.="));
    let processes = workers.filter_map(|(_, worker)| worker.split_once('-')?.0.parse().ok());
    processes.max().context("no VM has ticked")
}

/// Requests that home holds, by one proxy, each on a connection of its own.
struct Held(Vec<(String, JoinHandle<Result<Answer>>)>);

impl Held {
    async fn new(world: &World, envoy: &Envoy, key: &str, n: usize) -> Result<Held> {
        let (before, mut held) = (world.home.in_flight(), Vec::new());
        for n in 0..n {
            let key = format!("{key}-{n}");
            let (mut client, hold) = (
                Client::http1(envoy.listener("outbound")).await?,
                key.clone(),
            );
            let answer = tokio::spawn(async move { client.get(HOST, &[("x-hold", &hold)]).await });
            held.push((key, answer));
        }
        world.home.wait_in_flight(before + n).await?;
        Ok(Held(held))
    }

    async fn release(&mut self, world: &World, n: usize) -> Result<()> {
        for (key, answer) in self.0.drain(..n) {
            world.home.release(&key);
            let answer = answer.await?.with_context(|| key.clone())?;
            ensure!((answer.status, answer.served_by()) == (200, HOME), "{key}");
        }
        Ok(())
    }

    /// None is answered any more.
    async fn cut_off(self) -> Result<()> {
        for (key, answer) in self.0 {
            ensure!(answer.await?.is_err(), "{key}");
        }
        Ok(())
    }
}

async fn wait_counted(envoy: &Envoy, n: i64) -> Result<()> {
    let name = service_metric(HOST, "in_flight");
    envoy.wait_stat(&name, |count| count == n).await?;
    Ok(())
}

async fn served_by(envoy: &Envoy, by: &str, count: i64) -> Result<()> {
    for _ in 0..8 {
        let mut client = Client::http1(envoy.listener("outbound")).await?;
        let answer = client.get(HOST, &[]).await?;
        ensure!(
            (answer.status, answer.served_by()) == (200, by),
            "{answer:?}"
        );
        wait_counted(envoy, count).await?;
    }
    Ok(())
}

/// Waits until each of its own VMs has ticked so often that it would have found any other dead.
async fn watched(envoy: &Envoy) -> Result<()> {
    let own = format!("worker=.={}-", process(envoy).await?);
    let before = envoy.stats_matching(&own).await?;
    let what = "every VM has watched the others for long enough";
    // Seconds by itself.
    until_some_by(what, Duration::from_secs(60), async || {
        let now = envoy.stats_matching(&own).await.ok()?;
        let beats = now.iter().filter(|(name, _)| name.ends_with(";.;beats"));
        let long =
            beats.filter(|(name, beat)| *beat - before.get(*name).copied().unwrap_or(0) > LONG);
        (long.count() > WORKERS as usize).then_some(())
    })
    .await
}

/// The repair has found nothing to do.
fn nobody_died(envoy: &Envoy) {
    for text in ["a VM of this proxy is dead", "it is counted again"] {
        assert!(!envoy.log().contains(text), "{text}");
    }
}

/// What is left when all that could be counted is over.
async fn at_rest(envoy: &Envoy) -> Result<()> {
    wait_counted(envoy, 0).await?;
    for name in envoy.stats_matching(";.;requests_share").await?.into_keys() {
        envoy.wait_stat(&name, |held| held == 0).await?;
    }
    let plugin = |name| metric(&[("plugin", PLUGIN), ("role", "client")], name);
    let workers = i64::from(WORKERS);
    envoy
        .wait_stat(&plugin("configured"), |n| n == workers + 1)
        .await?;
    envoy
        .wait_stat(&plugin("workers"), |n| n == workers)
        .await?;
    Ok(())
}

/// The third makes the second end the first, without a clock; so there is time to look for as long as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_over_the_old_envoy_and_the_new_one_and_no_request_is_taken_for_dead()
-> Result<()> {
    let world = world().await?;
    let _shared = Shared(&world);
    let mut first = epoch(&world, 0, None, 600).await?;
    let mut by_first = Held::new(&world, &first, "first", 3).await?;
    wait_counted(&first, 3).await?;

    let second = epoch(&world, 1, Some(&first), 600).await?;
    wait_counted(&second, 3).await?;
    let mut by_second = Held::new(&world, &second, "second", 2).await?;
    watched(&second).await?;
    wait_counted(&second, 5).await?;
    nobody_died(&first);
    nobody_died(&second);
    // Three more, and home is full.
    let mut more = Held::new(&world, &second, "more", 3).await?;
    wait_counted(&second, 8).await?;
    served_by(&second, PEER, 8).await?;
    by_first.release(&world, 1).await?;
    wait_counted(&second, 7).await?;
    served_by(&second, HOME, 7).await?;
    more.release(&world, 3).await?;
    wait_counted(&second, 4).await?;

    let third = epoch(&world, 2, Some(&second), 600).await?;
    until("the first one ends", || first.check_running().is_err()).await?;
    by_first.cut_off().await?;
    wait_counted(&third, 2).await?;
    watched(&third).await?;
    wait_counted(&third, 2).await?;
    nobody_died(&second);
    nobody_died(&third);
    by_second.release(&world, 2).await?;
    wait_counted(&third, 0).await
}

/// As it is every day: the parent ends when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_old_envoy_ends_the_count_is_the_new_ones() -> Result<()> {
    let world = world().await?;
    let _shared = Shared(&world);
    let mut parent = epoch(&world, 0, None, 10).await?;
    let by_parent = Held::new(&world, &parent, "parent", 3).await?;
    let child = epoch(&world, 1, Some(&parent), 10).await?;
    let by_child = Held::new(&world, &child, "child", 4).await?;
    wait_counted(&child, 7).await?;
    until("the parent ends", || parent.check_running().is_err()).await?;
    by_parent.cut_off().await?;
    wait_counted(&child, 4).await?;
    let more = Held::new(&world, &child, "more", 4).await?;
    served_by(&child, PEER, 8).await?;
    nobody_died(&child);
    for mut held in [by_child, more] {
        held.release(&world, 4).await?;
    }
    at_rest(&child).await
}
