//! The demo's own claims, on short runs of it: only the surplus leaves, nothing fails, and without the filter it did not; a
//! home that is ejected, for being full or for its errors, comes back.

use std::path::Path;

use clap::Parser;
use demo::errors::errors;
use demo::options::Options;
use demo::peers::peers;
use demo::run::experiment;
use demo::{keep, report};
use envoy_test::client::Client;
use envoy_test::envoy::temp_dir;
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PEER, World};

/// The run checks itself: the shares, the limits, the order of the peers, what a dead one costs, and all counts.
#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_goes_to_three_peers_and_past_one_that_is_dead() {
    let options = Options::parse_from(["demo", "--peers", "3", "--seconds", "3"]);
    let report = peers(&options).await.unwrap().report;
    assert_eq!(report.broken, None, "{report:?}");
    let dir = temp_dir("demo-peers").unwrap();
    report::write_peers(&report, dir.path()).unwrap();
    for file in ["peers.json", "peers.svg", "peers.png"] {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
}

async fn claims_hold(arguments: &[&str]) {
    let options = Options::parse_from([&["demo", "--seconds", "2"], arguments].concat());
    let report = experiment(&options).await.unwrap().report;
    assert_eq!(report.broken_promise(), None, "{report:?}");

    let [before, over, after] = &report.filter.phases[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (before.counts.peer, before.counts.failed),
        (0, 0),
        "{report:?}"
    );
    assert!(
        over.counts.home > 0 && over.counts.peer > over.counts.home,
        "{report:?}"
    );
    assert!(after.counts.home > after.counts.peer, "{report:?}");
    // What was at the peer when the load changed is answered there, and nothing goes there any more.
    assert!(
        report.filter.totals.seconds_until_all_home.unwrap() < 1.0,
        "{report:?}"
    );

    let without = &report.without_filter.totals.counts;
    assert_eq!(without.peer, 0, "{report:?}");
    assert!(without.home > 0 && without.failed > 0, "{report:?}");
    // Home counted itself, second by second.
    for run in [&report.filter, &report.without_filter] {
        let most = &run.most_in_flight_per_second;
        assert_eq!((most.len(), most.iter().max()), (6, Some(&1)), "{report:?}");
    }

    let dir = temp_dir("demo").unwrap();
    report::write(&report, dir.path()).unwrap();
    let json = std::fs::read_to_string(dir.path().join("result.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["totals"]["failed"], 0);
    assert_eq!(json["phases"][1]["clients"], 3);
    let most = json["most_in_flight_per_second"].as_array().unwrap();
    assert!(most.contains(&1.into()), "{most:?}");
    assert_eq!(json["without_filter"]["totals"]["peer"], 0);
    assert!(
        dir.path().join("spillover.svg").is_file() && dir.path().join("spillover.png").is_file()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_surplus_leaves_by_authority() {
    claims_hold(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_surplus_leaves_by_header() {
    claims_hold(&["--routing", "header", "--workers", "4"]).await;
}

/// A home that is full gets nothing, all of it is at the peer, and it comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_home_is_ejected_as_a_whole_and_comes_back() {
    let arguments = "demo --overflow eject --clients 3,1 --seconds 2 --ejection 2s";
    let options = Options::parse_from(arguments.split(' '));
    let options = options.check().unwrap();
    let done = experiment(&options).await.unwrap();
    let (report, eject) = (&done.report, done.eject.as_ref().unwrap());
    assert_eq!(report.broken_promise(), None, "{report:?}");
    assert_eq!(eject.broken, None, "{eject:?}");

    let [over, after] = &report.filter.phases[..] else {
        panic!("{report:?}")
    };
    // With the surplus alone leaving, home would have a third.
    assert!(over.counts.peer > 10 * over.counts.home, "{report:?}");
    assert!(after.counts.home > 0, "{report:?}");
    let [ejection] = &eject.course.ejections[..] else {
        panic!("{eject:?}")
    };
    assert_eq!((ejection.probe, eject.course.ramps.len()), (Some(200), 1));
    assert!(!eject.witnesses.is_empty());
    assert!(report.without_filter.totals.counts.failed > 0, "{report:?}");

    let dir = temp_dir("demo").unwrap();
    report::write_eject(report, eject, dir.path()).unwrap();
    let json = written(dir.path(), "eject");
    assert_eq!(json["totals"]["failed"], 0);
    assert_eq!(json["course"]["ejections"][0]["probe"], 200);
    assert_eq!(json["without_filter"]["totals"]["peer"], 0);
    assert!(
        eject
            .summary("gke")
            .contains("home was full: home is ejected")
    );
}

/// The clients see the errors that it takes, one more for each probe that fails, and nothing else fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_fails_is_ejected_probed_and_takes_its_load_back() {
    let arguments = ["demo", "--errors", "--seconds", "2", "--ejection", "1s"];
    let options = Options::parse_from(arguments).check().unwrap();
    let report = errors(&options).await.unwrap().report;
    assert_eq!(report.broken, None, "{report:?}");

    let [well, failing, again] = &report.phases[..] else {
        panic!("{report:?}")
    };
    assert!(well.counts.home > 0 && well.counts.peer == 0, "{report:?}");
    assert!(failing.counts.peer > 0, "{report:?}");
    assert!(again.counts.peer > 0 && again.counts.home > 0, "{report:?}");
    assert!(report.failed_before_ejection >= 5, "{report:?}");
    let failed = report.failed_before_ejection + report.course.failed_probes() as u64;
    assert_eq!(report.totals.failed, failed, "{report:?}");
    assert!(report.course.failed_probes() > 0, "{report:?}");
    assert_eq!(report.course.ramps.len(), 1, "{report:?}");

    let dir = temp_dir("demo").unwrap();
    report::write_errors(&report, dir.path()).unwrap();
    let json = written(dir.path(), "errors");
    assert_eq!(json["phases"][1]["fails"], true);
    assert_eq!(json["failed_by_status"]["500"], failed);
    assert_eq!(json["course"]["ejections"][0]["probe"], 500);
    assert!(report.summary().contains("the probe was answered"));
}

/// The commands of what `--keep` prints, as a reader copies them.
fn commands(lines: &str) -> Vec<&str> {
    lines
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect()
}

/// What a shell says to a command.
async fn shell(command: &str) -> String {
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-c", command]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {said} {output:?}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_to_play_with_spill() {
    for limit in ["1", "2"] {
        let arguments = "demo --keep --clients 1 --seconds 1 --limit".split(' ');
        let options = Options::parse_from(arguments.chain([limit]));
        let done = experiment(&options).await.unwrap();
        let lines = keep::lines(&options, &done);
        let [one, with, without, stats, config] = commands(&lines)[..] else {
            panic!("{lines}")
        };
        let said = shell(one).await;
        assert!(
            said.contains("x-peer-spillover: home; reason=room"),
            "{said}"
        );
        let said = shell(with).await;
        let answers: Vec<&str> = said.lines().collect();
        let by = |name: &str| {
            let name = format!("\"name\":\"{name}\"");
            answers.iter().filter(|line| line.contains(&name)).count()
        };
        assert_eq!(answers.len(), options.limit as usize + 2, "{said}");
        assert!(answers.iter().all(|line| line.ends_with(" 200")), "{said}");
        assert!(by(HOME) > 0 && by(PEER) > 0, "{said}");
        assert_eq!(by(HOME) + by(PEER), answers.len(), "{said}");
        let said = shell(without).await;
        assert!(said.contains(" 503\n") && !said.contains(PEER), "{said}");
        assert!(shell(stats).await.contains("reason=.=limit"));
        let config: serde_json::Value = serde_json::from_str(&shell(config).await).unwrap();
        assert_eq!(config["cluster"], HOME);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_to_play_with_eject_a_home_that_fails() {
    let arguments = "demo --errors --keep --seconds 1 --ejection 1s".split(' ');
    let options = Options::parse_from(arguments).check().unwrap();
    let done = errors(&options).await.unwrap();
    let lines = keep::errors_lines(&options, &done);
    let [one, failing, after, _, _] = commands(&lines)[..] else {
        panic!("{lines}")
    };
    assert!(shell(one).await.contains("reason=room"));
    let said = shell(&format!("{failing}\n{after}")).await;
    assert_eq!(said.matches(" 500\n").count(), 5, "{said}");
    for decision in [
        "gke; reason=ejected",
        "home; reason=probe",
        "home; reason=room",
    ] {
        assert!(said.contains(decision), "{decision}: {said}");
    }
}

/// The result in `dir`, beside which its figure must be.
fn written(dir: &Path, name: &str) -> serde_json::Value {
    for figure in ["svg", "png"] {
        let path = dir.join(name).with_extension(figure);
        assert!(path.is_file(), "{}", path.display());
    }
    let json = std::fs::read_to_string(dir.join(name).with_extension("json")).unwrap();
    serde_json::from_str(&json).unwrap()
}

/// Why its clients may send fewer requests than those of the filter: of those that one worker has, one is not refused, it
/// waits for the one connection, and its client with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_set_up_of_2020_lets_one_request_wait() {
    let world = World::builder().origin_of_2020().start().await.unwrap();
    let sent = |headers: &'static [(&str, &str)]| {
        let addr = world.addr();
        tokio::spawn(async move { Client::connect(addr, false).await?.get(HOST, headers).await })
    };
    let first = sent(&[("x-hold", "first")]);
    world.home.wait_in_flight(1).await.unwrap();
    let second = sent(&[]);
    let waiting = format!("cluster.outbound|80||{HOST}.upstream_rq_pending_active");
    world.envoy.wait_stat(&waiting, |n| n == 1).await.unwrap();
    let third = sent(&[]);
    let refused = format!("cluster.outbound|80||{HOST}.upstream_rq_pending_overflow");
    world.envoy.wait_stat(&refused, |n| n == 1).await.unwrap();
    assert_eq!(third.await.unwrap().unwrap().status, 503);
    assert!(!second.is_finished());
    world.home.release("first");
    for waited in [first, second] {
        let answer = waited.await.unwrap().unwrap();
        assert_eq!((answer.status, answer.served_by()), (200, HOME));
    }
    assert_eq!(world.home.max_in_flight(), 1);
}

/// The comparison is fair: the peer is there for the set-up of 2020, and one error of home sends everything to it. Only
/// an overflow no longer does.
#[tokio::test(flavor = "multi_thread")]
async fn the_set_up_of_2020_redirects_after_an_error() {
    let world = World::builder().origin_of_2020().start().await.unwrap();
    assert_eq!(world.get(&[]).await.unwrap().served_by(), HOME);
    assert_eq!(world.get(&[("x-status", "500")]).await.unwrap().status, 500);
    // The ejection goes by way of Envoy's main thread: the very next request can still be home's.
    let redirected = async || (world.get(&[]).await.ok()?.served_by() == PEER).then_some(());
    until_some("the peer answers", redirected).await.unwrap();
}
