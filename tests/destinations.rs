//! Each destination is counted like home: a request that was spilled is in flight at its peer until it is finished.

use anyhow::{Context, Result, ensure};
use envoy_test::client::{self, Client};
use envoy_test::wait::until_some;
use envoy_test::world::{HOST, PEER, PLUGIN, metric, plugin_config};
use envoy_test::{Answer, World};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Less than an answer, so that its reader must read for it to end.
const WINDOW: u32 = 1000;
/// It fits into the proxy's buffers: the peer is rid of it, whatever the client does.
const SMALL: [(&str, &str); 2] = [("x-body-bytes", "200000"), ("x-chunks", "1")];

/// Every request is sent to the peer.
fn evacuating() -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["mode"] = json!("evacuate");
    config
}

fn gauge() -> String {
    let labels = [
        ("plugin", PLUGIN),
        ("role", "client"),
        ("service", HOST),
        ("peer", PEER),
    ];
    metric(&labels, "peer_in_flight")
}

async fn in_flight(world: &World, n: i64) -> Result<()> {
    world.envoy.wait_stat(&gauge(), |count| count == n).await?;
    Ok(())
}

/// Requests that the peer holds, each on a connection of its own, so that all workers have some.
async fn hold(world: &World, n: usize) -> Result<Vec<JoinHandle<Result<Answer>>>> {
    let before = world.peer.in_flight();
    let mut held = Vec::new();
    for _ in 0..n {
        let mut client = Client::http1(world.addr()).await?;
        let answer = async move { client.get(HOST, &[("x-hold", "there")]).await };
        held.push(tokio::spawn(answer));
    }
    world.peer.wait_in_flight(before + n).await?;
    Ok(held)
}

async fn release(world: &World, held: Vec<JoinHandle<Result<Answer>>>) -> Result<usize> {
    world.peer.release("there");
    let mut well = 0;
    for answer in held {
        well += usize::from(answer.await?.is_ok_and(|answer| answer.status == 200));
    }
    world.peer.clear();
    Ok(well)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spilled_is_in_flight_at_the_peer_until_it_is_finished_whatever_ends_it()
-> Result<()> {
    let world = World::builder().filter(evacuating()).workers(4);
    let world = world.start().await?;
    let held = hold(&world, 30).await?;
    in_flight(&world, 30).await?;
    assert_eq!(world.in_flight().await?, 0, "nothing is at home");
    // Clients that leave.
    for answer in held.iter().take(10) {
        answer.abort();
    }
    in_flight(&world, 20).await?;
    let left = held.into_iter().skip(10).collect();
    assert_eq!(release(&world, left).await?, 20);
    in_flight(&world, 0).await
}

/// Another configuration goes on with the count, also under another limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_configuration_goes_on_with_what_is_in_flight_at_the_peer() -> Result<()> {
    let world = World::builder().filter(evacuating()).workers(2);
    let world = world.start().await?;
    let before = hold(&world, 5).await?;
    in_flight(&world, 5).await?;
    let mut other = evacuating();
    other["debugHeader"] = json!(true);
    world.set_filter_config(other).await?;
    let after = hold(&world, 3).await?;
    in_flight(&world, 8).await?;
    let all = before.into_iter().chain(after).collect();
    assert_eq!(release(&world, all).await?, 8);
    in_flight(&world, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_keeps_nothing_in_flight_at_the_peer() -> Result<()> {
    let world = World::builder().filter(evacuating()).start().await?;
    let mut client = Client::http2_with_window(world.addr(), Some(WINDOW)).await?;
    let answer = client.start(client::get(HOST, &SMALL)?).await?;
    in_flight(&world, 0).await?;
    let body = client::read(answer).await?.body;
    assert_eq!(body.len(), 200_000);
    Ok(())
}

/// What a dead VM had spilled is taken off, and nothing of the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_vm_had_in_flight_at_the_peer_is_taken_off() -> Result<()> {
    let module = tokio::task::spawn_blocking(xtask::filter::ensure_with_traps).await??;
    let mut config = evacuating();
    config["services"][0]["trafficPolicy"]["outlierDetection"] = json!({});
    let world = World::builder()
        .filter(config)
        .module(&module)
        .failure_policy("FAIL_RELOAD")
        .workers(3);
    let world = world.start().await?;
    let held = hold(&world, 12).await?;
    in_flight(&world, 12).await?;
    let mut client = Client::http1(world.addr()).await?;
    let _ = client.get(HOST, &[("x-trap", "request-headers")]).await;
    // All that it counted is taken off in one go, before that is said.
    until_some("a dead VM is noticed", async || {
        let said = world.envoy.log().contains("a VM of this proxy is dead");
        said.then_some(())
    })
    .await?;
    let left = world.envoy.stat(&gauge()).await?.context("no gauge")?;
    ensure!((1..12).contains(&left), "{left} of 12 are left");
    // Those that the dead VM had are not answered well.
    assert_eq!(release(&world, held).await? as i64, left);
    in_flight(&world, 0).await
}
