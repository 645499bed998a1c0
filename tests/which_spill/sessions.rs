//! The spilled requests of a session go to one peer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use envoy_test::World;
use envoy_test::client::Client;
use envoy_test::world::{HOME, HOST, PEER, Update};
use serde_json::{Value, json};

use crate::common::*;
use crate::with;

const SESSIONS: usize = 300;

/// A service that sends everything to these peers, and sessions by the header `x-user`.
fn by_header(peers: &[Value]) -> Value {
    let session = json!({"consistentHash": {"httpHeaderName": "X-User"}});
    with(evacuating(peers), "spill", session)
}

fn by_cookie(peers: &[Value]) -> Value {
    let session = json!({"consistentHash": {"httpCookie": {"name": "user"}}});
    with(evacuating(peers), "spill", session)
}

/// These peers, each without any limit and of one priority.
fn plain(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| peer(name, json!({}))).collect()
}

/// So many connections, which Envoy gives to all of its workers.
async fn clients(world: &World, n: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..n {
        clients.push(world.client(false).await?);
    }
    Ok(clients)
}

/// Which peer each session has, as asked on several connections, on which it is always the same.
async fn peers_of(
    world: &World,
    header: fn(usize) -> (&'static str, String),
) -> Result<BTreeMap<usize, String>> {
    let mut clients = clients(world, 8).await?;
    let mut peers = BTreeMap::new();
    for session in 0..SESSIONS {
        let (name, value) = header(session);
        let mut seen = BTreeSet::new();
        for nth in 0..2 {
            let client = &mut clients[(session * 3 + nth * 4) % 8];
            let answer = client.get(HOST, &[(name, &value)]).await?;
            seen.insert(answer.served_by().to_owned());
        }
        ensure!(seen.len() == 1, "session {session} was at {seen:?}");
        peers.insert(session, seen.pop_first().context("a peer")?);
    }
    Ok(peers)
}

fn user(session: usize) -> (&'static str, String) {
    ("x-user", format!("user-{session}"))
}

fn cookie(session: usize) -> (&'static str, String) {
    let before = if session.is_multiple_of(2) {
        "theme=dark; "
    } else {
        ""
    };
    ("cookie", format!("{before}user=user-{session}; lang=th"))
}

fn of<'a>(peers: &BTreeMap<usize, String>, name: &'a str) -> (&'a str, usize) {
    (name, peers.values().filter(|peer| *peer == name).count())
}

/// That each has about its part by weight, of which these are the percentages.
#[track_caller]
fn assert_parts(peers: &BTreeMap<usize, String>, parts: &[(&str, f64)]) {
    for (name, part) in parts {
        let (_, n) = of(peers, name);
        let percent = 100.0 * n as f64 / SESSIONS as f64;
        assert!(
            (percent - part).abs() < 10.0,
            "{name}: {percent} of {part} %"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_at_its_peer_on_all_workers_by_header_and_by_cookie() -> Result<()> {
    let world = builder(by_header(&plain(&NAMES)))
        .workers(4)
        .start()
        .await?;
    let by_user = peers_of(&world, user).await?;
    let third = 100.0 / 3.0;
    assert_parts(&by_user, &NAMES.map(|name| (name, third)));
    assert_eq!(world.home.count(), 0);
    // The same sessions, read from elsewhere.
    let update = world.set_filter_config(by_cookie(&plain(&NAMES))).await?;
    assert_eq!(update, Update::Accepted);
    assert_eq!(peers_of(&world, cookie).await?, by_user);
    // Another proxy, as after an upgrade.
    let other = builder(by_header(&plain(&NAMES)))
        .workers(2)
        .start()
        .await?;
    assert_eq!(peers_of(&other, user).await?, by_user);
    wait_nothing_counted(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_session_goes_to_any_peer_by_weight() -> Result<()> {
    let world = builder(by_header(&plain(&NAMES)))
        .workers(2)
        .start()
        .await?;
    let mut client = world.client(false).await?;
    for headers in [&[][..], &[("x-user", "")], &[("cookie", "x-user=a")]] {
        clear(&world);
        for _ in 0..150 {
            client.get(HOST, headers).await?;
        }
        let (home, peers) = received(&world);
        assert_eq!(home, 0);
        assert!(peers.iter().all(|n| *n > 20), "{headers:?}: {peers:?}");
    }
    wait_nothing_counted(&world).await
}

/// And another order moves none.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_sessions_of_a_peer_that_leaves_move_and_a_new_one_takes_its_part() -> Result<()> {
    let [gke, eks, aks] = NAMES;
    let world = builder(by_header(&plain(&NAMES)))
        .workers(4)
        .start()
        .await?;
    let before = peers_of(&world, user).await?;
    let after = async |names: &[&str]| {
        let update = world.set_filter_config(by_header(&plain(names))).await?;
        ensure!(update == Update::Accepted);
        peers_of(&world, user).await
    };
    assert_eq!(after(&[aks, gke, eks]).await?, before);
    let without = after(&[aks, gke]).await?;
    let (mut moved, mut to) = (0, BTreeSet::new());
    for (session, peer) in &before {
        if peer == eks {
            moved += 1;
            to.insert(without[session].clone());
        } else {
            assert_eq!(&without[session], peer, "session {session} stays");
        }
    }
    assert!(moved > 50, "{moved}");
    assert_eq!(to.len(), 2, "to both of the others: {to:?}");
    // It comes back, as a new peer: it takes its part of both, and nothing moves between those.
    assert_eq!(after(&[eks, aks, gke]).await?, before);
    assert_eq!(world.home.count(), 0);
    wait_nothing_counted(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_spread_by_weight_among_the_peers_of_the_lowest_priority_value() -> Result<()>
{
    let peers = [
        peer(PEER, json!({"weight": 1})),
        peer("eks", json!({"weight": 3})),
        peer("aks", json!({"weight": 9, "priority": 1})),
    ];
    let world = builder(by_header(&peers)).workers(2).start().await?;
    let peers = peers_of(&world, user).await?;
    assert_parts(&peers, &[(PEER, 25.0), ("eks", 75.0), ("aks", 0.0)]);
    Ok(())
}

/// Sessions by their peer: one each of [`NAMES`].
async fn one_each(world: &World) -> Result<[String; 3]> {
    let mut found = BTreeMap::new();
    let mut client = world.client(false).await?;
    for session in 0.. {
        let (name, value) = user(session);
        let answer = client.get(HOST, &[(name, &value)]).await?;
        found.insert(answer.served_by().to_owned(), value);
        if found.len() == NAMES.len() {
            break;
        }
    }
    Ok(NAMES.map(|name| found[name].clone()))
}

/// Only those of the peer that is full move, and each comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_peer_is_full_goes_to_its_next_one_and_comes_back() -> Result<()> {
    let peers = NAMES.map(|name| peer(name, json!({"trafficPolicy": limit(1)})));
    let world = builder(by_header(&peers)).workers(2).start().await?;
    let [gke, eks, aks] = &one_each(&world).await?;
    for name in NAMES {
        wait(&world, name, "peer_in_flight", 0).await?;
    }
    let at = async |user: &str| said(&world, &[("x-user", user)]).await;
    let mut client = world.client(false).await?;
    let user = gke.clone();
    let held = tokio::spawn(async move {
        let headers = [("x-hold", "gke"), ("x-user", &*user)];
        client.get(HOST, &headers).await
    });
    world.peer.wait_in_flight(1).await?;
    let mut seconds = BTreeSet::new();
    for _ in 0..10 {
        seconds.insert(at(gke).await?);
        for name in ["eks", "aks"] {
            wait(&world, name, "peer_in_flight", 0).await?;
        }
        assert_eq!(at(eks).await?, "eks; reason=evacuate");
        assert_eq!(at(aks).await?, "aks; reason=evacuate");
        for name in ["eks", "aks"] {
            wait(&world, name, "peer_in_flight", 0).await?;
        }
    }
    assert_eq!(seconds.len(), 1, "it has one second: {seconds:?}");
    assert!(!seconds.contains("gke; reason=evacuate"));
    assert_eq!(declined(&world, PEER, "full").await?, 10);
    world.peer.release_all();
    held.await??;
    wait(&world, PEER, "peer_in_flight", 0).await?;
    assert_eq!(at(gke).await?, "gke; reason=evacuate");
    wait_nothing_counted(&world).await
}

/// An ejection of no time: the next request of the session is the probe.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_peer_is_ejected_comes_back_when_that_is_well() -> Result<()> {
    let policy = |base: &str| {
        let mut policy = after(2);
        policy["outlierDetection"]["baseEjectionTime"] = json!(base);
        policy["outlierDetection"]["interval"] = json!("1ms");
        policy
    };
    let peers = |base: &str| NAMES.map(|name| peer(name, json!({"trafficPolicy": policy(base)})));
    let world = builder(by_header(&peers("10h"))).workers(2).start().await?;
    let [gke, eks, aks] = &one_each(&world).await?;
    for _ in 0..2 {
        let headers = [("x-user", &**gke), ("x-status", "503")];
        assert_eq!(said(&world, &headers).await?, "gke; reason=evacuate");
    }
    assert_eq!(stat(&world, PEER, "peer_ejected").await?, 1);
    let mut seconds = BTreeSet::new();
    for _ in 0..20 {
        seconds.insert(said(&world, &[("x-user", gke)]).await?);
        for (user, name) in [(eks, "eks"), (aks, "aks")] {
            let expected = format!("{name}; reason=evacuate");
            assert_eq!(said(&world, &[("x-user", user)]).await?, expected);
        }
    }
    assert_eq!(seconds.len(), 1, "{seconds:?}");
    assert!(!seconds.contains("gke; reason=evacuate"));
    let update = world.set_filter_config(by_header(&peers("1ms"))).await?;
    assert_eq!(update, Update::Accepted);
    assert_eq!(
        said(&world, &[("x-user", gke)]).await?,
        "gke; reason=evacuate"
    );
    wait(&world, PEER, "peer_ejected", 0).await?;
    for _ in 0..10 {
        assert_eq!(
            said(&world, &[("x-user", gke)]).await?,
            "gke; reason=evacuate"
        );
    }
    wait_nothing_counted(&world).await
}

/// Home comes first. Only the surplus of a session has a peer.
#[tokio::test(flavor = "multi_thread")]
async fn within_the_limit_a_session_is_at_home() -> Result<()> {
    let session = json!({"consistentHash": {"httpHeaderName": "x-user"}});
    let world = builder(with(config(1, &plain(&NAMES)), "spill", session))
        .workers(2)
        .start()
        .await?;
    let user = [("x-user", "somchai")];
    assert_eq!(world.get(&user).await?.served_by(), HOME);
    let held = hold(&world, "first").await?;
    let peer = said(&world, &user).await?;
    assert!(peer.ends_with("; reason=limit"), "{peer}");
    for _ in 0..10 {
        assert_eq!(said(&world, &user).await?, peer);
    }
    release_all(&world);
    held.await??;
    wait_nothing_counted(&world).await?;
    assert_eq!(world.get(&user).await?.served_by(), HOME);
    Ok(())
}
