//! A crash leaks nothing: after a trap in any callback, with requests in flight, the count is right again wherever the filter
//! still runs, and every other worker loses nothing. And the repair takes no live request for a dead one.
//!
//! The module is a build of its own that traps where a request asks for it (`src/trap.rs`).

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PLUGIN, Upstream, metric, plugin_config};
use envoy_test::{Answer, Client, World};
use tokio::task::JoinHandle;

const DEAD: &str = "a VM of this proxy is dead";
const COUNTED_AGAIN: &str = "it is counted again";
const ALL_AGAIN: &str = "as many VMs of this proxy live again";

/// Lines of level warning: one of each kind a minute.
fn warned(world: &World, what: &str) -> usize {
    let log = world.envoy.log();
    log.lines()
        .filter(|line| line.contains("[warning]") && line.contains(what))
        .count()
}

async fn world(workers: u32, failure_policy: &str) -> Result<World> {
    let module = tokio::task::spawn_blocking(xtask::filter::ensure_with_traps).await??;
    let mut config = plugin_config(100);
    // So that there is something to look at in every callback: a trap in one that has nothing to do is found after a minute.
    config["services"][0]["trafficPolicy"]["outlierDetection"] =
        serde_json::json!({"consecutive5xxErrors": 1000});
    World::builder()
        .filter(config)
        .module(&module)
        .failure_policy(failure_policy)
        .workers(workers)
        // So that there are trailers.
        .upstream(Upstream::Http2)
        // Of what is said more than once a minute.
        .log_level("info,wasm:debug")
        .start()
        .await
}

/// Requests that home holds, each on a connection of its own, so that all workers have some.
struct Held(Vec<JoinHandle<Result<Answer>>>);

impl Held {
    async fn new(world: &World, n: usize) -> Result<Held> {
        let before = world.home.in_flight();
        let mut held = Vec::new();
        for _ in 0..n {
            let mut client = Client::http1(world.addr()).await?;
            held.push(tokio::spawn(async move {
                client.get(HOST, &[("x-hold", "crash")]).await
            }));
        }
        world.home.wait_in_flight(before + n).await?;
        Ok(Held(held))
    }

    /// Lets them go: how many were answered as if nothing had happened.
    async fn release(self, world: &World) -> Result<usize> {
        world.home.release("crash");
        let mut well = 0;
        for answer in self.0 {
            well += usize::from(answer.await?.is_ok_and(|answer| answer.status == 200));
        }
        world.home.wait_in_flight(0).await?;
        world.home.clear();
        Ok(well)
    }
}

/// What each VM holds of the count.
async fn shares(world: &World) -> Result<BTreeMap<String, i64>> {
    let mut shares = world.envoy.stats_matching(";.;requests_share").await?;
    shares.retain(|name, _| name.ends_with(";.;requests_share"));
    Ok(shares)
}

fn said(world: &World, what: &str) -> usize {
    world.envoy.log().matches(what).count()
}

/// Has one worker's VM trap in `callback`. What becomes of the requests that do it is not looked at.
async fn trap(world: &World, callback: &str) -> Result<()> {
    let mut client = Client::http1(world.addr()).await?;
    let _ = client
        .get(HOST, &[("x-trap", callback), ("x-trailers", "1")])
        .await;
    if callback == "context" {
        let _ = client.get(HOST, &[]).await;
    }
    Ok(())
}

/// Waits until the death of `n` more VMs than `before` is noticed, and says what is left in flight then. All that a VM
/// counted is taken off in one go, so when the last is said the count is right.
async fn noticed(world: &World, before: usize, n: usize) -> Result<i64> {
    until_some("the dead VMs are noticed", async || {
        (said(world, DEAD) >= before + n).then_some(())
    })
    .await?;
    world.in_flight().await
}

fn workers_metric() -> String {
    metric(&[("plugin", PLUGIN), ("role", "client")], "workers")
}

/// Requests are held, one VM traps, and what is left over is what is still there.
async fn one_trap(world: &World, callback: &str) -> Result<()> {
    let n = 12;
    let (dead, held) = (said(world, DEAD), Held::new(world, n).await?);
    world.wait_count(n as i64).await?;
    let before = shares(world).await?;
    trap(world, callback).await?;
    let left = noticed(world, dead, 1).await?;
    let after = shares(world).await?;
    let lost: i64 = before
        .iter()
        .map(|(vm, held)| held - after.get(vm).unwrap_or(&0))
        .sum();
    ensure!(
        left + lost == n as i64,
        "{callback}: {left} left, {lost} lost of {n}"
    );
    let well = held.release(world).await?;
    ensure!(
        well as i64 == left,
        "{callback}: {well} of {n} were answered, {left} counted: {before:?} {after:?}"
    );
    world.wait_count(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_vm_comes_back_a_trap_in_any_callback_leaks_nothing_again_and_again() -> Result<()>
{
    let case = async |workers: u32| -> Result<()> {
        let world = world(workers, "FAIL_RELOAD").await?;
        for callback in [
            "request-headers",
            "response-headers",
            "response-trailers",
            "delete",
            "tick",
            "context",
        ] {
            let outcome = one_trap(&world, callback).await;
            outcome.with_context(|| format!("{workers} workers, {callback}"))?;
        }
        // The VM comes back with the next request of its worker.
        until_some("all workers have their filter again", async || {
            for _ in 0..4 * workers {
                let _ = world.get(&[]).await;
            }
            let live = world.envoy.stat(&workers_metric()).await.ok()??;
            (live == i64::from(workers)).then_some(())
        })
        .await?;
        // Of six deaths the log has one line, and one that it is over.
        until_some("it is said that all live again", async || {
            (said(&world, ALL_AGAIN) > 0).then_some(())
        })
        .await?;
        assert_eq!(warned(&world, DEAD), 1);
        assert_eq!(warned(&world, ALL_AGAIN), 1);
        Ok(())
    };
    tokio::try_join!(case(1), case(2), case(4)).map(|_| ())
}

/// Requests that come all the time, on so many connections, until it is dropped.
struct Load(Vec<JoinHandle<()>>);

impl Load {
    fn new(world: &World, n: usize) -> Load {
        let addr = world.addr();
        let requests = move || async move {
            loop {
                let Ok(mut client) = Client::http1(addr).await else {
                    continue;
                };
                while client.get(HOST, &[]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        Load((0..n).map(|_| tokio::spawn(requests())).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Another VM comes at once, long before the death is noticed: it is in the place of the dead one all the same.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_too_it_is_said_that_all_live_again() -> Result<()> {
    let case = async |workers: u32, callback: &str| -> Result<()> {
        let world = world(workers, "FAIL_RELOAD").await?;
        // A VM younger than a second does not come back with the next request.
        world.wait_ticks(10).await?;
        let _load = Load::new(&world, 4 * workers as usize);
        trap(&world, callback).await?;
        noticed(&world, 0, 1).await?;
        until_some("it is said that all live again", async || {
            (said(&world, ALL_AGAIN) == 1).then_some(())
        })
        .await?;
        assert_eq!((warned(&world, DEAD), said(&world, DEAD)), (1, 1));
        Ok(())
    };
    let cases = tokio::try_join!(
        case(1, "request-headers"),
        case(1, "delete"),
        case(2, "response-headers"),
        case(2, "request-headers"),
    );
    cases.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_vm_does_not_come_back_the_others_go_on_and_it_is_seen() -> Result<()> {
    let case = async |workers: u32, callback: &str| -> Result<()> {
        for policy in ["FAIL_OPEN", "FAIL_CLOSED"] {
            let world = world(workers, policy).await?;
            let live = workers_metric();
            let all = i64::from(workers);
            world.envoy.wait_stat(&live, |n| n == all).await?;
            one_trap(&world, callback).await?;
            world.envoy.wait_stat(&live, |n| n == all - 1).await?;
            assert_eq!((warned(&world, DEAD), said(&world, ALL_AGAIN)), (1, 0));
            // Why it died is in the log: the message of the panic.
            assert_eq!(said(&world, "trapped on demand"), 1, "{policy}");
        }
        Ok(())
    };
    let cases = tokio::try_join!(
        case(1, "delete"),
        case(2, "request-headers"),
        case(4, "response-headers")
    );
    cases.map(|_| ())
}

/// Every worker at once: the main thread's VM is left, and mends.
#[tokio::test(flavor = "multi_thread")]
async fn traps_in_all_workers_at_once_leave_a_count_of_0() -> Result<()> {
    for policy in ["FAIL_OPEN", "FAIL_RELOAD"] {
        let world = world(4, policy).await?;
        let held = Held::new(&world, 16).await?;
        // Connections go to workers by chance: of so many each worker has one.
        for _ in 0..40 {
            trap(&world, "tick").await?;
        }
        world.wait_count(0).await?;
        assert_eq!(held.release(&world).await?, 0, "{policy}");
        world.wait_count(0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_threads_vm_may_die_too() -> Result<()> {
    let world = world(2, "FAIL_OPEN").await?;
    let held = Held::new(&world, 8).await?;
    // A worker that has served none ticks like the main thread, and counts for it here.
    trap(&world, "other-tick").await?;
    let left = noticed(&world, 0, 1).await?;
    assert_eq!(left, 8, "it held nothing");
    assert_eq!(held.release(&world).await?, 8);
    world.wait_count(0).await
}

/// A worker that stands still is alive: for a moment nobody takes its requests for dead ones, and after a long while, when
/// they had to be, they are counted again as soon as it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_workers_requests_are_counted() -> Result<()> {
    for (millis, declared_dead) in [("1500", false), ("4000", true)] {
        let world = world(2, "FAIL_OPEN").await?;
        let held = Held::new(&world, 12).await?;
        let mut client = Client::http1(world.addr()).await?;
        let stalled =
            tokio::spawn(async move { client.get(HOST, &[("x-stall-ms", millis)]).await });
        assert_eq!(stalled.await??.status, 200);
        if declared_dead {
            until_some("it is counted again", async || {
                (said(&world, COUNTED_AGAIN) == 1).then_some(())
            })
            .await?;
            // It came once more, as often as it was taken for dead.
            until_some("it is said that all live again", async || {
                (said(&world, ALL_AGAIN) == 1).then_some(())
            })
            .await?;
        }
        world.wait_count(12).await?;
        assert_eq!(said(&world, DEAD), usize::from(declared_dead));
        assert_eq!(held.release(&world).await?, 12);
        world.wait_count(0).await?;
    }
    Ok(())
}

/// The whole process stands still for ten seconds, longer than anything that waits for a beat.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_buries_nobody() -> Result<()> {
    let world = world(4, "FAIL_OPEN").await?;
    let held = Held::new(&world, 12).await?;
    let signal = |name: &str| -> Result<()> {
        let ended = Command::new("kill")
            .args([name, &world.envoy.pid().to_string()])
            .status()?;
        ensure!(ended.success(), "kill {name}: {ended}");
        Ok(())
    };
    signal("-STOP")?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    signal("-CONT")?;
    // Each has watched the others for long enough.
    world.wait_ticks(16).await?;
    assert_eq!((said(&world, DEAD), world.in_flight().await?), (0, 12));
    assert_eq!(held.release(&world).await?, 12);
    world.wait_count(0).await
}

/// A VM dies, and before that is noticed the others change to another mode: they count the old one no more, and find it in
/// what the dead VM left.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_dead_vm_counted_is_taken_off_too() -> Result<()> {
    let world = world(2, "FAIL_OPEN").await?;
    let info = |mode: &str| {
        let labels = [
            ("plugin", PLUGIN),
            ("role", "client"),
            ("version", env!("CARGO_PKG_VERSION")),
            ("mode", mode),
            ("cluster", HOME),
        ];
        metric(&labels, "info")
    };
    world.envoy.wait_stat(&info("enforce"), |n| n == 3).await?;
    trap(&world, "request-headers").await?;
    let mut config = plugin_config(100);
    config["mode"] = "observe".into();
    world.set_filter_config(config).await?;
    world.envoy.wait_stat(&info("observe"), |n| n == 3).await?;
    noticed(&world, 0, 1).await?;
    world.envoy.wait_stat(&info("enforce"), |n| n == 0).await?;
    Ok(())
}
