//! A request that may not be spilled goes home, whatever keeps the others away from there.

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::{self, Answer};
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{HOME, HOST, PEER, Update, service_metric};
use serde_json::{Value, json};

use crate::common::*;
use crate::with;

/// Requests with the header `x-may: yes` may be spilled.
fn some() -> Value {
    json!({"match": [{"headers": {"x-may": {"exact": "yes"}}}]})
}

const MAY: (&str, &str) = ("x-may", "yes");

/// What became of a request that may not be spilled, and of one that may.
async fn both(world: &World) -> Result<[(u16, String); 2]> {
    let mut both = Vec::new();
    for headers in [&[][..], &[MAY]] {
        let answer: Answer = world.get(headers).await?;
        both.push((answer.status, answer.header("x-peer-spillover").to_owned()));
    }
    Ok([both.remove(0), both.remove(0)])
}

fn told(said: [(u16, &str); 2]) -> [(u16, String); 2] {
    said.map(|(status, said)| (status, said.to_owned()))
}

async fn home_stat(world: &World, name: &str) -> Result<i64> {
    let stat = world.envoy.stat(&service_metric(HOST, name)).await?;
    Ok(stat.unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_limit_it_makes_no_difference_and_beyond_it_home_gets_what_may_not_leave()
-> Result<()> {
    let peers = [peer(PEER, json!({}))];
    for when_full in ["home", "reject"] {
        let config = with(config(1, &peers), "spill", some());
        let config = with(config, "whenFull", json!(when_full));
        let world = builder(config).workers(2).start().await?;
        let room = [(200, "home; reason=room"); 2];
        assert_eq!(both(&world).await?, told(room), "{when_full}");
        let mut held = vec![hold(&world, "first").await?];
        let said = [(200, "home; reason=unmatched"), (200, "gke; reason=limit")];
        assert_eq!(both(&world).await?, told(said), "{when_full}");
        // It is counted, beyond the limit.
        held.push(hold(&world, "beyond").await?);
        assert_eq!(in_flight(&world), (2, vec![0, 0, 0]));
        assert_eq!(home_stat(&world, "in_flight").await?, 2);
        assert_eq!(world.decided("home", "unmatched").await?, 2);
        assert_eq!(declined(&world, PEER, "full").await?, 0);
        release_all(&world);
        for answer in held {
            assert_eq!(answer.await??.status, 200);
        }
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// What may be spilled waits for the peers as before.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_peers_are_full_or_drained_only_what_may_leave_is_refused() -> Result<()> {
    let full = peer(PEER, json!({"trafficPolicy": limit(1)}));
    let drained = peer(PEER, json!({"mode": "drain"}));
    let config = |peer: &Value| {
        let config = config(1, std::slice::from_ref(peer));
        let config = with(config, "spill", some());
        with(config, "whenFull", json!("reject"))
    };
    let world = builder(config(&full)).workers(2).start().await?;
    let mut held = vec![hold(&world, "home").await?];
    let mut client = world.client(false).await?;
    held.push(tokio::spawn(async move {
        client.get(HOST, &[("x-hold", "peer"), MAY]).await
    }));
    at(&world, PEER)?.wait_in_flight(1).await?;
    let said = [
        (200, "home; reason=unmatched"),
        (503, "rejected; reason=when-full"),
    ];
    assert_eq!(both(&world).await?, told(said));
    let update = world.set_filter_config(config(&drained)).await?;
    assert_eq!(update, Update::Accepted);
    assert_eq!(both(&world).await?, told(said));
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evacuated_home_keeps_what_may_not_leave() -> Result<()> {
    let peers = NAMES.map(|name| peer(name, json!({})));
    let entries = json!([
        {"method": {"exact": "GET"}, "uri": {"prefix": "/api"}},
        {"headers": {"x-may": {"exact": "yes"}}},
    ]);
    let config = with(evacuating(&peers), "spill", json!({"match": entries}));
    let config = with(config, "whenFull", json!("reject"));
    let world = builder(config).workers(4).start().await?;
    let mut client = world.client(false).await?;
    for (method, path, may) in [
        ("GET", "/api/a?b", true),
        ("GET", "/", false),
        ("POST", "/api/a", false),
        ("GET", "/?/api", false),
    ] {
        let request = client::request(method, HOST, path, &[], client::empty())?;
        let served_by = client.send(request).await?.served_by().to_owned();
        assert_eq!(served_by != HOME, may, "{method} {path}");
    }
    clear(&world);
    let mut loads = Vec::new();
    for header in [("x-other", "no"), MAY] {
        let load = LoadOptions::new(world.url(), 16, Until::Requests(2000));
        loads.push(tokio::spawn(closed_loop(load.header(header.0, header.1))));
    }
    let mut at_home = Vec::new();
    for load in loads {
        let outcomes = load.await??;
        assert_eq!(failed(&outcomes), 0);
        at_home.push(answered_by(&outcomes, HOME));
    }
    assert_eq!(at_home, [2000, 0]);
    wait_nothing_counted(&world).await
}

/// Home is ejected, so what comes home is a probe or may not be spilled.
#[tokio::test(flavor = "multi_thread")]
async fn an_ejected_home_keeps_what_may_not_leave_and_that_neither_ends_nor_extends_it()
-> Result<()> {
    let peers = [peer(PEER, json!({}))];
    for when_full in ["home", "reject"] {
        let config = with(config(1, &peers), "spill", some());
        let config = with(config, "trafficPolicy", after(2));
        let config = with(config, "whenFull", json!(when_full));
        let world = builder(config).workers(2).start().await?;
        for _ in 0..2 {
            world.get(&[("x-status", "503")]).await?;
        }
        assert_eq!(home_stat(&world, "ejected").await?, 1);
        let said = [
            (200, "home; reason=unmatched"),
            (200, "gke; reason=ejected"),
        ];
        for _ in 0..20 {
            assert_eq!(both(&world).await?, told(said));
        }
        for _ in 0..5 {
            let answer = world.get(&[("x-status", "503")]).await?;
            assert_eq!(answer.header("x-peer-spillover"), "home; reason=unmatched");
        }
        assert_eq!(both(&world).await?, told(said));
        assert_eq!(home_stat(&world, "ejections").await?, 1);
        assert_eq!(world.decided("home", "probe").await?, 0);
        wait_nothing_counted(&world).await?;
    }
    Ok(())
}

/// The one that tests an ejected home can be any request. Those that may not be spilled are at home meanwhile, and are not it.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_probe_is_on_its_way_what_may_not_leave_is_no_other() -> Result<()> {
    let peers = [peer(PEER, json!({}))];
    let mut policy = after(1);
    policy["outlierDetection"]["baseEjectionTime"] = json!("1ms");
    let config = with(config(1, &peers), "spill", some());
    let world = builder(with(config, "trafficPolicy", policy))
        .workers(2)
        .start()
        .await?;
    world.get(&[("x-status", "503")]).await?;
    let probe = hold(&world, "probe").await?;
    assert_eq!(world.decided("home", "probe").await?, 1);
    for status in ["200", "503"] {
        for _ in 0..20 {
            let answer = world.get(&[("x-status", status)]).await?;
            assert_eq!(answer.header("x-peer-spillover"), "home; reason=unmatched");
        }
        assert_eq!(home_stat(&world, "ejected").await?, 1, "after {status}");
    }
    assert_eq!(world.decided("home", "probe").await?, 1);
    assert_eq!(home_stat(&world, "ejections").await?, 1);
    world.home.release("probe");
    assert_eq!(probe.await??.status, 200);
    assert_eq!(home_stat(&world, "ejected").await?, 2, "its ramp");
    wait_nothing_counted(&world).await
}

/// Home was full, whether or not the request could leave.
#[tokio::test(flavor = "multi_thread")]
async fn with_overflow_eject_one_that_may_not_leave_is_an_error_of_a_full_home() -> Result<()> {
    let peers = [peer(PEER, json!({}))];
    let mut policy = after(1);
    policy["connectionPool"] = limit(1)["connectionPool"].clone();
    let config = with(config(1, &peers), "spill", some());
    let config = with(config, "trafficPolicy", policy);
    let config = with(config, "overflow", json!("eject"));
    let world = builder(config).workers(2).start().await?;
    let held = hold(&world, "first").await?;
    assert_eq!(said(&world, &[]).await?, "home; reason=unmatched");
    assert_eq!(home_stat(&world, "ejected").await?, 1);
    let said = [
        (200, "home; reason=unmatched"),
        (200, "gke; reason=ejected"),
    ];
    assert_eq!(both(&world).await?, told(said));
    assert_eq!(
        home_stat(&world, "errors").await?,
        1,
        "an ejected home is not asked"
    );
    release_all(&world);
    held.await??;
    wait_nothing_counted(&world).await
}
