//! `overflow: eject`: a full home is an error, as the origin's DestinationRule had it.

use anyhow::Result;
use envoy_test::World;
use envoy_test::world::{HOME, HOST, PEER, Update, plugin_config};
use serde_json::{Value, json};

use crate::common::after;

fn ejecting(base_ejection: &str) -> Value {
    let mut config = plugin_config(1);
    let service = &mut config["services"][0];
    service["overflow"] = "eject".into();
    service["trafficPolicy"]["outlierDetection"] = json!({
        "consecutiveErrors": 1, "interval": "1s", "baseEjectionTime": base_ejection,
        "maxEjectionPercent": 100,
    });
    config
}

/// The origin's numbers: the second of two requests at a time finds no room, and for the ejection everything goes to the
/// peer, though home is idle.
#[tokio::test]
async fn an_overflow_ejects_home() -> Result<()> {
    let world = World::builder()
        .filter(ejecting("300ms"))
        .workers(2)
        .start()
        .await?;
    let ejected = envoy_test::world::service_metric(HOST, "ejected");
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "first")]).await });
    world.home.wait_in_flight(1).await?;
    let answer = world.get(&[]).await?;
    assert_eq!(answer.header("x-peer-spillover"), "gke; reason=limit");
    assert_eq!(world.envoy.stat(&ejected).await?, Some(1));
    world
        .envoy
        .wait_log("the last of its errors: no room")
        .await?;

    // A probe comes to home though it is full: it is beyond the limit, and tells that home is well.
    let mut reason = String::new();
    while reason != "home; reason=probe" {
        let answer = world.get(&[]).await?;
        assert_eq!(answer.status, 200);
        reason = answer.header("x-peer-spillover").to_owned();
        assert!(!reason.contains("room"), "home is full: {reason}");
    }
    assert_eq!((world.home.count(), world.home.max_in_flight()), (2, 2));
    world.home.release("first");
    assert_eq!(held.await??.served_by(), HOME);
    world.envoy.wait_stat(&ejected, |n| n == 0).await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    world.wait_idle().await
}

#[tokio::test]
async fn an_idle_home_that_overflowed_gets_nothing() -> Result<()> {
    let world = World::builder()
        .filter(ejecting("1h"))
        .workers(2)
        .start()
        .await?;
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "first")]).await });
    world.home.wait_in_flight(1).await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    world.home.release("first");
    assert_eq!(held.await??.status, 200);
    world.wait_idle().await?;
    for _ in 0..20 {
        let answer = world.get(&[]).await?;
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
    }
    // The same limit in `surplus`, and only what exceeds it leaves.
    let mut surplus = ejecting("1h");
    surplus["services"][0]["overflow"] = "surplus".into();
    surplus["services"][0]["trafficPolicy"]["outlierDetection"] = Value::Null;
    let policy = &mut surplus["services"][0]["trafficPolicy"];
    policy
        .as_object_mut()
        .map(|policy| policy.remove("outlierDetection"));
    assert_eq!(world.set_filter_config(surplus).await?, Update::Accepted);
    let ejected = envoy_test::world::service_metric(HOST, "ejected");
    world.envoy.wait_stat(&ejected, |n| n == 0).await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    Ok(())
}

/// In `surplus` a full home is no error.
#[tokio::test]
async fn in_surplus_an_overflow_is_no_error() -> Result<()> {
    let mut config = plugin_config(1);
    config["services"][0]["trafficPolicy"]["outlierDetection"] = after(1);
    let world = World::builder().filter(config).start().await?;
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "first")]).await });
    world.home.wait_in_flight(1).await?;
    for _ in 0..5 {
        let answer = world.get(&[]).await?;
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=limit");
    }
    world.home.release("first");
    assert_eq!(held.await??.status, 200);
    world.wait_idle().await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    Ok(())
}
