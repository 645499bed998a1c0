//! Modes: enforce, observe, off, evacuate; a drained peer; what happens when no peer can take it.

use anyhow::Result;
use envoy_test::client::Answer;
use envoy_test::world::{HOME, HOST, PEER, decisions, plugin_config};
use envoy_test::{Received, World};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Three requests at once at limit 1, the first of them at home before the others are sent. What became of each.
async fn three(world: &World) -> Result<Vec<Answer>> {
    let mut first = world.client(false).await?;
    let held: JoinHandle<Result<Answer>> =
        tokio::spawn(async move { first.get(HOST, &[("x-hold", "first")]).await });
    envoy_test::until("the first request arrives", || {
        world.home.in_flight() + world.peer.in_flight() == 1
    })
    .await?;
    let mut answers = vec![world.get(&[]).await?, world.get(&[]).await?];
    world.home.release_all();
    world.peer.release_all();
    answers.insert(0, held.await??);
    world.wait_idle().await?;
    Ok(answers)
}

fn served(answers: &[Answer]) -> Vec<&str> {
    answers.iter().map(Answer::served_by).collect()
}

fn with(field: &str, value: Value) -> Value {
    let mut config = plugin_config(1);
    config["services"][0][field] = value;
    config
}

#[tokio::test]
async fn enforce_sends_the_surplus() -> Result<()> {
    let world = World::builder().start().await?;
    assert_eq!(served(&three(&world).await?), [HOME, PEER, PEER]);
    Ok(())
}

/// What home received, but for what differs from one request to the next whoever is between.
fn bytes(received: &[Received]) -> Vec<(String, Vec<(String, String)>)> {
    let steady = |name: &str| !["x-request-id", "x-forwarded-proto"].contains(&name);
    let one = |r: &Received| {
        let mut headers: Vec<_> = r
            .headers
            .iter()
            .filter(|(name, _)| steady(name))
            .cloned()
            .collect();
        headers.sort();
        (format!("{} {}", r.method, r.path), headers)
    };
    received.iter().map(one).collect()
}

#[tokio::test]
async fn observe_decides_and_counts_and_changes_nothing() -> Result<()> {
    let mut config = plugin_config(1);
    config["mode"] = "observe".into();
    let observed = World::builder().filter(config).start().await?;
    let bare = World::builder().without_filter().start().await?;
    let mut received = Vec::new();
    for world in [&observed, &bare] {
        let mut first = world.client(false).await?;
        let held = tokio::spawn(async move { first.get(HOST, &[("x-hold", "first")]).await });
        world.home.wait_in_flight(1).await?;
        let forged = [
            ("x-peer-spillover-from", PEER),
            ("x-peer-spillover-to", "nobody"),
            ("x-other", "1"),
        ];
        for _ in 0..2 {
            let answer = world.get(&forged).await?;
            assert_eq!(
                (answer.served_by(), answer.header("x-peer-spillover")),
                (HOME, "")
            );
        }
        world.home.release_all();
        held.await??;
        received.push(bytes(&world.home.requests()));
    }
    assert_eq!(received[0], received[1]);
    assert_eq!(
        (
            observed.peer.count(),
            observed.decided(PEER, "limit").await?
        ),
        (0, 2)
    );
    observed.wait_idle().await
}

#[tokio::test]
async fn off_passes_everything_through() -> Result<()> {
    let mut config = plugin_config(1);
    config["mode"] = "off".into();
    let world = World::builder().filter(config).start().await?;
    assert_eq!(served(&three(&world).await?), [HOME, HOME, HOME]);
    assert!(decisions(&world.envoy, HOST).await?.is_empty());
    world.get(&[("x-peer-spillover-from", "x")]).await?;
    assert_eq!(
        world.home.requests()[3].header("x-peer-spillover-from"),
        Some("x"),
        "untouched"
    );
    Ok(())
}

#[tokio::test]
async fn a_services_mode_overrides_the_plugins() -> Result<()> {
    let mut config = with("mode", json!("enforce"));
    config["mode"] = "observe".into();
    let world = World::builder().filter(config).start().await?;
    assert_eq!(served(&three(&world).await?), [HOME, PEER, PEER]);

    let world = World::builder()
        .filter(with("mode", json!("off")))
        .start()
        .await?;
    assert_eq!(served(&three(&world).await?), [HOME, HOME, HOME]);
    Ok(())
}

#[tokio::test]
async fn evacuate_sends_everything_that_may_spill() -> Result<()> {
    let world = World::builder()
        .filter(with("mode", json!("evacuate")))
        .start()
        .await?;
    assert_eq!(served(&three(&world).await?), [PEER, PEER, PEER]);
    assert_eq!(world.decided(PEER, "evacuate").await?, 3);
    Ok(())
}

fn drained(when_full: &str) -> Value {
    let mut config = with("whenFull", json!(when_full));
    config["services"][0]["peers"][0]["mode"] = "drain".into();
    config
}

#[tokio::test]
async fn a_drained_peer_gets_nothing_and_home_takes_it() -> Result<()> {
    let world = World::builder().filter(drained("home")).start().await?;
    assert_eq!(served(&three(&world).await?), [HOME, HOME, HOME]);
    assert_eq!(
        (
            world.peer.count(),
            world.decided("home", "when-full").await?
        ),
        (0, 2)
    );
    Ok(())
}

#[tokio::test]
async fn when_full_reject_answers_503_from_here() -> Result<()> {
    let world = World::builder().filter(drained("reject")).start().await?;
    let answers = three(&world).await?;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 503, 503]);
    assert_eq!(
        answers[1].header("x-peer-spillover"),
        "rejected; reason=when-full"
    );
    assert_eq!((world.home.count(), world.peer.count()), (1, 0));
    let log = world.access_log(3).await?;
    let rejected: Vec<_> = log
        .iter()
        .filter(|line| line["details"] == "peer_spillover_full")
        .collect();
    assert_eq!(rejected.len(), 2, "{log:?}");
    Ok(())
}

/// A mode that changes under requests in flight: the count goes on, and is 0 at the end.
#[tokio::test]
async fn a_changed_mode_keeps_the_count() -> Result<()> {
    let world = World::builder().start().await?;
    let mut first = world.client(false).await?;
    let held = tokio::spawn(async move { first.get(HOST, &[("x-hold", "first")]).await });
    world.home.wait_in_flight(1).await?;
    world
        .set_filter_config(with("whenFull", json!("reject")))
        .await?;
    assert_eq!(world.in_flight().await?, 1);
    assert_eq!(
        world.get(&[]).await?.served_by(),
        PEER,
        "the request from before still holds its slot"
    );
    world.home.release_all();
    held.await??;
    world.wait_idle().await
}

/// What is not said about the routing is said by the kind of proxy: a peer's authority would have to be public at a gateway.
#[tokio::test]
async fn a_gateway_and_a_waypoint_route_by_header_and_a_sidecar_by_authority() -> Result<()> {
    for (kind, routed) in [
        ("sidecar", None),
        ("router", Some(PEER)),
        ("waypoint", Some(PEER)),
    ] {
        let node = format!("{kind}~127.0.0.1~proxy.istio~istio.svc.cluster.local");
        let world = World::builder().node_id(&node).start().await?;
        assert_eq!(served(&three(&world).await?), [HOME, PEER, PEER], "{kind}");
        for request in world.peer.requests() {
            assert_eq!(request.header("x-peer-spillover-to"), routed, "{kind}");
        }
    }
    Ok(())
}
