//! A service costs a proxy something from its first request on, and leaves nothing behind when its configuration is gone.

// Services whose errors are detected.
#[path = "errors/common.rs"]
mod common;

use std::collections::BTreeSet;

use anyhow::Result;
use common::{Service, after, builder, detecting, host, hosts, on_each_worker};
use envoy_test::World;
use envoy_test::client::get;
use envoy_test::world::{HOME, PEER, Update, decisions, service_metric};
use serde_json::{Value, json};

/// The services that have statistics of ours.
async fn with_statistics(world: &World) -> Result<BTreeSet<String>> {
    let stats = world.envoy.stats_matching("peer_spillover_").await?;
    let service = |name: &String| {
        let (_, rest) = name.split_once("service=.=")?;
        Some(rest.split_once(";.;")?.0.to_owned())
    };
    Ok(stats.keys().filter_map(service).collect())
}

#[tokio::test]
async fn a_proxy_has_the_statistics_of_the_services_that_it_uses() -> Result<()> {
    let services = vec![after(5); 1000];
    let world = World::builder()
        .filter(detecting(&services))
        .hosts(hosts(3))
        .workers(2)
        .start()
        .await?;
    world.wait_ticks(2).await?;
    assert_eq!(with_statistics(&world).await?, BTreeSet::new());
    let mut clients = on_each_worker(&world, 2).await?;
    for n in 0..3 {
        let service = Service::new(&world, n);
        for client in &mut clients {
            assert_eq!(client.get(&service.host, &[]).await?.served_by(), HOME);
        }
        let used: BTreeSet<String> = hosts(n + 1).collect();
        assert_eq!(with_statistics(&world).await?, used);
        // Each metric is there from the first request on, so that its first change is seen as one.
        let of = format!("={};", service.host);
        let own = world.envoy.stats_matching(&of).await?;
        for name in ["in_flight", "limit", "ejected", "ejections", "errors"] {
            assert!(
                own.contains_key(&service_metric(&service.host, name)),
                "{name}"
            );
        }
        assert_eq!(own[&service_metric(&service.host, "limit")], 1000);
    }
    // Nor does a change of all of them define more.
    let before = world.envoy.stats_matching("peer_spillover_").await?;
    let mut config = detecting(&services);
    for service in config["services"].as_array_mut().into_iter().flatten() {
        service["trafficPolicy"]["connectionPool"]["http"]["http2MaxRequests"] = json!(7);
    }
    assert_eq!(world.set_filter_config(config).await?, Update::Accepted);
    for n in 0..3 {
        Service::new(&world, n).wait("limit", 7).await?;
    }
    world.wait_ticks(2).await?;
    let now = world.envoy.stats_matching("peer_spillover_").await?;
    assert!(now.keys().eq(before.keys()), "{now:?}");
    Ok(())
}

/// The configuration of [`detecting`] with other limits, or without one.
fn with_limits(detections: &[Value], limits: &[Option<u32>]) -> Value {
    let mut config = detecting(detections);
    let services = config["services"].as_array_mut().into_iter().flatten();
    for (service, limit) in services.zip(limits) {
        let http = &mut service["trafficPolicy"]["connectionPool"]["http"];
        match limit {
            Some(limit) => http["http2MaxRequests"] = json!(limit),
            None => *http = json!({}),
        }
    }
    config
}

#[tokio::test]
async fn a_service_that_left_the_configuration_shows_no_limit_and_no_ejection() -> Result<()> {
    let all = [after(1), after(1), after(1)];
    for workers in [1, 4] {
        let world = builder(&all).workers(workers).start().await?;
        let services = [0, 1, 2].map(|n| Service::new(&world, n));
        for (n, mut client) in on_each_worker(&world, workers as usize)
            .await?
            .into_iter()
            .enumerate()
        {
            client.get(&host(0), &[]).await?;
            client.get(&host(1), &[]).await?;
            // The third is known to one worker alone.
            if n == 0 {
                client.get(&host(2), &[]).await?;
            }
        }
        services[1].get(&[("x-status", "500")]).await?;
        services[2].get(&[("x-status", "500")]).await?;
        for service in &services {
            assert_eq!(service.stat("limit").await?, 1000);
        }
        services[1].wait("ejected", 1).await?;
        services[2].wait("ejected", 1).await?;

        // The last two leave, and the first keeps no limit.
        let one = with_limits(&all[..1], &[None]);
        assert_eq!(world.set_filter_config(one).await?, Update::Accepted);
        for service in &services {
            service.wait("limit", 0).await?;
            service.wait("ejected", 0).await?;
        }
        // No tick of any VM brings them back.
        world.wait_ticks(3).await?;
        for service in &services {
            assert_eq!(service.stat("limit").await?, 0);
            assert_eq!(service.stat("ejected").await?, 0);
        }
        // When they come back they are as new, whoever used them before.
        let back = with_limits(&all, &[Some(5), Some(6), Some(7)]);
        world.set_filter_config(back).await?;
        for (service, limit) in services.iter().zip([5, 6, 7]) {
            service.wait("limit", limit).await?;
            let answer = service.get(&[]).await?;
            assert_eq!(answer.header("x-peer-spillover"), "home; reason=room");
        }
    }
    Ok(())
}

/// Where a stream keeps a configuration alive, Envoy goes back to it without a word: what that says is shown again.
#[tokio::test]
async fn a_configuration_that_comes_back_shows_its_limits() -> Result<()> {
    let all = [after(1)];
    let world = builder(&all).start().await?;
    let service = Service::new(&world, 0);
    let kept = service.begin(false, &[("x-hold-body", "kept")]).await?;
    service.wait("limit", 1000).await?;
    let other = detecting(&[after(1), after(1)]);
    for limit in [Some(5), None] {
        world.set_filter_config(with_limits(&all, &[limit])).await?;
        service.wait("limit", limit.unwrap_or(0).into()).await?;
        world.set_filter_config(other.clone()).await?;
        service.wait("limit", 1000).await?;
        world.set_filter_config(detecting(&all)).await?;
        service.get(&[]).await?;
        service.wait("limit", 1000).await?;
    }
    world.home.release("kept");
    kept.rest.await?;
    Ok(())
}

/// A request that began while the service was configured ends as an error after it left: there is nobody to end an ejection.
#[tokio::test]
async fn an_error_that_comes_after_its_service_left_ejects_nobody() -> Result<()> {
    let world = builder(&[after(1), after(1)]).start().await?;
    let service = Service::new(&world, 1);
    let mut client = world.client(false).await?;
    let late = get(&service.host, &[("x-hold", "late"), ("x-status", "500")])?;
    let late = tokio::spawn(client.start(late));
    world.home.wait_in_flight(1).await?;
    world.set_filter_config(detecting(&[after(1)])).await?;
    service.wait("limit", 0).await?;
    world.home.release("late");
    assert_eq!(late.await??.status().as_u16(), 500);
    service.wait("errors", 1).await?;
    service.wait("in_flight", 0).await?;
    service.wait("ejected", 0).await
}

/// There is no record of a service's errors before the first, and workers that see theirs at once lose none.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_errors_of_all_workers_are_counted() -> Result<()> {
    const SERVICES: usize = 40;
    let world = builder(&vec![after(4); SERVICES])
        .workers(4)
        .start()
        .await?;
    let mut workers = Vec::new();
    for mut client in on_each_worker(&world, 4).await? {
        workers.push(tokio::spawn(async move {
            for n in 0..SERVICES {
                let hold = n.to_string();
                let bad = [("x-status", "500"), ("x-hold", hold.as_str())];
                client.get(&host(n), &bad).await?;
            }
            anyhow::Ok(())
        }));
    }
    for n in 0..SERVICES {
        world.home.wait_in_flight(4).await?;
        world.home.release(&n.to_string());
        let service = Service::new(&world, n);
        service.wait("errors", 4).await?;
        service.wait("ejected", 1).await?;
    }
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

/// A stats matcher may drop a gauge of one service: that service's requests stay home, which is said once, and no other
/// service is concerned.
#[tokio::test]
async fn a_service_that_envoy_does_not_count_stays_home_and_loses_no_request() -> Result<()> {
    for gauge in ["in_flight", "ejected", "good_answers"] {
        let name = service_metric(&host(0), gauge);
        let world = World::builder()
            .filter(with_limits(&[after(3), after(3)], &[Some(1), Some(1)]))
            .hosts(hosts(2))
            .stats_matcher(&format!(
                "{{exclusion_list: {{patterns: [{{exact: '{name}'}}]}}}}"
            ))
            .workers(2)
            .start()
            .await?;
        let mut held = Vec::new();
        for mut client in on_each_worker(&world, 2).await? {
            for _ in 0..3 {
                let answer = client.get(&host(0), &[]).await?;
                assert_eq!((answer.status, answer.served_by()), (200, HOME), "{gauge}");
                let said = answer.header("x-peer-spillover");
                assert_eq!(said, "home; reason=uncounted", "{gauge}");
            }
            for host in [host(0), host(1)] {
                let mut client = world.client(false).await?;
                held.push(tokio::spawn(async move {
                    client.get(&host, &[("x-hold", "h")]).await
                }));
            }
        }
        // All but one of the service that is counted are at home.
        world.home.wait_in_flight(3).await?;
        world.home.release("h");
        world.peer.release("h");
        for answer in held {
            assert_eq!(answer.await??.status, 200, "{gauge}");
        }
        let uncounted = decisions(&world.envoy, &host(0)).await?;
        let expected = (("home".to_owned(), "uncounted".to_owned()), 8);
        assert_eq!(uncounted.into_iter().collect::<Vec<_>>(), [expected]);
        let other = decisions(&world.envoy, &host(1)).await?;
        assert_eq!(other[&(PEER.to_owned(), "limit".to_owned())], 1, "{gauge}");
        let log = world.envoy.log();
        let said: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" drops "))
            .collect();
        assert_eq!(said.len(), 1, "{said:?}");
        for part in [
            &format!("service {}: its requests stay home", host(0)),
            &name,
            "include the prefix wasmcustom.peer_spillover_",
        ] {
            assert!(said[0].contains(part), "{gauge}: no {part:?} in {said:?}");
        }
    }
    Ok(())
}
