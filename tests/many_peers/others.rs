//! What concerns one peer, or one service, says nothing of another.

use anyhow::Result;
use envoy_test::World;
use envoy_test::client::{self, Client};
use envoy_test::world::{
    Clusters, HOST, Member, PEER, PLUGIN, decisions, metric, peer_host, service_metric,
};
use serde_json::{Value, json};

use crate::common::*;

/// Of three clusters, each with a gateway of its own, that of one is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_be_reached_is_its_peers_error_alone() -> Result<()> {
    let peers = ["two", "three"]
        .into_iter()
        .zip(0..)
        .map(|(name, n)| peer(name, json!({"priority": n, "trafficPolicy": after(3)})));
    let mut config = config(1, &peers.collect::<Vec<_>>());
    config["services"][0]["trafficPolicy"]["outlierDetection"] =
        after(1)["outlierDetection"].clone();
    let one = Member::new("one", config);
    let off = || json!({"version": 1, "cluster": "x", "role": "edge", "mode": "off"});
    let mut clusters = Clusters::start(&[
        one.way("two", "two").way("three", "three"),
        Member::new("two", off()),
        Member::new("three", off()),
    ])
    .await?;
    clusters[1].envoy.kill()?;
    let [one, two, three] = &clusters[..] else {
        panic!("there are three");
    };
    let mut client = one.client().await?;
    let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "h")]).await });
    one.home.wait_in_flight(1).await?;
    let mut said = Vec::new();
    for _ in 0..20 {
        let answer = one.client().await?.get(HOST, &[]).await?;
        said.push((answer.status, answer.header("x-peer-spillover").to_owned()));
    }
    let lost = (503, "two; reason=limit".to_owned());
    let well = (200, "three; reason=limit".to_owned());
    assert_eq!(said, [vec![lost; 3], vec![well; 17]].concat());
    let stat = async |more: &[(&str, &str)], name| -> Result<i64> {
        let service = [("plugin", PLUGIN), ("role", "client"), ("service", HOST)];
        let name = metric(&[&service, more].concat(), name);
        Ok(one.envoy.stat(&name).await?.unwrap_or(0))
    };
    let (at_two, at_three) = ([("peer", "two")], [("peer", "three")]);
    assert_eq!(stat(&at_two, "peer_errors").await?, 3);
    assert_eq!(stat(&at_two, "peer_ejected").await?, 1);
    assert_eq!(stat(&at_three, "peer_errors").await?, 0);
    assert_eq!(stat(&at_three, "peer_ejected").await?, 0);
    assert_eq!(stat(&[], "errors").await?, 0, "home has none");
    assert_eq!(stat(&[], "ejected").await?, 0);
    assert_eq!((two.home.count(), three.home.count()), (0, 17));
    one.home.release("h");
    assert_eq!(held.await??.status, 200);
    Ok(())
}

const OTHER: &str = "b.istio.svc.cluster.local";

/// Two services, each with two peers.
fn both() -> Value {
    let service = |host: &str| {
        let peers = [PEER, "eks"].into_iter().zip(0..).map(|(name, n)| {
            json!({
                "name": name,
                "host": peer_host(host, name),
                "priority": n,
                "trafficPolicy": limit(2),
            })
        });
        let mut service = config(1, &[])["services"][0].clone();
        service["host"] = host.into();
        service["peers"] = peers.collect();
        service
    };
    let mut both = config(1, &[]);
    both["services"] = json!([service(HOST), service(OTHER)]);
    both
}

/// On one connection of one worker, which remembers for which service the last request was.
#[tokio::test(flavor = "multi_thread")]
async fn requests_for_services_in_turns_are_charged_each_to_its_own() -> Result<()> {
    let world = World::builder()
        .filter(both())
        .hosts([HOST, OTHER])
        .more_peers(["eks"])
        .start()
        .await?;
    let mut client = Client::http2(world.addr()).await?;
    let in_flight = async |host: &str| -> Result<[i64; 3]> {
        let at = async |peer: &str| -> Result<i64> {
            let labels = [
                ("plugin", PLUGIN),
                ("role", "client"),
                ("service", host),
                ("peer", peer),
            ];
            let stat = world.envoy.stat(&metric(&labels, "peer_in_flight")).await?;
            Ok(stat.unwrap_or(0))
        };
        let home = world.envoy.stat(&service_metric(host, "in_flight")).await?;
        Ok([home.unwrap_or(0), at(PEER).await?, at("eks").await?])
    };
    let mut held = Vec::new();
    // The first service gets two requests for each one of the second, and its places are full first.
    let (mut first, mut second) = ([0; 3], [0; 3]);
    for (n, host) in [HOST, OTHER, HOST].into_iter().cycle().take(8).enumerate() {
        let before =
            world.home.in_flight() + world.peers().map(|peer| peer.in_flight()).sum::<usize>();
        let sent = client.start(client::get(host, &[("x-hold", "h")])?);
        held.push(tokio::spawn(async move { client::read(sent.await?).await }));
        envoy_test::until("it is held", || {
            world.home.in_flight() + world.peers().map(|peer| peer.in_flight()).sum::<usize>()
                > before
        })
        .await?;
        let counts = if host == HOST {
            &mut first
        } else {
            &mut second
        };
        let place = counts.iter().zip([1, 2, 2]).position(|(n, most)| *n < most);
        counts[place.unwrap_or(0)] += 1;
        assert_eq!(in_flight(HOST).await?, first, "after {n}");
        assert_eq!(in_flight(OTHER).await?, second, "after {n}");
    }
    for host in [HOST, OTHER] {
        let all: i64 = decisions(&world.envoy, host).await?.values().sum();
        assert_eq!(all, if host == HOST { 5 } else { 3 }, "{host}");
    }
    release_all(&world);
    for answer in held {
        assert_eq!(answer.await??.status, 200);
    }
    wait_nothing_counted(&world).await
}
