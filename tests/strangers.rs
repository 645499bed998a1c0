//! What the log says of services that no request comes for while requests come for other hosts: a host that was written wrong.

use std::time::Duration;

use anyhow::Result;
use envoy_test::World;
use envoy_test::wait::{until_some, until_some_by};
use envoy_test::world::{HOST, plugin_config};
use serde_json::{Value, json};

// Clients on each worker.
#[path = "errors/common.rs"]
mod common;

use common::on_each_worker;

/// Lines of the filter with this text.
fn lines(world: &World, text: &str) -> Vec<String> {
    let log = world.envoy.log();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

/// The only line with this text, which has these parts too.
fn only(world: &World, text: &str, parts: &[&str]) {
    let lines = lines(world, text);
    assert_eq!(lines.len(), 1, "{text}: {lines:?}");
    for part in parts {
        assert!(lines[0].contains(part), "no {part:?} in {lines:?}");
    }
}

/// A configuration of the service of this host.
fn config(host: &str) -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["host"] = json!(host);
    config
}

/// A proxy of two workers with the service `written`, which knows these hosts.
async fn world(written: &str, hosts: &[&str]) -> Result<World> {
    World::builder()
        .filter(config(written))
        .hosts(hosts.iter().copied())
        .workers(2)
        .start()
        .await
}

/// A request for this host on each worker.
async fn ask(world: &World, host: &str) -> Result<()> {
    for client in &mut on_each_worker(world, 2).await? {
        client.get(host, &[]).await?;
    }
    Ok(())
}

const OTHER: &str = "b.istio.svc.cluster.local";
const FIRST: &str = "has its first request";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_no_full_name_is_told_with_the_one_to_write() -> Result<()> {
    for short in ["a", "a.istio"] {
        let world = world(short, &[HOST, OTHER]).await?;
        ask(&world, OTHER).await?;
        world.wait_ticks(3).await?;
        let text = format!("service {short}: host must be the full name");
        assert_eq!(lines(&world, &text).len(), 0, "another service");
        ask(&world, HOST).await?;
        until_some("it is said", async || {
            (!lines(&world, &text).is_empty()).then_some(())
        })
        .await?;
        world.wait_ticks(3).await?;
        let write = format!("write host: {HOST}");
        only(&world, &text, &["[warning]", &write]);
    }
    Ok(())
}

/// Clients choose the hosts that they ask for: they add no lines. The service is not written wrong, and its first request says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_alarm_is_one_line_whatever_clients_ask_for_and_ends() -> Result<()> {
    let written = "a.istio";
    let others = ["a.istio.x1", "a.istio.x2", "a.istio.x3"];
    let world = world(written, &[written, others[0], others[1], others[2]]).await?;
    let text = "service a.istio: host must be the full name";
    for other in others {
        ask(&world, other).await?;
        world.wait_ticks(3).await?;
        only(&world, text, &["write host: a.istio.x1"]);
    }
    assert_eq!(lines(&world, FIRST).len(), 0);
    ask(&world, written).await?;
    only(&world, FIRST, &["[warning]", "service a.istio "]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_is_forgotten_with_its_service() -> Result<()> {
    let (written, came) = ("a.istio", "a.istio.x1");
    let world = world(written, &[written, came]).await?;
    let text = "service a.istio: host must be the full name";
    ask(&world, came).await?;
    until_some("it is said", async || {
        (!lines(&world, text).is_empty()).then_some(())
    })
    .await?;
    world.wait_ticks(3).await?;
    // The same service stays the same alarm.
    let mut same = config(written);
    same["debugHeader"] = json!(false);
    world.set_filter_config(same).await?;
    world.wait_ticks(3).await?;
    world.set_filter_config(config(came)).await?;
    ask(&world, came).await?;
    world.wait_ticks(3).await?;
    world.set_filter_config(config(written)).await?;
    ask(&world, written).await?;
    only(&world, text, &[]);
    assert_eq!(
        lines(&world, FIRST).len(),
        0,
        "nothing was told of it any more"
    );
    Ok(())
}

/// Both are said after a minute of the filter's ticks.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_minute_an_alike_host_is_a_warning_and_none_is_information() -> Result<()> {
    let wrong = "a.default.svc.cluster.local";
    let alike = world(wrong, &[HOST, OTHER, wrong]).await?;
    let none = world(wrong, &[OTHER, "c.istio.svc.cluster.local"]).await?;
    // Another service is used, so the mistake is not in all of them.
    let mut two = config(wrong);
    let mut service = two["services"][0].clone();
    service["host"] = json!(HOST);
    service["peers"][0]["host"] = json!("another.global");
    if let Some(all) = two["services"].as_array_mut() {
        all.push(service);
    }
    let used = World::builder()
        .filter(two)
        .hosts([HOST, OTHER])
        .start()
        .await?;
    used.get(&[]).await?;
    for world in [&alike, &none, &used] {
        let mut client = world.client(false).await?;
        client.get(OTHER, &[]).await?;
    }
    ask(&alike, HOST).await?;
    let told = format!("service {wrong}: no request for it has come in a minute");
    let no_service = "no request for any service has come in a minute";
    until_some_by("a minute is over", Duration::from_secs(90), async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let said = |world, text: &str| !lines(world, text).is_empty();
        (said(&alike, &told) && said(&none, no_service)).then_some(())
    })
    .await?;
    for world in [&alike, &none, &used] {
        world.wait_ticks(5).await?;
    }
    let write = format!("write host: {HOST}");
    only(&alike, &told, &["[warning]", &write]);
    only(
        &none,
        no_service,
        &["[info]", OTHER, "NAME.NAMESPACE.svc.cluster.local"],
    );
    for (world, text) in [(&alike, no_service), (&used, no_service), (&none, &*told)] {
        assert_eq!(lines(world, text).len(), 0, "{text}");
    }
    ask(&alike, wrong).await?;
    only(&alike, FIRST, &[wrong]);
    Ok(())
}
