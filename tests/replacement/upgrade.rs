//! An upgrade from the module of a release before, under load: its counts are gone on with, and what it counted ends.

use anyhow::Result;
use envoy_test::load::{answered_by, failed};
use envoy_test::world::{HOME, HOST, PEER};

use super::common::*;

/// The last commit whose shares and roster have the names of before.
const BEFORE: &str = "63738d64518c9b481290013791810d17269e56ea";

/// The new VMs see what the old ones have in flight, and take nothing off of it while the old ones live.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_on_with_the_counts_of_the_module_before() -> Result<()> {
    let world = world(&[HOST], &[(HOST, 4)]).await?;
    let (old, new) = (xtask::before::module(BEFORE)?, xtask::filter::ensure()?);
    world.set_filter(0, &old, config(&[(HOST, 4)], 1)).await?;
    let mut held = Held::none(&world);
    held.more(HOST, 3).await?;
    wait_counted(&world, HOST, 3).await?;

    world.set_filter(0, &new, config(&[(HOST, 4)], 2)).await?;
    served_by(&world, HOST, HOME).await?;
    held.more(HOST, 1).await?;
    served_by(&world, HOST, PEER).await?;
    // Long enough for the VMs of both to look for others that are dead.
    beats(&world, 20).await?;
    wait_counted(&world, HOST, 4).await?;
    served_by(&world, HOST, PEER).await?;

    held.release(3).await?;
    wait_counted(&world, HOST, 1).await?;
    served_by(&world, HOST, HOME).await?;
    held.release(1).await?;
    at_rest(&world.envoy, i64::from(WORKERS) + 1).await
}

/// There and back again, while requests come above the limit: home never has more, of both modules together.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_an_upgrade_lets_nobody_in_and_loses_no_request() -> Result<()> {
    const LIMIT: u32 = 4;
    let world = world(&[HOST], &[(HOST, LIMIT)]).await?;
    let modules = [xtask::before::module(BEFORE)?, xtask::filter::ensure()?];
    let next = |n: u32| {
        let module = (n % 15 == 1).then(|| modules[(n / 15) as usize % 2].clone());
        (config(&[(HOST, LIMIT)], n), module)
    };
    let loads = [mixed(world.url(), HOST), mixed(world.url(), HOST)].concat();
    let ([updates, modules], outcomes) = under(loads, updates(&world, next)).await?;
    let (home, peer) = (answered_by(&outcomes, HOME), answered_by(&outcomes, PEER));
    eprintln!(
        "{updates} updates, {modules} of the module, {home} at home, {peer} at the peer, {} failed",
        failed(&outcomes)
    );
    assert!(modules > 1, "{modules}");
    assert_eq!(failed(&outcomes), 0, "{:?}", failures(&outcomes));
    assert_eq!(world.home.max_in_flight(), LIMIT as usize);
    assert_eq!((world.home.count(), world.peer.count()), (home, peer));
    wait_counted(&world, HOST, 0).await
}
