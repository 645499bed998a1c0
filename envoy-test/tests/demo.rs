//! The demo's own claims, on a short run of it: only the surplus leaves, nothing fails, and without the filter it did not.

use clap::Parser;
use envoy_test::demo::options::Options;
use envoy_test::demo::report;
use envoy_test::demo::run::experiment;
use envoy_test::envoy::temp_dir;
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, PEER, World};

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
    // What was at the peer at the transition is answered there, and nothing goes there any more.
    assert!(
        report.filter.totals.seconds_until_all_home.unwrap() < 1.0,
        "{report:?}"
    );

    let without = &report.without_filter.totals.counts;
    assert_eq!(without.peer, 0, "{report:?}");
    assert!(without.home > 0 && without.failed > 0, "{report:?}");

    let dir = temp_dir("demo").unwrap();
    report::write(&report, dir.path()).unwrap();
    let json = std::fs::read_to_string(dir.path().join("result.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["totals"]["failed"], 0);
    assert_eq!(json["phases"][1]["clients"], 3);
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
