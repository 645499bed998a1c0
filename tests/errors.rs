//! Error detection: home is ejected for its errors, probed, and takes its load back.

use anyhow::Result;
use common::{Service, after, builder, detecting};
use envoy_test::World;
use envoy_test::client::get;
use envoy_test::world::{HOME, HOST, PEER, Update, plugin_config};
use serde_json::json;

#[path = "errors/common.rs"]
mod common;
#[path = "errors/overflow.rs"]
mod overflow;
#[path = "errors/probe.rs"]
mod probe;
#[path = "errors/workers.rs"]
mod workers;

/// The course of an outage: home is gone, its requests go to the peer, and when it is there again a probe finds that out,
/// and nobody else had an error.
#[tokio::test]
async fn errors_in_a_row_eject_home_and_a_probe_brings_it_back() -> Result<()> {
    for workers in [1, 2] {
        let detection =
            json!({"consecutive5xxErrors": 3, "interval": "200ms", "baseEjectionTime": "300ms"});
        let world = builder(&[detection]).workers(workers).start().await?;
        let service = Service::new(&world, 0);
        for status in ["500", "503", "200", "500", "501", "502"] {
            let answer = service.get(&[("x-status", status)]).await?;
            assert_eq!(answer.header("x-peer-spillover"), "home; reason=room");
            assert_eq!(answer.status.to_string(), status);
        }
        assert_eq!(service.errors_and_ejected().await?, (5, 1));
        world.home.close().await?;
        let answer = service.get(&[]).await?;
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
        assert_eq!(answer.served_by(), PEER);
        // As long as it is gone, a probe alone fails, and it is one of those that were ejected for longer.
        let mut failed = 0;
        while service.ejected_for().len() < 3 {
            let answer = service.get(&[]).await?;
            let probe = answer.header("x-peer-spillover") == "home; reason=probe";
            assert_eq!(answer.served_by(), if probe { "" } else { PEER });
            failed += u32::from(probe);
        }
        assert_eq!((failed, service.stat("ejections").await?), (2, 3));
        assert_eq!(service.ejected_for(), [300, 600, 900]);
        world.home.reopen().await?;
        let mut reasons: Vec<String> = vec![];
        while reasons
            .last()
            .is_none_or(|last| last != "home; reason=room")
        {
            let answer = service.get(&[]).await?;
            assert_eq!(answer.status, 200);
            let reason = answer.header("x-peer-spillover").to_owned();
            if reasons.last() != Some(&reason) {
                reasons.push(reason);
            }
        }
        let course = ["gke; reason=ejected", "home; reason=probe"];
        assert_eq!(reasons[..2], course, "{reasons:?}");
        service.wait("ejected", 0).await?;
        assert_eq!(service.get(&[]).await?.served_by(), HOME);
        service.wait_done().await?;
    }
    Ok(())
}

/// After the probe home takes its load back little by little, whether or not there is any.
#[tokio::test]
async fn a_ramp_and_not_a_cliff() -> Result<()> {
    let detection =
        json!({"consecutive5xxErrors": 1, "interval": "1s", "baseEjectionTime": "200ms"});
    let world = builder(&[detection]).start().await?;
    let service = Service::new(&world, 0);
    for requests in [true, false] {
        service.get(&[("x-status", "500")]).await?;
        while service.stat("ejected").await? != 2 {
            service.get(&[]).await?;
        }
        let mut course = vec![];
        while requests && service.stat("ejected").await? == 2 {
            for _ in 0..5 {
                let answer = service.get(&[]).await?;
                assert_eq!(answer.status, 200);
                course.push(match answer.header("x-peer-spillover") {
                    "home; reason=room" => true,
                    "gke; reason=ramp" => false,
                    other => panic!("{other}"),
                });
            }
        }
        service.wait("ejected", 0).await?;
        if requests {
            let half = course.len() / 2;
            let home = |part: &[bool]| part.iter().filter(|home| **home).count();
            let (first, last) = (home(&course[..half]), home(&course[half..]));
            assert!(first < last, "of {half} each: {first}, then {last}");
            let at = course.iter().position(|home| *home).unwrap_or(course.len());
            assert!(course[at..].contains(&false), "to and fro: {course:?}");
            assert!(!course[0], "the ramp begins at nothing");
        }
        assert_eq!(service.get(&[]).await?.served_by(), HOME);
    }
    Ok(())
}

/// An error in the ramp ejects again, and for longer.
#[tokio::test]
async fn an_error_in_the_ramp_ejects_for_longer() -> Result<()> {
    let detection =
        json!({"consecutive5xxErrors": 1, "interval": "1h", "baseEjectionTime": "200ms"});
    let world = builder(&[detection]).start().await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    while service.stat("ejected").await? != 2 {
        service.get(&[]).await?;
    }
    // Hardly anything goes home at the beginning of an hour.
    until_home(&service, &[("x-status", "500")]).await?;
    assert_eq!(service.ejected_for(), [200, 400]);
    assert_eq!(service.stat("ejected").await?, 1);
    Ok(())
}

/// Sends requests until one of them is home's.
async fn until_home(service: &Service<'_>, headers: &[(&str, &str)]) -> Result<()> {
    let mut client = service.world.client(false).await?;
    let before = service.world.home.count();
    while service.world.home.count() == before {
        client.get(&service.host, headers).await?;
    }
    Ok(())
}

/// `maxEjectionPercent` bounds the share of requests that are diverted, and nothing else does it as well as this:
/// 1 diverts hardly any.
#[tokio::test]
async fn max_ejection_percent_bounds_what_is_diverted() -> Result<()> {
    let percents = [1, 10, 50, 100];
    let detections = percents.map(|percent| {
        let mut detection = after(1);
        detection["maxEjectionPercent"] = percent.into();
        detection
    });
    let world = builder(&detections).workers(2).start().await?;
    for (n, percent) in percents.into_iter().enumerate() {
        let service = Service::new(&world, n);
        service.get(&[("x-status", "500")]).await?;
        assert_eq!(service.errors_and_ejected().await?, (1, 1));
        world.peer.clear();
        for _ in 0..200 {
            assert_eq!(service.get(&[]).await?.status, 200);
        }
        let diverted = world.peer.count() as i64;
        let expected = 2 * percent;
        assert!(
            (diverted - expected).abs() <= if percent == 100 { 0 } else { 20 },
            "{percent} %: {diverted} of 200"
        );
    }
    Ok(())
}

/// Where nobody may be diverted, errors change nothing.
#[tokio::test]
async fn observed_drained_and_evacuated_services_are_not_diverted_for_errors() -> Result<()> {
    let mut config = detecting(&vec![after(1); 4]);
    config["services"][0]["mode"] = "observe".into();
    config["services"][1]["peers"][0]["mode"] = "drain".into();
    config["services"][2]["peers"][0]["mode"] = "drain".into();
    config["services"][2]["whenFull"] = "reject".into();
    config["services"][3]["mode"] = "evacuate".into();
    let world = builder(&vec![after(1); 4]).filter(config).start().await?;
    for n in 0..3 {
        let service = Service::new(&world, n);
        for _ in 0..5 {
            let answer = service.get(&[("x-status", "500")]).await?;
            assert_eq!((answer.status, answer.served_by()), (500, HOME), "{n}");
        }
        assert_eq!(service.get(&[]).await?.served_by(), HOME, "{n}");
    }
    // What would have been is counted.
    let service = Service::new(&world, 0);
    assert_eq!(service.errors_and_ejected().await?, (1, 1));
    let decided = envoy_test::world::decisions(&world.envoy, &service.host).await?;
    let of = |to: &str, why: &str| decided.get(&(to.to_owned(), why.to_owned())).copied();
    assert_eq!(of("gke", "ejected"), Some(5), "{decided:?}");

    let evacuated = Service::new(&world, 3);
    for status in ["500", "200", "500"] {
        let answer = evacuated.get(&[("x-status", status)]).await?;
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=evacuate");
    }
    assert_eq!(evacuated.errors_and_ejected().await?, (0, 0));
    Ok(())
}

/// A new configuration goes on with what is known of home. One without detection knows nothing of errors: home is
/// available, also where a request of before comes to its end as an error.
#[tokio::test]
async fn an_ejection_outlives_a_configuration_but_not_its_detection() -> Result<()> {
    let world = builder(&[after(1)]).workers(2).start().await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    for limit in [7, 8] {
        let mut config = detecting(&[after(1)]);
        let policy = &mut config["services"][0]["trafficPolicy"];
        policy["connectionPool"]["http"]["http2MaxRequests"] = limit.into();
        assert_eq!(world.set_filter_config(config).await?, Update::Accepted);
        service.wait("limit", limit).await?;
        for _ in 0..5 {
            let answer = service.get(&[]).await?;
            assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
        }
        assert_eq!(service.errors_and_ejected().await?, (1, 1));
    }
    let off = json!({"consecutive5xxErrors": 0});
    world.set_filter_config(detecting(&[off])).await?;
    service.wait("ejected", 0).await?;
    for _ in 0..5 {
        let answer = service.get(&[("x-status", "500")]).await?;
        assert_eq!(answer.served_by(), HOME);
    }
    assert_eq!(service.stat("ejected").await?, 0);
    // And with detection again, from the beginning.
    world.set_filter_config(detecting(&[after(2)])).await?;
    service.wait("limit", 1000).await?;
    for ejected in [0, 1] {
        let answer = service.get(&[("x-status", "500")]).await?;
        assert_eq!(answer.served_by(), HOME);
        assert_eq!(service.stat("ejected").await?, ejected);
    }
    assert_eq!(service.get(&[]).await?.served_by(), PEER);
    Ok(())
}

/// A request that began under detection ends as an error when there is none any more: nobody is there to end an ejection.
#[tokio::test]
async fn an_error_that_comes_after_its_detection_ejects_nobody() -> Result<()> {
    let world = builder(&[after(1)]).start().await?;
    let service = Service::new(&world, 0);
    let mut client = world.client(false).await?;
    let late = get(&service.host, &[("x-hold", "late"), ("x-status", "500")])?;
    let late = tokio::spawn(client.start(late));
    world.home.wait_in_flight(1).await?;
    service.get(&[("x-status", "500")]).await?;
    assert_eq!(service.stat("ejected").await?, 1);
    let off = json!({"consecutive5xxErrors": 0});
    world.set_filter_config(detecting(&[off])).await?;
    service.wait("ejected", 0).await?;
    world.home.release("late");
    assert_eq!(late.await??.status().as_u16(), 500);
    service.wait_done().await?;
    service.wait("ejected", 0).await
}

/// A stream keeps the configuration alive that it began under, which goes on ticking and has no say in an ejection: neither
/// one that ejects nobody, nor one whose ramp is short.
#[tokio::test]
async fn a_configuration_that_a_stream_keeps_alive_has_no_say() -> Result<()> {
    let off = json!({"consecutive5xxErrors": 0});
    let fast = json!({"consecutive5xxErrors": 1, "interval": "1ms", "baseEjectionTime": "1ms"});
    let world = builder(&[off, fast]).start().await?;
    let services = [Service::new(&world, 0), Service::new(&world, 1)];
    let mut held = Vec::new();
    for service in &services {
        held.push(service.begin(false, &[("x-hold-body", "kept")]).await?);
    }
    let slow = json!({"consecutive5xxErrors": 1, "interval": "1h", "baseEjectionTime": "1ms"});
    world
        .set_filter_config(detecting(&[after(1), slow]))
        .await?;
    for service in &services {
        service.get(&[("x-status", "500")]).await?;
    }
    until_home(&services[1], &[]).await?;
    services[1].wait("ejected", 2).await?;
    world.wait_ticks(10).await?;
    assert_eq!(services[0].errors_and_ejected().await?, (1, 1));
    assert_eq!(services[0].get(&[]).await?.served_by(), PEER);
    assert_eq!(services[1].stat("ejected").await?, 2, "in its ramp");
    world.home.release("kept");
    for begun in held {
        begun.rest.await?;
    }
    Ok(())
}

/// A worker that has seen a thousand good answers reads only some of them, and ejects at most a run late all the same.
#[tokio::test]
async fn after_a_long_calm_a_run_of_errors_still_ejects() -> Result<()> {
    let thresholds = [1, 3, 5, 20];
    let detections = thresholds.map(after);
    let world = builder(&detections).start().await?;
    for (n, threshold) in thresholds.into_iter().enumerate() {
        let service = Service::new(&world, n);
        let mut client = world.client(false).await?;
        for _ in 0..1010 {
            assert_eq!(client.get(&service.host, &[]).await?.served_by(), HOME);
        }
        let read = service.stat("good_answers").await?;
        assert_eq!(read < 1010, threshold > 1, "{threshold}: {read} were read");
        let mut errors = 0;
        while client
            .get(&service.host, &[("x-status", "500")])
            .await?
            .served_by()
            == HOME
        {
            errors += 1;
        }
        let most = threshold + threshold.min(5) - 1;
        assert!(
            (threshold..=most).contains(&errors),
            "{threshold}: ejected after {errors}"
        );
    }
    Ok(())
}

/// With `routing: header`, and for the service that is known by no name.
#[tokio::test]
async fn every_kind_of_service_can_be_ejected() -> Result<()> {
    for (host, routing) in [(HOST, "header"), ("*", "authority")] {
        let mut config = plugin_config(1000);
        let service = &mut config["services"][0];
        service["host"] = host.into();
        service["routing"] = routing.into();
        service["trafficPolicy"] = json!({"outlierDetection": after(2)});
        let world = World::builder().filter(config).start().await?;
        let mut client = world.client(true).await?;
        for served_by in [HOME, HOME, PEER, PEER] {
            let answer = client.send(get(HOST, &[("x-status", "500")])?).await?;
            assert_eq!(answer.served_by(), served_by, "{host} {routing}");
        }
    }
    Ok(())
}
