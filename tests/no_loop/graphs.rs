//! Clusters that are all full, in graphs that have cycles.

use anyhow::Result;
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use envoy_test::world::{Clusters, HOST};

use crate::common::*;

/// Names of the clusters, and the peers of each.
type Graph = &'static [(&'static str, &'static [&'static str])];

const RING: Graph = &[("one", &["two"]), ("two", &["three"]), ("three", &["one"])];
const COMPLETE: Graph = &[
    ("one", &["two", "three"]),
    ("two", &["three", "one"]),
    ("three", &["one", "two"]),
];
/// One that the two others spill to, and which spills to one of them.
const TRIANGLE: Graph = &[
    ("one", &["two"]),
    ("two", &["one"]),
    ("three", &["two", "one"]),
];

async fn start(graph: Graph, routing: &str) -> Result<Clusters> {
    let members = graph.iter();
    let members = members.map(|(name, peers)| member(name, 1, peers, routing));
    Clusters::start(&members.collect::<Vec<_>>()).await
}

/// Asserts that each request that arrived anywhere crossed at most once, from a cluster that has this one as a peer, and that
/// as many crossed as were spilled.
async fn crossed_once(clusters: &Clusters, graph: Graph, case: &str) -> Result<()> {
    let mut markers_seen = vec![0; graph.len()];
    for (cluster, (name, _)) in clusters.iter().zip(graph) {
        for received in cluster.home.requests() {
            assert_eq!(received.header(TO), None, "{case}");
            match markers(&received)[..] {
                [] => {}
                [from] => {
                    let from = graph.iter().position(|(other, _)| *other == from);
                    let from = from.unwrap_or_else(|| panic!("{case}: {received:?}"));
                    assert!(graph[from].1.contains(name), "{case}: {received:?}");
                    markers_seen[from] += 1;
                }
                _ => panic!("{case}: {received:?}"),
            }
        }
    }
    let mut arrived = 0;
    for ((cluster, (_, peers)), seen) in clusters.iter().zip(graph).zip(&markers_seen) {
        arrived += cluster.arrived().await?;
        let mut spilled = 0;
        for peer in *peers {
            spilled += decided(&cluster.envoy, peer, "limit").await?;
            spilled += decided(&cluster.envoy, peer, "contention").await?;
        }
        assert_eq!(spilled, *seen, "{case}: each arrived where it was answered");
        assert_eq!(decided(&cluster.envoy, "home", "returned").await?, 0);
    }
    assert_eq!(arrived, markers_seen.iter().sum::<i64>(), "{case}");
    Ok(())
}

/// Every one of the clusters has its only place taken.
#[tokio::test(flavor = "multi_thread")]
async fn where_all_clusters_are_full_a_request_is_answered_one_crossing_away() -> Result<()> {
    for (graph, routing) in [
        (RING, "authority"),
        (RING, "header"),
        (COMPLETE, "header"),
        (TRIANGLE, "authority"),
    ] {
        let case = format!("{graph:?} {routing}");
        let clusters = start(graph, routing).await?;
        let mut held = Vec::new();
        for (cluster, (name, _)) in clusters.iter().zip(graph) {
            held.push(hold(&clusters, cluster, &[]).await?);
            assert_eq!(cluster.home.in_flight(), 1, "{case}: {name}");
        }
        for (cluster, (_, peers)) in clusters.iter().zip(graph) {
            for _ in 0..10 {
                let answer = cluster.client().await?.get(HOST, &[]).await?;
                assert_eq!(answer.status, 200, "{case}");
                assert!(peers.contains(&answer.served_by()), "{case}");
            }
        }
        crossed_once(&clusters, graph, &case).await?;
        let all = clusters.iter().map(|cluster| cluster.home.count());
        assert_eq!(all.sum::<usize>(), 11 * graph.len(), "{case}");
        release(&clusters, held).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_from_all_clusters_each_request_is_received_once() -> Result<()> {
    for (graph, routing) in [(RING, "authority"), (COMPLETE, "header")] {
        let case = format!("{graph:?} {routing}");
        let clusters = start(graph, routing).await?;
        let requests = 300;
        let loads = clusters.iter().map(|cluster| {
            let url = format!("http://{}/", cluster.envoy.listener("outbound"));
            let load = LoadOptions::new(&url, 6, Until::Requests(requests));
            tokio::spawn(closed_loop(load.header("x-delay-ms", "3")))
        });
        for load in loads.collect::<Vec<_>>() {
            assert_eq!(failed(&load.await??), 0, "{case}");
        }
        crossed_once(&clusters, graph, &case).await?;
        let all = clusters.iter().map(|cluster| cluster.home.count());
        assert_eq!(all.sum::<usize>(), requests * graph.len(), "{case}");
        for cluster in clusters.iter() {
            assert!(cluster.arrived().await? > 0, "{case}: all spilled");
            nothing_counted(&cluster.envoy).await?;
        }
    }
    Ok(())
}
