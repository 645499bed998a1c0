//! The origin's experiment on real Istio: 1, 3, 1 connections, as it was, with the filter, and with both.

use anyhow::Result;
use demo::result::{Counts, Run};
use istio_test::experiment::{Load, apply_plugin, both, origin, run};
use istio_test::federation::plugin_config;
use istio_test::fixture::{federated, fresh};

fn load() -> Load {
    Load {
        clients: vec![1, 3, 1],
        seconds: 4,
    }
}

/// Only the surplus leaves: nothing while one connection fits, some of three, and none fails.
fn only_the_surplus_left(run: &Run) {
    let counts: Vec<Counts> = run.phases.iter().map(|phase| phase.counts).collect();
    for counts in &counts {
        assert!(counts.home > 0 && counts.failed == 0, "{run:?}");
    }
    assert_eq!(counts[0].peer, 0, "one connection fits: {run:?}");
    assert!(
        counts[1].peer > counts[1].home,
        "of three, two leave: {run:?}"
    );
    // A request of the second phase may still be at home when the third begins.
    assert!(counts[2].peer <= 2, "all come home again: {run:?}");
    assert_eq!(run.totals.most_in_flight_at_home, 1, "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_set_up_of_2020_fails_and_ours_spills_only_the_surplus() -> Result<()> {
    let mesh = fresh().await?;
    let report = both(&mesh, &load(), |_, _, _| ()).await?;
    let origin = &report.without_filter.totals;
    assert_eq!(
        origin.counts.peer, 0,
        "the origin's set-up redirects nothing"
    );
    assert!(origin.counts.failed > 0);
    let statuses: Vec<u16> = origin.failed_by_status.keys().copied().collect();
    assert_eq!(statuses, [503]);
    only_the_surplus_left(&report.filter);
    Ok(())
}

/// Whoever has the origin's two manifests can leave them where they are.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_origins_manifests_left_in_place() -> Result<()> {
    let (mesh, folder) = federated().await?;
    origin(&mesh).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let run = run(&mesh, &load(), |_, _| ()).await?;
    println!("{run:?}");
    only_the_surplus_left(&run);
    Ok(())
}

/// What says that home never had more than its limit sees it where it has: without a limit it has all three.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_limit_in_flight_would_be_seen() -> Result<()> {
    let mesh = fresh().await?;
    let load = Load {
        clients: vec![1, 3],
        seconds: 2,
    };
    let run = run(&mesh, &load, |_, _| ()).await?;
    let most = &run.most_in_flight_per_second;
    assert_eq!(
        (most.len(), run.totals.most_in_flight_at_home),
        (4, 3),
        "{run:?}"
    );
    assert_eq!(most[0], 1, "{run:?}");
    Ok(())
}
