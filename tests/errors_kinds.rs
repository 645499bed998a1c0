//! What is an error of home's, and what is none: each kind ejects at its threshold and not one error earlier.

use anyhow::Result;
use common::{Service, after, builder};
use envoy_test::client::{self, Answer};
use envoy_test::world::{HOME, PEER};
use serde_json::{Value, json};

#[path = "errors/common.rs"]
mod common;
#[path = "errors/innocent.rs"]
mod innocent;

/// A request that home answers with an error, as the client sees it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Http1(&'static str, &'static str, u16),
    Http2(&'static str, &'static str, u16),
    Grpc(&'static str, &'static str),
}

impl Kind {
    async fn send(self, service: &Service<'_>) -> Result<Answer> {
        let (answer, expected) = match self {
            Kind::Http1(name, value, status) => (service.get(&[(name, value)]).await?, status),
            Kind::Http2(name, value, status) => (service.get2(&[(name, value)]).await?, status),
            Kind::Grpc(name, value) => (service.grpc(&[(name, value)]).await?, 200),
        };
        assert_eq!(answer.status, expected, "{self:?}: {answer:?}");
        Ok(answer)
    }
}

/// Two errors of a kind eject where two are wanted, and one does not: neither the first nor the one after a good answer.
async fn ejects_at_two(service: &Service<'_>, kind: Kind) -> Result<()> {
    let what = format!("{kind:?}");
    kind.send(service).await?;
    service.wait("errors", 1).await?;
    assert_eq!(service.get(&[]).await?.served_by(), HOME, "{what}");
    kind.send(service).await?;
    service.wait("errors", 2).await?;
    assert_eq!(service.stat("ejected").await?, 0, "{what}: a run of one");
    kind.send(service).await?;
    service.wait("ejected", 1).await?;
    assert_eq!(service.get(&[]).await?.served_by(), PEER, "{what}");
    assert_eq!(service.errors_and_ejected().await?, (3, 1), "{what}");
    assert_eq!(service.stat("ejections").await?, 1, "{what}");
    Ok(())
}

#[tokio::test]
async fn statuses_resets_timeouts_and_grpc_statuses_are_errors() -> Result<()> {
    let kinds = [
        Kind::Http1("x-status", "500", 500),
        Kind::Http2("x-status", "501", 501),
        Kind::Http1("x-status", "502", 502),
        Kind::Http2("x-status", "503", 503),
        Kind::Http1("x-status", "504", 504),
        Kind::Http2("x-status", "599", 599),
        Kind::Http1("x-reset", "before", 503),
        Kind::Http2("x-reset", "before", 503),
        Kind::Http1("x-hold", "never", 504),
        Kind::Http2("x-hold", "never", 504),
        // Trailers only: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, and none at all.
        Kind::Grpc("x-grpc-status", "2"),
        Kind::Grpc("x-grpc-status", "4"),
        Kind::Grpc("x-grpc-status", "12"),
        Kind::Grpc("x-grpc-status", "13"),
        Kind::Grpc("x-grpc-status", "14"),
        Kind::Grpc("x-grpc-status", "15"),
        Kind::Grpc("x-grpc-status", "nonsense"),
        Kind::Grpc("x-grpc-trailer-status", "2"),
        Kind::Grpc("x-grpc-trailer-status", "14"),
        // Envoy's own answers where home breaks off or is late are gRPC's too.
        Kind::Grpc("x-reset", "before"),
        Kind::Grpc("x-hold", "never"),
    ];
    let world = builder(&vec![after(2); kinds.len()])
        .route("timeout: 0.1s")
        .start()
        .await?;
    for (n, kind) in kinds.into_iter().enumerate() {
        ejects_at_two(&Service::new(&world, n), kind).await?;
    }
    Ok(())
}

/// Nobody listens at home, and with Envoy's own outlier detection behind ours, no host is left to try.
#[tokio::test]
async fn connections_that_fail_and_hosts_that_are_not_there_are_errors() -> Result<()> {
    let world = builder(&[after(2), after(2), after(3)])
        .home_cluster("common_lb_config: {healthy_panic_threshold: {value: 0}}\noutlier_detection: {consecutive_5xx: 2, base_ejection_time: 3600s, max_ejection_percent: 100}")
        .start()
        .await?;
    let flags = async |n: usize| {
        let log = world.access_log(n).await?;
        let of = |line: &Value| line["flags"].as_str().unwrap_or_default().to_owned();
        anyhow::Ok(log.iter().map(of).collect::<Vec<_>>())
    };
    let unhealthy = Service::new(&world, 2);
    for _ in 0..2 {
        assert_eq!(unhealthy.get(&[("x-status", "500")]).await?.status, 500);
    }
    let ejected =
        "cluster.outbound|80||s2.istio.svc.cluster.local.outlier_detection.ejections_active";
    world.envoy.wait_stat(ejected, |n| n == 1).await?;
    assert_eq!(unhealthy.errors_and_ejected().await?, (2, 0));
    assert_eq!(unhealthy.get(&[]).await?.status, 503);
    assert_eq!(unhealthy.errors_and_ejected().await?, (3, 1));
    assert_eq!(flags(3).await?, ["-", "-", "UH"]);
    assert_eq!(unhealthy.get(&[]).await?.served_by(), PEER);

    world.home.close().await?;
    for (n, http2) in [(0, false), (1, true)] {
        let service = Service::new(&world, n);
        for errors in 1..=2 {
            let answer = match http2 {
                false => service.get(&[]).await?,
                true => service.grpc(&[]).await?,
            };
            assert_eq!(answer.served_by(), "", "{answer:?}");
            assert_eq!(
                service.errors_and_ejected().await?,
                (errors, i64::from(errors == 2))
            );
        }
        assert_eq!(service.get(&[]).await?.served_by(), PEER);
    }
    let all = flags(10).await?;
    assert_eq!(
        all.iter().filter(|flags| *flags == "UF").count(),
        4,
        "{all:?}"
    );
    Ok(())
}

#[tokio::test]
async fn errors_of_a_gateway_have_a_threshold_of_their_own() -> Result<()> {
    let gateway = |errors: u32, gateway: u32| json!({"consecutive5xxErrors": errors, "consecutiveGatewayErrors": gateway, "baseEjectionTime": "1h"});
    // Answers, and how many of them it takes.
    type Course<'a> = (Value, &'a [&'a str], usize);
    let cases: [Course<'_>; 8] = [
        (gateway(0, 2), &["502", "504"], 2),
        (
            gateway(0, 2),
            &["503", "200", "503", "404", "503", "503"],
            6,
        ),
        // Another 5xx ends the run.
        (
            gateway(0, 2),
            &["503", "500", "502", "501", "504", "503"],
            6,
        ),
        (
            gateway(0, 1),
            &["500", "501", "505", "599", "500", "500", "503"],
            7,
        ),
        (gateway(3, 2), &["500", "503", "500"], 3),
        (gateway(3, 2), &["500", "200", "503", "503"], 4),
        (gateway(5, 0), &["503", "502", "504", "500", "503"], 5),
        // The name that it had before.
        (
            json!({"consecutiveErrors": 2, "baseEjectionTime": "1h"}),
            &["500", "503"],
            2,
        ),
    ];
    let detections: Vec<Value> = cases
        .iter()
        .map(|(detection, ..)| detection.clone())
        .collect();
    let world = builder(&detections).start().await?;
    for (n, (detection, statuses, takes)) in cases.iter().enumerate() {
        let service = Service::new(&world, n);
        for (sent, status) in statuses.iter().enumerate() {
            assert_eq!(
                service.stat("ejected").await?,
                0,
                "{detection}: after {sent}"
            );
            let answer = service.get(&[("x-status", status)]).await?;
            assert_eq!(answer.served_by(), HOME, "{detection}: {status}");
        }
        assert_eq!(statuses.len(), *takes);
        assert_eq!(
            service.stat("ejected").await?,
            1,
            "{detection}: {statuses:?}"
        );
    }
    Ok(())
}

/// With both thresholds at 0 nothing ejects, and nothing is counted.
#[tokio::test]
async fn without_a_threshold_nothing_ejects() -> Result<()> {
    let off = json!({"consecutive5xxErrors": 0});
    let world = builder(&[off]).start().await?;
    let service = Service::new(&world, 0);
    for _ in 0..20 {
        let answer = service.get(&[("x-status", "503")]).await?;
        assert_eq!((answer.status, answer.served_by()), (503, HOME));
    }
    assert_eq!(world.envoy.stats_matching(";.;ejections").await?.len(), 0);
    Ok(())
}

/// An answer that began well and is broken off is an error. As its beginning was a good answer, only those that are open
/// at a time come to more than one in a row.
#[tokio::test]
async fn answers_that_are_broken_off_are_errors() -> Result<()> {
    let detections = [after(1), after(1), after(3), after(3), after(2)];
    let world = builder(&detections).start().await?;
    let broken = [("x-reset", "mid"), ("x-hold-body", "break")];
    for (n, http2, at_a_time, ejected) in [
        (0, false, 1, 1),
        (1, true, 1, 1),
        (2, false, 2, 0),
        (3, true, 2, 0),
        (2, false, 3, 1),
        (3, true, 3, 1),
    ] {
        let what = format!("{at_a_time} at a time, http2 {http2}");
        let service = Service::new(&world, n);
        let before = service.stat("errors").await?;
        let mut begun = Vec::new();
        for _ in 0..at_a_time {
            begun.push(service.begin(http2, &broken).await?);
        }
        assert_eq!(service.stat("errors").await?, before, "{what}: not yet");
        world.home.release("break");
        for answer in begun {
            assert!(answer.rest.await.is_err(), "{what}: it is broken off");
        }
        service.wait("errors", before + at_a_time).await?;
        service.wait_done().await?;
        assert_eq!(service.stat("ejected").await?, ejected, "{what}");
        world.home.clear();
    }
    // gRPC is judged at its end, so its broken answers are errors in a row one after the other.
    let service = Service::new(&world, 4);
    let grpc = [broken[0], broken[1], ("content-type", "application/grpc")];
    for errors in 1..=2 {
        let begun = service.begin(true, &grpc).await?;
        world.home.release("break");
        assert!(begun.rest.await.is_err());
        service.wait("errors", errors).await?;
        world.home.clear();
    }
    service.wait("ejected", 1).await
}

/// A status that says nothing against home begins the run anew, in headers and in trailers.
#[tokio::test]
async fn grpc_statuses_that_are_no_errors_begin_the_run_anew() -> Result<()> {
    let innocent = ["0", "1", "3", "5", "6", "7", "8", "9", "10", "11", "16"];
    let world = builder(&vec![after(2); 2 * innocent.len()]).start().await?;
    for (n, status) in innocent.iter().enumerate() {
        for (half, header) in ["x-grpc-status", "x-grpc-trailer-status"]
            .iter()
            .enumerate()
        {
            let service = Service::new(&world, n + half * innocent.len());
            for (header, status) in [
                ("x-grpc-status", "14"),
                (header, status),
                ("x-grpc-trailer-status", "14"),
                (header, status),
                ("x-grpc-status", "14"),
            ] {
                let answer = service.grpc(&[(header, status)]).await?;
                assert_eq!(answer.served_by(), HOME);
            }
            assert_eq!(
                service.errors_and_ejected().await?,
                (3, 0),
                "{header} {status}"
            );
            service.grpc(&[("x-grpc-status", "13")]).await?;
            service.wait("ejected", 1).await?;
        }
    }
    Ok(())
}

/// The filter sees a request once, with the answer that the router came to.
#[tokio::test]
async fn retries_are_one_answer() -> Result<()> {
    let world = builder(&[after(2), after(2)])
        .route("timeout: 0s\nretry_policy: {retry_on: '5xx', num_retries: 2}")
        .start()
        .await?;
    let service = Service::new(&world, 0);
    for errors in 1..=2 {
        let answer = service.get(&[("x-reset", "before")]).await?;
        assert_eq!(answer.status, 503);
        assert_eq!(world.home.count(), 3 * errors);
        let expected = (errors as i64, i64::from(errors == 2));
        assert_eq!(service.errors_and_ejected().await?, expected);
    }
    let log = world.access_log(2).await?;
    assert!(log.iter().all(|line| line["attempts"] == 3), "{log:?}");
    // Home is gone at the first attempt, and there at the last: a good answer, to its end.
    let service = Service::new(&world, 1);
    service.get(&[("x-status", "500")]).await?;
    let mut client = world.client(false).await?;
    let seen = world.home.count();
    let answer = client.start(client::get(&service.host, &[("x-hold", "late")])?);
    let task = tokio::spawn(answer);
    envoy_test::until("the first attempt", || world.home.count() > seen).await?;
    world.home.close().await?;
    world.home.reopen().await?;
    world.home.release("late");
    let answer = client::read(task.await??).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    service.wait_done().await?;
    assert_eq!(service.errors_and_ejected().await?, (1, 0));
    service.get(&[("x-status", "500")]).await?;
    assert_eq!(
        service.errors_and_ejected().await?,
        (2, 0),
        "the run began anew"
    );
    Ok(())
}
