//! What it did and why: metrics with their labels, the field of the access log, the debug header.

#[path = "metrics/page.rs"]
mod page;

use std::collections::BTreeMap;

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::Answer;
use envoy_test::world::{
    HOME, HOST, PEER, PLUGIN, PeerRoute, Update, decisions, metric, plugin_config, service_metric,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Limit 1, changed.
fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = plugin_config(1);
    change(&mut config);
    config
}

/// One request held at home, by its key, after those that are there already.
async fn hold(world: &World, key: &'static str) -> Result<JoinHandle<Result<Answer>>> {
    let before = world.home.in_flight();
    let mut client = world.client(false).await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", key)]).await });
    world.home.wait_in_flight(before + 1).await?;
    Ok(held)
}

/// With a request held at home, two more: what became of them.
async fn two_more(world: &World) -> Result<Vec<Answer>> {
    world.home.clear();
    let held = hold(world, "two").await?;
    let answers = vec![world.get(&[]).await?, world.get(&[]).await?];
    world.home.release("two");
    assert_eq!(held.await??.status, 200);
    world.wait_idle().await?;
    Ok(answers)
}

/// The gauge of VMs that run this mode; absent is 0.
fn info(mode: &str) -> String {
    let labels = [
        ("plugin", PLUGIN),
        ("role", "client"),
        ("version", VERSION),
        ("mode", mode),
        ("cluster", HOME),
    ];
    metric(&labels, "info")
}

#[tokio::test]
async fn in_flight_and_limit_are_what_is_and_what_may_be() -> Result<()> {
    let world = World::builder()
        .filter(plugin_config(3))
        .workers(2)
        .start()
        .await?;
    let limit = service_metric(HOST, "limit");
    assert_eq!(world.envoy.stat(&limit).await?, None, "it was never used");
    world.get(&[]).await?;
    assert_eq!(world.envoy.stat(&limit).await?, Some(3));
    world.wait_idle().await?;
    let mut held = Vec::new();
    for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
        held.push(hold(&world, key).await?);
        assert_eq!(world.in_flight().await?, n as i64 + 1);
    }
    // What is sent to the peer is not in flight at home.
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    assert_eq!(world.in_flight().await?, 3);
    // A changed limit shows, and what was in flight still is.
    let update = world.set_filter_config(plugin_config(5)).await?;
    assert_eq!(update, Update::Accepted);
    world.envoy.wait_stat(&limit, |value| value == 5).await?;
    assert_eq!(world.in_flight().await?, 3);
    for (left, (key, held)) in (0..3).rev().zip(["a", "b", "c"].into_iter().zip(held)) {
        world.home.release(key);
        assert_eq!(held.await??.status, 200);
        world.wait_count(left).await?;
    }
    Ok(())
}

/// Each decision under its destination and reason, once, and nothing else.
#[tokio::test]
async fn decisions_by_destination_and_reason() -> Result<()> {
    let cases = [
        (plugin_config(1), ["home; reason=room", "gke; reason=limit"]),
        (
            with(|c| c["services"][0]["mode"] = json!("evacuate")),
            ["", "gke; reason=evacuate"],
        ),
        (
            with(|c| c["services"][0]["peers"][0]["mode"] = json!("drain")),
            ["home; reason=room", "home; reason=when-full"],
        ),
        (
            with(|c| {
                c["services"][0]["peers"][0]["mode"] = json!("drain");
                c["services"][0]["whenFull"] = json!("reject");
            }),
            ["home; reason=room", "rejected; reason=when-full"],
        ),
    ];
    for (config, [first, then]) in cases {
        let world = World::builder().filter(config).start().await?;
        let mut expected = BTreeMap::new();
        let mut expect = |said: &str, n: i64| {
            if let Some((destination, reason)) = said.split_once("; reason=") {
                expected.insert((destination.to_owned(), reason.to_owned()), n);
            }
        };
        if first.is_empty() {
            // Nothing stays home, so nothing can be held there.
            world.get(&[]).await?;
            world.get(&[]).await?;
        } else {
            two_more(&world).await?;
        }
        expect(first, 1);
        expect(then, 2);
        assert_eq!(decisions(&world.envoy, HOST).await?, expected);
        page::declared(&world).await?;
    }
    Ok(())
}

#[tokio::test]
async fn misroutes_by_peer() -> Result<()> {
    let world = World::builder()
        .peer_route(PeerRoute::Missing)
        .start()
        .await?;
    for answer in two_more(&world).await? {
        assert_eq!(answer.served_by(), HOME);
        assert_eq!(answer.header("x-peer-spillover"), "home; reason=misroute");
    }
    let labels = [
        ("plugin", PLUGIN),
        ("role", "client"),
        ("service", HOST),
        ("peer", PEER),
    ];
    let misroutes = metric(&labels, "misroutes");
    assert_eq!(world.envoy.stat(&misroutes).await?, Some(2));
    assert_eq!(world.decided("home", "misroute").await?, 2);
    Ok(())
}

/// One for each VM, and of the mode that runs now only.
#[tokio::test]
async fn info_tells_version_mode_and_cluster() -> Result<()> {
    let world = World::builder().workers(2).start().await?;
    // One or more of each thread's, by how many VMs Envoy keeps there.
    world
        .envoy
        .wait_stat(&info("enforce"), |value| value >= 3)
        .await?;
    let observe = with(|c| c["mode"] = json!("observe"));
    assert_eq!(world.set_filter_config(observe).await?, Update::Accepted);
    world
        .envoy
        .wait_stat(&info("observe"), |value| value >= 3)
        .await?;
    world
        .envoy
        .wait_stat(&info("enforce"), |value| value == 0)
        .await?;
    // A refused one changes nothing but its own counter.
    let bad = with(|c| c["mode"] = json!("obsrve"));
    assert_eq!(world.set_filter_config(bad).await?, Update::Accepted);
    assert!(world.envoy.stat(&info("observe")).await? >= Some(3));
    let rejected = metric(&[("plugin", PLUGIN)], "config_rejected");
    assert!(world.envoy.stat(&rejected).await? > Some(0));
    Ok(())
}

/// The samples of one metric in Prometheus' form: labels and value.
fn samples(text: &str, name: &str) -> Vec<(BTreeMap<String, String>, String)> {
    let lines = text.lines().filter_map(|line| {
        let (labels, value) = line
            .strip_prefix(name)?
            .strip_prefix('{')?
            .split_once('}')?;
        let pairs = labels.split(',').filter_map(|pair| {
            let (label, value) = pair.split_once('=')?;
            Some((label.to_owned(), value.trim_matches('"').to_owned()))
        });
        Some((pairs.collect(), value.trim().to_owned()))
    });
    lines.collect()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
        .collect()
}

/// Where stats tags are asked for in Istio's form, every label comes out and nothing of it stays in the name.
#[tokio::test]
async fn labels_come_out_for_prometheus() -> Result<()> {
    let world = World::builder().start().await?;
    two_more(&world).await?;
    let bad = with(|c| c["version"] = json!(2));
    assert_eq!(world.set_filter_config(bad).await?, Update::Accepted);
    world
        .envoy
        .wait_stat(&info("enforce"), |value| value >= 2)
        .await?;
    let text = world.envoy.prometheus().await?;

    let plugin = [("plugin", PLUGIN)];
    let role = [plugin[0], ("role", "client")];
    let service = [role[0], role[1], ("service", HOST)];
    let decided = |destination, reason| {
        let rest = [("destination", destination), ("reason", reason)];
        labels(&[&service[..], &rest[..]].concat())
    };
    let one = |pairs: &[(&str, &str)], value: &str| vec![(labels(pairs), value.to_owned())];
    assert_eq!(
        samples(&text, "peer_spillover_in_flight"),
        one(&service, "0")
    );
    assert_eq!(samples(&text, "peer_spillover_limit"), one(&service, "1"));
    let mut decisions = samples(&text, "peer_spillover_decisions");
    decisions.sort();
    let expected = vec![
        (decided("gke", "limit"), "2".to_owned()),
        (decided("home", "room"), "1".to_owned()),
    ];
    assert_eq!(decisions, expected);
    let own = [("version", VERSION), ("mode", "enforce"), ("cluster", HOME)];
    let info = [&role[..], &own[..]].concat();
    let infos = samples(&text, "peer_spillover_info");
    assert_eq!((infos.len(), &infos[0].0), (1, &labels(&info)));
    let rejected = samples(&text, "peer_spillover_config_rejected");
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0].0, labels(&plugin));
    let left: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("peer_spillover_") && line.contains("___"))
        .collect();
    assert!(left.is_empty(), "labels that stayed in names: {left:?}");
    Ok(())
}

#[tokio::test]
async fn misroutes_have_their_labels_too() -> Result<()> {
    let world = World::builder()
        .peer_route(PeerRoute::Missing)
        .start()
        .await?;
    two_more(&world).await?;
    let text = world.envoy.prometheus().await?;
    let expected = [
        ("plugin", PLUGIN),
        ("role", "client"),
        ("service", HOST),
        ("peer", PEER),
    ];
    let expected = vec![(labels(&expected), "2".to_owned())];
    assert_eq!(samples(&text, "peer_spillover_misroutes"), expected);
    Ok(())
}

/// `%FILTER_STATE(wasm.peer_spillover:PLAIN)%`: why a request did not simply go home.
#[tokio::test]
async fn the_access_log_tells_the_decision() -> Result<()> {
    // Nobody asks for the debug header here: the field does not depend on it.
    let quiet = with(|c| c["debugHeader"] = json!(false));
    let world = World::builder().filter(quiet).start().await?;
    two_more(&world).await?;
    let mut lines = world.access_log(3).await?;
    lines.sort_by_key(|line| line["decision"].as_str().unwrap_or_default().to_owned());
    let said: Vec<&str> = lines
        .iter()
        .map(|line| line["decision"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(said, ["-", "gke; reason=limit", "gke; reason=limit"]);
    let clusters = lines.iter().map(|line| line["cluster"].as_str());
    let clusters: Vec<&str> = clusters.map(Option::unwrap_or_default).collect();
    let [home, peer] = [
        format!("outbound|80||{HOST}"),
        "outbound|80||a.istio.gke.global".to_owned(),
    ];
    assert_eq!(clusters, [&home, &peer, &peer]);
    Ok(())
}

#[tokio::test]
async fn the_debug_header_is_there_where_it_was_asked_for() -> Result<()> {
    let world = World::builder().start().await?;
    let debug = |answers: &[Answer]| -> Vec<String> {
        let header = |answer: &Answer| answer.header("x-peer-spillover").to_owned();
        answers.iter().map(header).collect()
    };
    assert_eq!(debug(&two_more(&world).await?), ["gke; reason=limit"; 2]);
    assert_eq!(debug(&[world.get(&[]).await?]), ["home; reason=room"]);
    world.wait_idle().await?;
    for config in [
        with(|c| c["debugHeader"] = json!(false)),
        with(|c| drop(c.as_object_mut().map(|c| c.remove("debugHeader")))),
    ] {
        assert_eq!(world.set_filter_config(config).await?, Update::Accepted);
        let answers = two_more(&world).await?;
        assert!(answers.iter().all(|answer| answer.served_by() == PEER));
        assert!(
            answers
                .iter()
                .all(|answer| !answer.headers.contains_key("x-peer-spillover"))
        );
    }
    Ok(())
}
