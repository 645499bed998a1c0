//! What became of the requests that were spilled: who answered, and with what. A decision to spill is not evidence of that.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envoy_test::World;
use envoy_test::client::{self, Answer};
use envoy_test::wait::{until_some, until_some_by};
use envoy_test::world::{
    Builder, HOME, HOST, PEER, PeerRoute, Upstream, plugin_config, service_metric,
};
use serde_json::{Value, json};

/// Everything that may spill is sent to the peer.
fn evacuating() -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["mode"] = json!("evacuate");
    config["debugHeader"] = json!(true);
    config
}

fn builder() -> Builder {
    World::builder().filter(evacuating())
}

/// What cannot connect to the peer is sent again, to the next priority, as Istio's `retryRemoteLocalities` does.
const RETRIED_AT_HOME: &str = "timeout: 0s
retry_policy:
  retry_on: connect-failure
  num_retries: 2
  retry_priority:
    name: envoy.retry_priorities.previous_priorities
    typed_config:
      \"@type\": type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig
      update_frequency: 1";

type Outcomes = BTreeMap<(String, String), i64>;

/// Outcomes by destination and class of status.
async fn outcomes(world: &World) -> Result<Outcomes> {
    let prefix = service_metric(HOST, "");
    let stats = world.envoy.stats_matching(&prefix).await?;
    let outcome = |(name, value): (String, i64)| {
        let rest = name.strip_prefix(&prefix)?.strip_suffix(";.;outcomes")?;
        let (destination, class) = rest.split_once(";.;")?;
        let destination = destination.strip_prefix("destination=.=")?.to_owned();
        let class = class.strip_prefix("response_code_class=.=")?.to_owned();
        Some(((destination, class), value))
    };
    Ok(stats.into_iter().filter_map(outcome).collect())
}

/// Waits until `sum` outcomes are counted, and says which.
async fn wait_outcomes(world: &World, sum: i64) -> Result<Outcomes> {
    until_some(&format!("{sum} outcomes"), async || {
        let outcomes = outcomes(world).await.ok()?;
        (outcomes.values().sum::<i64>() >= sum).then_some(outcomes)
    })
    .await
}

fn are(expected: &[(&str, &str, i64)]) -> Outcomes {
    let one = |&(destination, class, n): &(&str, &str, i64)| {
        ((destination.to_owned(), class.to_owned()), n)
    };
    expected.iter().map(one).collect()
}

async fn grpc(world: &World, name: &str, value: &str) -> Result<Answer> {
    let headers = [
        (name, value),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    world.client(true).await?.get(HOST, &headers).await
}

#[tokio::test]
async fn each_spilled_request_is_counted_once_by_what_the_peer_answered() -> Result<()> {
    let world = builder().upstream(Upstream::AsClient).start().await?;
    for (headers, seen) in [
        (&[][..], 200),
        (&[("x-status", "204")], 204),
        (&[("x-status", "301")], 301),
        (&[("x-status", "404")], 404),
        (&[("x-status", "503")], 503),
        // The peer's gateway answers for its application.
        (&[("x-reset", "before")], 503),
    ] {
        let answer = world.get(headers).await?;
        assert_eq!(answer.status, seen, "{headers:?}");
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=evacuate");
    }
    // Trailers only, then in trailers.
    grpc(&world, "x-grpc-status", "14").await?;
    grpc(&world, "x-grpc-trailer-status", "5").await?;
    grpc(&world, "x-grpc-trailer-status", "0").await?;
    assert_eq!(
        wait_outcomes(&world, 9).await?,
        are(&[
            (PEER, "2xx", 3),
            (PEER, "3xx", 1),
            (PEER, "4xx", 2),
            (PEER, "5xx", 3),
        ])
    );
    assert_eq!(world.decided(PEER, "evacuate").await?, 9);
    Ok(())
}

/// Whether its client went away or the peer broke it off, a request has an outcome too.
#[tokio::test]
async fn what_has_no_whole_answer_is_none() -> Result<()> {
    let mut world = builder().start().await?;
    let mut client = world.client(false).await?;
    let waits = tokio::spawn(async move { client.get(HOST, &[("x-hold", "never")]).await });
    world.peer.wait_in_flight(1).await?;
    waits.abort();
    assert_eq!(wait_outcomes(&world, 1).await?, are(&[(PEER, "none", 1)]));
    let mut client = world.client(false).await?;
    let headers = [
        ("x-reset", "mid"),
        ("x-chunks", "2"),
        ("x-hold-body", "half"),
    ];
    let begun = client.start(client::get(HOST, &headers)?).await?;
    assert_eq!(begun.status(), 200);
    world.peer.release("half");
    let broken = client::read(begun).await;
    assert!(broken.is_err(), "{broken:?}");
    assert_eq!(wait_outcomes(&world, 2).await?, are(&[(PEER, "none", 2)]));
    // Its gateway is gone: home's Envoy answers.
    world.gateway.kill()?;
    assert_eq!(world.get(&[]).await?.status, 503);
    assert_eq!(wait_outcomes(&world, 3).await?, are(&[(PEER, "none", 3)]));
    Ok(())
}

/// All is well for the client, and only this tells that the peer had no part in it.
#[tokio::test]
async fn what_came_home_is_counted_as_returned() -> Result<()> {
    let mut world = builder()
        .way_back()
        .peer_route_yaml(RETRIED_AT_HOME)
        .start()
        .await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    assert_eq!(wait_outcomes(&world, 1).await?, are(&[(PEER, "2xx", 1)]));
    world.gateway.kill()?;
    for status in ["200", "404"] {
        let answer = world.get(&[("x-status", status)]).await?;
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(
            answer.header("x-peer-spillover"),
            "gke; reason=evacuate; returned"
        );
    }
    assert_eq!(
        wait_outcomes(&world, 3).await?,
        are(&[
            (PEER, "2xx", 1),
            ("returned", "2xx", 1),
            ("returned", "4xx", 1)
        ])
    );
    let log = world.access_log(3).await?;
    let decision = log.last().context("a line")?["decision"].clone();
    assert_eq!(decision, "gke; reason=evacuate; returned");
    Ok(())
}

/// What the log says where all that is spilled comes home, and when it is over.
#[tokio::test]
async fn a_peer_that_answers_nothing_is_told_of_and_when_it_answers_again() -> Result<()> {
    let world = builder()
        .way_back()
        .peer_route_yaml(RETRIED_AT_HOME)
        .start()
        .await?;
    let gateway = |signal: &str| -> Result<()> {
        let pid = world.gateway.pid().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status()?;
        ensure!(sent.success(), "kill {signal} {pid}");
        Ok(())
    };
    // It takes connections, and does not shake hands.
    gateway("-STOP")?;
    for n in 0..5 {
        let told = world.envoy.log().contains("answered none");
        assert!(!told, "after {n} requests");
        assert_eq!(world.get(&[]).await?.served_by(), HOME);
    }
    let line = world.envoy.wait_log("answered none of the last 5").await?;
    assert!(line.contains("peer gke at a.istio.gke.global"), "{line}");
    assert!(line.contains("sent to it: home did. "), "{line}");
    let stands = service_metric(HOST, "misrouted");
    assert_eq!(world.envoy.stat(&stands).await?, Some(16));
    gateway("-CONT")?;
    until_some_by(
        "the peer answers again",
        Duration::from_secs(60),
        async || {
            world.get(&[]).await.ok()?;
            let log = world.envoy.log();
            log.contains("peer gke at a.istio.gke.global answers again")
                .then_some(())
        },
    )
    .await?;
    assert_eq!(world.envoy.stat(&stands).await?, Some(0));
    Ok(())
}

/// A client chose its deadline, which says nothing of the peer.
#[tokio::test]
async fn what_a_client_gave_up_blames_no_peer() -> Result<()> {
    let world = builder()
        .upstream(Upstream::AsClient)
        .peer_route_yaml("timeout: 0s\nmax_grpc_timeout: 0s")
        .start()
        .await?;
    let headers = [
        ("grpc-timeout", "20m"),
        ("x-hold", "never"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut client = world.client(true).await?;
    for _ in 0..6 {
        client.get(HOST, &headers).await?;
    }
    assert_eq!(wait_outcomes(&world, 6).await?, are(&[(PEER, "none", 6)]));
    world.wait_ticks(2).await?;
    assert!(!world.envoy.log().contains("answered none"));
    Ok(())
}

/// Envoy follows a redirect itself: the answer went to another request.
#[tokio::test]
async fn a_redirect_that_envoy_follows_is_an_answer() -> Result<()> {
    let route = "timeout: 0s\ninternal_redirect_policy: {max_internal_redirects: 2}";
    let world = builder().peer_route_yaml(route).start().await?;
    let answer = world.get(&[("x-redirect", "/other")]).await?;
    assert_eq!((answer.status, answer.served_by()), (200, PEER));
    assert_eq!(
        wait_outcomes(&world, 2).await?,
        are(&[(PEER, "2xx", 1), (PEER, "3xx", 1)])
    );
    Ok(())
}

/// Without a way back nobody answers, and the line has what Envoy says of that.
#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_told_of_with_the_cause() -> Result<()> {
    let mut world = builder().start().await?;
    world.gateway.kill()?;
    for _ in 0..5 {
        assert_eq!(world.get(&[]).await?.status, 503);
    }
    let line = world.envoy.wait_log("answered none of the last 5").await?;
    assert!(line.contains("remote_connection_failure"), "{line}");
    let rule = "the DestinationRule of outbound|80||a.istio.gke.global is missing";
    assert!(line.contains(rule), "{line}");
    Ok(())
}

/// By header, no match: the request leaves by name and stays home.
#[tokio::test]
async fn what_no_route_led_away_is_returned() -> Result<()> {
    let mut config = evacuating();
    config["services"][0]["routing"] = json!("header");
    let world = World::builder()
        .filter(config)
        .peer_route(PeerRoute::OnlySome)
        .start()
        .await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    assert_eq!(
        wait_outcomes(&world, 1).await?,
        are(&[("returned", "2xx", 1)])
    );
    Ok(())
}

#[tokio::test]
async fn what_is_only_observed_or_stays_home_has_no_outcome() -> Result<()> {
    let mut config = evacuating();
    config["services"][0]["mode"] = json!("observe");
    let mut policy = config.clone();
    policy["services"][0]["mode"] = json!("enforce");
    let world = World::builder().filter(config).start().await?;
    let mut held = world.client(false).await?;
    let held = tokio::spawn(async move { held.get(HOST, &[("x-hold", "two")]).await });
    world.home.wait_in_flight(1).await?;
    world.get(&[]).await?;
    assert_eq!(world.decided(PEER, "limit").await?, 1, "observed");
    world.home.release("two");
    held.await??;
    world.set_filter_config(policy).await?;
    world.get(&[]).await?;
    world.wait_idle().await?;
    assert_eq!(outcomes(&world).await?, Outcomes::new());
    Ok(())
}

/// What stands is of a peer, and of a service that may spill.
#[tokio::test]
async fn misroutes_stand_for_as_long_as_there_is_that_peer_to_spill_to() -> Result<()> {
    let hosts = ["s0.istio.svc.cluster.local", "s1.istio.svc.cluster.local"];
    let config = |peers: &str, mode: &str| {
        let mut config = plugin_config(1);
        let template = config["services"][0].take();
        let service = |(n, host): (usize, &&str)| {
            let mut service = template.clone();
            service["host"] = json!(host);
            service["mode"] = json!(mode);
            service["trafficPolicy"] = json!({});
            service["peers"][0]["host"] = json!(format!("s{n}.istio.{peers}.global"));
            service
        };
        config["services"] = hosts.iter().enumerate().map(service).collect();
        config
    };
    let world = World::builder()
        .filter(config("gke", "evacuate"))
        .hosts(hosts)
        .peer_route(PeerRoute::Missing)
        .start()
        .await?;
    let stand = async |n: i64| -> Result<()> {
        for host in hosts {
            let gauge = service_metric(host, "misrouted");
            world.envoy.wait_stat(&gauge, |stands| stands == n).await?;
        }
        Ok(())
    };
    let ask = async || -> Result<()> {
        for host in hosts {
            world.client(false).await?.get(host, &[]).await?;
            // The second is used when nothing else changes.
            world.wait_ticks(3).await?;
        }
        Ok(())
    };
    ask().await?;
    stand(1).await?;
    world.set_filter_config(config("other", "evacuate")).await?;
    stand(0).await?;
    ask().await?;
    stand(1).await?;
    // Without a limit, detection or evacuation nothing is spilled.
    world.set_filter_config(config("other", "enforce")).await?;
    stand(0).await
}
