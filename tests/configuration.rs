//! A bad configuration: one line says where and what to do, and no request is lost, on a cold proxy or a running one.

#[path = "configuration/bad.rs"]
mod bad;
#[path = "configuration/told.rs"]
mod told;

use anyhow::Result;
use bad::{Bad, bad, bad_ones, with};
use envoy_test::World;
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PEER, PLUGIN, Update, metric, plugin_config};
use serde_json::json;

const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";
const DEBUG: &str = "x-peer-spillover";

/// How many VMs are given a configuration at the start: Envoy's first try of it and its own on the main thread, and one
/// on each worker. The proxy has one line of it, whatever the traffic.
fn vms(workers: usize) -> usize {
    2 + workers
}

/// The filter's lines about refused configurations.
fn rejections(world: &World) -> Vec<String> {
    lines(world, "peer-spillover: configuration rejected, ")
}

fn lines(world: &World, text: &str) -> Vec<String> {
    let log = world.envoy.log();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

async fn rejected(world: &World) -> Result<i64> {
    let name = metric(&[("plugin", PLUGIN)], "config_rejected");
    Ok(world.envoy.stat(&name).await?.unwrap_or(0))
}

/// Since `seen` of them, the filter has written of this configuration, each time the same and in one line.
fn names_path_and_fix(world: &World, seen: usize, bad: &Bad, then: &str) {
    let lines = rejections(world);
    assert!(lines.len() > seen, "{}: nothing is said", bad.kind);
    for line in &lines[seen..] {
        for part in bad.says.iter().chain([&then]) {
            assert!(line.contains(part), "{}: no {part:?} in {line}", bad.kind);
        }
        assert!(line.len() < 1000, "{}: a long line: {line}", bad.kind);
        let hidden = line.chars().find(|c| config::line::is_hidden(*c));
        assert_eq!(hidden, None, "{}: {line}", bad.kind);
    }
}

/// With one request held at home, others go home too, and no header of theirs or of their answers is touched.
async fn passes_untouched(world: &World, kind: &str) -> Result<()> {
    let held = hold(world).await?;
    for _ in 0..4 {
        let answer = world.get(&[(MARKER, "mars"), (TO, "venus")]).await?;
        assert_eq!((answer.status, answer.served_by()), (200, HOME), "{kind}");
        assert_eq!(answer.header(DEBUG), "", "{kind}");
    }
    for request in &world.home.requests()[1..] {
        for (name, value) in [(MARKER, "mars"), (TO, "venus"), ("host", HOST)] {
            let mut same = request.headers.iter().filter(|(n, _)| n == name);
            let found = same.next().map(|(_, v)| v.as_str());
            assert_eq!(found, Some(value), "{kind}: {name}");
        }
    }
    release(world, held).await
}

/// A request held at home makes the next ones leave, and they come back when it has ended.
async fn spills(world: &World, kind: &str) -> Result<()> {
    let held = hold(world).await?;
    for _ in 0..4 {
        let answer = world.get(&[]).await?;
        assert_eq!((answer.status, answer.served_by()), (200, PEER), "{kind}");
    }
    release(world, held).await?;
    world.wait_idle().await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME, "{kind}");
    world.wait_idle().await
}

type Held = tokio::task::JoinHandle<Result<envoy_test::Answer>>;

/// What home received before, and that this key was released before, is forgotten.
async fn hold(world: &World) -> Result<Held> {
    world.home.clear();
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
    world.home.wait_in_flight(1).await?;
    Ok(held)
}

async fn release(world: &World, held: Held) -> Result<()> {
    world.home.release("h");
    let answer = held.await??;
    assert_eq!((answer.status, answer.served_by()), (200, HOME));
    world.home.wait_in_flight(0).await
}

/// A pod that starts with a bad configuration serves all the same, and the next good one is taken without a restart.
#[tokio::test]
async fn a_cold_proxy_with_a_bad_one_serves_untouched_and_takes_the_next_good_one() -> Result<()> {
    for bad in bad_ones() {
        let world = World::builder()
            .filter(bad.text.as_str())
            .workers(2)
            .start()
            .await?;
        passes_untouched(&world, bad.kind).await?;
        names_path_and_fix(&world, 0, &bad, "every request passes untouched");
        let given = vms(2);
        // A worker that has served nothing yet may still be at it.
        until_some("each VM has refused it", async || {
            (rejected(&world).await.ok()? >= given as i64).then_some(())
        })
        .await?;
        assert_eq!(rejected(&world).await?, given as i64, "{}", bad.kind);
        assert_eq!(rejections(&world).len(), 1, "{}", bad.kind);

        let good = world.set_filter_config(plugin_config(1)).await?;
        assert_eq!(good, Update::Accepted, "after {}", bad.kind);
        spills(&world, bad.kind).await?;
    }
    Ok(())
}

/// What runs goes on, in the place that Envoy made for the other, so that Envoy never remembers a refusal.
#[tokio::test]
async fn a_running_proxy_goes_on_with_what_it_has() -> Result<()> {
    let world = World::builder().workers(2).start().await?;
    spills(&world, "before").await?;
    for bad in bad_ones() {
        let (seen, counted) = (rejections(&world).len(), rejected(&world).await?);
        let update = world.set_filter_config(bad.text.as_str()).await?;
        assert_eq!(update, Update::Accepted, "{}", bad.kind);
        names_path_and_fix(
            &world,
            seen,
            &bad,
            "the configuration before stays in force",
        );
        assert!(rejected(&world).await? > counted, "{}", bad.kind);
        spills(&world, bad.kind).await?;
    }
    // What is refused does no lasting harm: a good one is taken, with its own limit.
    let update = world.set_filter_config(plugin_config(2)).await?;
    assert_eq!(update, Update::Accepted);
    let held = hold(&world).await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    release(&world, held).await
}

/// Whether a good one runs is asked anew each time, whatever came before.
#[tokio::test]
async fn bad_and_good_ones_in_turn() -> Result<()> {
    let world = World::builder().filter(bad(0)).workers(2).start().await?;
    // Nothing good runs yet, so this one must be loaded too.
    let update = world.set_filter_config(bad(1)).await?;
    assert_eq!(update, Update::Accepted);
    passes_untouched(&world, "a second bad one").await?;
    for n in 0..3u32 {
        let good = with(|c| c["trustDomains"] = json!([format!("domain-{n}")]));
        assert_eq!(world.set_filter_config(good).await?, Update::Accepted);
        spills(&world, "a good one").await?;
        let update = world.set_filter_config(bad(2 + n)).await?;
        assert_eq!(update, Update::Accepted, "{n}");
        spills(&world, "a bad one on it").await?;
    }
    Ok(())
}

/// Envoy goes back to an old root context without a word where its configuration comes back and a stream kept it alive.
/// So what is refused then goes on with that one, whether the one between is gone or not.
#[tokio::test]
async fn an_old_one_that_comes_back_is_the_one_before() -> Result<()> {
    let world = World::builder().start().await?;
    let configured = metric(&[("plugin", PLUGIN), ("role", "client")], "configured");
    // The main thread's and the worker's.
    world.envoy.wait_stat(&configured, |n| n == 2).await?;
    for between in [bad(0), plugin_config(3)] {
        let held = hold(&world).await?;
        for config in [between, plugin_config(1)] {
            world.set_filter_config(config).await?;
        }
        release(&world, held).await?;
        let update = world.set_filter_config(bad(1)).await?;
        assert_eq!(update, Update::Accepted);
        spills(&world, "old and gone").await?;
        world.envoy.wait_stat(&configured, |n| n == 2).await?;
        world.set_filter_config(plugin_config(1)).await?;
    }
    // A stream on each, and a request that comes to the old one.
    let held = hold(&world).await?;
    world.set_filter_config(plugin_config(3)).await?;
    let mut client = world.client(false).await?;
    let other = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
    world.home.wait_in_flight(2).await?;
    world.set_filter_config(plugin_config(1)).await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    world.set_filter_config(bad(2)).await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    world.home.release("h");
    other.await??;
    assert_eq!(held.await??.served_by(), HOME);
    world.wait_idle().await?;
    spills(&world, "old and new").await?;
    world.envoy.wait_stat(&configured, |n| n == 2).await?;
    Ok(())
}

/// One that was refused and comes back goes on with what ran last, not with what ran when it was refused first.
#[tokio::test]
async fn a_refused_one_that_comes_back_goes_on_with_the_last_good_one() -> Result<()> {
    for start in [bad(0), plugin_config(3)] {
        let world = World::builder().filter(start).start().await?;
        world.set_filter_config(bad(0)).await?;
        let held = hold(&world).await?;
        for config in [plugin_config(1), bad(0)] {
            let update = world.set_filter_config(config).await?;
            assert_eq!(update, Update::Accepted);
        }
        release(&world, held).await?;
        spills(&world, "after the last good one").await?;
    }
    Ok(())
}

/// Another build has VMs of its own even if it is of the same version, so only Envoy can keep what runs.
#[tokio::test]
async fn another_build_with_a_bad_one_is_refused_to_envoy() -> Result<()> {
    let world = World::builder().start().await?;
    // The module before it got its build id.
    let other = "filter/wasm32-wasip1/filter/peer_spillover.optimised.wasm";
    let other = xtask::target_dir().join(other);
    let update = world.set_filter(0, &other, bad(0)).await?;
    assert_eq!(update, Update::Rejected);
    for line in rejections(&world) {
        assert!(
            line.contains("the configuration before stays in force"),
            "{line}"
        );
    }
    spills(&world, "what ran").await?;
    let update = world.set_filter(0, &other, plugin_config(1)).await?;
    assert_eq!(update, Update::Accepted);
    spills(&world, "the other build").await
}

/// Without the count a limit would admit everything: better nothing is done, and said.
#[tokio::test]
async fn a_stats_matcher_that_swallows_the_count_is_named() -> Result<()> {
    let dropped = [
        "{exclusion_list: {patterns: [{prefix: wasmcustom}]}}",
        "{exclusion_list: {patterns: [{suffix: in_flight}]}}",
    ];
    for (matcher, counted) in dropped.into_iter().zip([0, vms(1) as i64]) {
        let world = World::builder().stats_matcher(matcher).start().await?;
        passes_untouched(&world, matcher).await?;
        let lines = rejections(&world);
        assert_eq!(lines.len(), 1, "{lines:?}");
        for line in lines {
            for part in [
                "every request passes untouched: stats_matcher: drops wasmcustom.peer_spillover_",
                "in_flight",
                "include the prefix wasmcustom.peer_spillover_",
                "proxyStatsMatcher.inclusionPrefixes",
            ] {
                assert!(line.contains(part), "{matcher}: no {part:?} in {line}");
            }
        }
        assert_eq!(rejected(&world).await?, counted, "{matcher}");
    }
    // The fix that the line names is one.
    let fixed = "{inclusion_list: {patterns: [{prefix: listener_manager.}, {prefix: wasmcustom.peer_spillover_}]}}";
    let world = World::builder().stats_matcher(fixed).start().await?;
    spills(&world, fixed).await?;
    assert!(rejections(&world).is_empty());
    Ok(())
}

/// The origin's DestinationRule as it is: its limit holds, and what is not acted on is named.
#[tokio::test]
async fn a_pasted_destination_rule_works_and_what_is_not_acted_on_is_named() -> Result<()> {
    let config = with(|c| {
        c["services"][0]["trafficPolicy"] = json!({
            "connectionPool": {
                "tcp": {"maxConnections": 1},
                "http": {"http2MaxRequests": 1, "maxRequestsPerConnection": 1, "http1MaxPendingRequests": 1},
            },
            "outlierDetection": {
                "consecutiveErrors": 1, "interval": "1s", "baseEjectionTime": "1m", "maxEjectionPercent": 100,
            },
            "tls": {"mode": "ISTIO_MUTUAL"},
        });
    });
    let world = World::builder().filter(config).start().await?;
    for _ in 0..3 {
        spills(&world, "pasted").await?;
    }
    assert_eq!(rejected(&world).await?, 0);
    // Nothing is said of the others.
    let warnings = lines(&world, "peer-spillover: services[0].trafficPolicy.");
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for path in [
        "connectionPool.http.maxRequestsPerConnection: accepted, and not acted on",
        "connectionPool.http.http1MaxPendingRequests: accepted, and not acted on",
        "tls: accepted, and not acted on",
        "outlierDetection.consecutiveErrors: taken as consecutive5xxErrors: 1; Istio ignores it",
    ] {
        let of = warnings.iter().filter(|line| line.contains(path));
        assert_eq!(of.count(), 1, "{path}: {warnings:?}");
    }
    Ok(())
}

/// A refused configuration stands until a good one is in force, and both are told once for all workers.
#[tokio::test]
async fn a_refused_configuration_stands_until_a_good_one_is_in_force() -> Result<()> {
    let world = World::builder().workers(2).start().await?;
    let refused = metric(&[("plugin", PLUGIN)], "config_refused");
    let in_force = || lines(&world, "configuration in force");
    until_some("it is in force", async || {
        (!in_force().is_empty()).then_some(())
    })
    .await?;
    world.wait_ticks(2).await?;
    let said = in_force();
    assert_eq!(said.len(), 1, "{said:?}");
    let version = env!("CARGO_PKG_VERSION");
    let parts = [
        format!("configuration in force: version {version}, build "),
        format!("role client, mode enforce, services: 1, {HOST} with limit 1"),
    ];
    for part in &parts {
        assert!(said[0].contains(part.as_str()), "no {part:?} in {said:?}");
    }
    assert!(said[0].contains("[info]"), "{said:?}");
    assert_eq!(world.envoy.stat(&refused).await?.unwrap_or(0), 0);

    // What ran before comes back, and another; the same is refused twice in a row.
    let goods = [plugin_config(1), plugin_config(3), plugin_config(1)];
    for (n, good) in goods.into_iter().enumerate() {
        for bad in [bad(n as u32), bad(9)] {
            world.set_filter_config(bad).await?;
            // The main thread's and those of the workers.
            world.envoy.wait_stat(&refused, |vms| vms == 3).await?;
        }
        if n == 1 {
            spills(&world, "refused, with requests").await?;
            world.envoy.wait_stat(&refused, |vms| vms == 3).await?;
        }
        world.set_filter_config(good).await?;
        world.envoy.wait_stat(&refused, |vms| vms == 0).await?;
        let said = in_force();
        assert_eq!(said.len(), n + 2, "{said:?}");
        let last = said.last().map_or("", String::as_str);
        assert!(last.contains("[warning]"), "{last}");
        assert!(
            last.contains("configuration in force in place of the refused one: "),
            "{last}"
        );
    }
    // One after another, without a refusal.
    world.set_filter_config(plugin_config(5)).await?;
    until_some("it is in force", async || {
        (in_force().len() == 5).then_some(())
    })
    .await?;
    world.set_filter_config(plugin_config(1)).await?;
    until_some("the one before is in force again", async || {
        (in_force().len() == 6).then_some(())
    })
    .await?;
    Ok(())
}
