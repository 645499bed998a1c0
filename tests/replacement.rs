//! Replacement under load: whatever istiod sends meanwhile, no request spills that was not due to, none is lost, and the
//! counts are right at the end.
//!
//! `PEER_SPILLOVER_REPLACEMENT_SECONDS=60` makes the two loads last so long, instead of 6 seconds; `--nocapture` shows what
//! they came to.

#[path = "replacement/added_again.rs"]
mod added_again;
#[path = "replacement/common.rs"]
mod common;
#[path = "replacement/ticks.rs"]
mod ticks;
#[path = "replacement/upgrade.rs"]
mod upgrade;

use anyhow::Result;
use common::*;
use envoy_test::load::{answered_by, failed};
use envoy_test::world::{HOME, HOST, PEER};

/// Below the limit: limits are raised and lowered, a service comes and goes, and so do modules.
#[tokio::test(flavor = "multi_thread")]
async fn below_the_limit_no_replacement_spills_or_loses_a_request() -> Result<()> {
    let world = world(&[HOST, GUEST], &[(HOST, 24), (GUEST, 12)]).await?;
    let modules = builds(&world)?;
    // A stream outlives its answer by a moment, in which its client may have a new connection, and a request on another
    // worker: so many slots may six clients take.
    let limits = [12, 24, 16];
    let next = |n: u32| {
        let mut services = vec![(HOST, limits[n as usize % 3])];
        if (n / 4).is_multiple_of(2) {
            services.push((GUEST, 12));
        }
        // Four of them, so that old ones come back too, which is another way of Envoy's.
        let module = (n % 15 == 8).then(|| modules[(n / 15 + 1) as usize % 2].clone());
        (config(&services, n % 4), module)
    };
    let loads = [mixed(world.url(), HOST), mixed(world.url(), GUEST)].concat();
    let ([updates, modules], outcomes) = under(loads, updates(&world, next)).await?;
    at_rest(&world.envoy, i64::from(WORKERS) + 1).await?;
    let spilled = world.peer.count();
    eprintln!(
        "below the limit: {updates} updates, {modules} of the module, {} requests, {spilled} spilled, {} failed",
        outcomes.len(),
        failed(&outcomes)
    );
    assert_eq!(failed(&outcomes), 0, "{:?}", failures(&outcomes));
    assert_eq!((spilled, answered_by(&outcomes, HOME)), (0, outcomes.len()));
    assert_eq!(world.home.count(), outcomes.len());
    Ok(())
}

/// Above it: home never has more than the limit, of old VMs and new ones together, and only the surplus leaves.
#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_a_replacement_lets_nobody_in() -> Result<()> {
    const LIMIT: u32 = 4;
    let world = world(&[HOST], &[(HOST, LIMIT)]).await?;
    let modules = builds(&world)?;
    let next = |n: u32| {
        let module = (n % 15 == 8).then(|| modules[(n / 15 + 1) as usize % 2].clone());
        (config(&[(HOST, LIMIT)], n % 4), module)
    };
    let loads = [mixed(world.url(), HOST), mixed(world.url(), HOST)].concat();
    let ([updates, modules], outcomes) = under(loads, updates(&world, next)).await?;
    at_rest(&world.envoy, i64::from(WORKERS) + 1).await?;
    let (home, peer) = (answered_by(&outcomes, HOME), answered_by(&outcomes, PEER));
    eprintln!(
        "above the limit: {updates} updates, {modules} of the module, {home} at home, {peer} at the peer, {} failed",
        failed(&outcomes)
    );
    assert_eq!(failed(&outcomes), 0, "{:?}", failures(&outcomes));
    assert_eq!(world.home.max_in_flight(), LIMIT as usize);
    assert_eq!((world.home.count(), world.peer.count()), (home, peer));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_limit_drains_by_itself_and_a_raised_one_is_room_at_once() -> Result<()> {
    let world = world(&[HOST], &[(HOST, 8)]).await?;
    let modules = builds(&world)?;
    // The second time another module does it, whose VMs hold nothing themselves.
    for module in &modules {
        world
            .set_filter(0, &modules[0], config(&[(HOST, 8)], 0))
            .await?;
        let mut held = Held::none(&world);
        held.more(HOST, 8).await?;
        served_by(&world, HOST, PEER).await?;

        world.set_filter(0, module, config(&[(HOST, 2)], 0)).await?;
        for left in (2..=8).rev() {
            assert_eq!(world.home.in_flight(), left, "nothing is cut off");
            wait_counted(&world, HOST, left as i64).await?;
            served_by(&world, HOST, PEER).await?;
            held.release(1).await?;
        }
        wait_counted(&world, HOST, 1).await?;
        served_by(&world, HOST, HOME).await?;

        held.more(HOST, 1).await?;
        served_by(&world, HOST, PEER).await?;
        world.set_filter(0, module, config(&[(HOST, 4)], 0)).await?;
        served_by(&world, HOST, HOME).await?;
        held.more(HOST, 2).await?;
        served_by(&world, HOST, PEER).await?;
        held.release(4).await?;
        at_rest(&world.envoy, i64::from(WORKERS) + 1).await?;
        world.home.clear();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_of_a_service_that_goes_and_comes_is_right() -> Result<()> {
    let both = [(HOST, 4), (GUEST, 5)];
    let world = world(&[HOST, GUEST], &both).await?;
    for n in 0..3 {
        let mut held = Held::none(&world);
        held.more(GUEST, 3).await?;
        wait_counted(&world, GUEST, 3).await?;
        world.set_filter_config(config(&both[..1], n)).await?;
        // Those that came before are counted, those that come now are none of ours, however many.
        held.more(GUEST, 4).await?;
        assert_eq!(counted(&world, GUEST).await?, 3);
        // It is gone for long enough for every VM to tick, and to tidy up.
        beats(&world, 3).await?;
        assert_eq!(counted(&world, GUEST).await?, 3);

        world.set_filter_config(config(&both, n + 10)).await?;
        held.more(GUEST, 2).await?;
        assert_eq!(counted(&world, GUEST).await?, 5);
        served_by(&world, GUEST, PEER).await?;
        held.release(1).await?;
        wait_counted(&world, GUEST, 4).await?;
        served_by(&world, GUEST, HOME).await?;

        // Gone again, and this time all end before it comes back.
        world.set_filter_config(config(&both[..1], n)).await?;
        held.release(8).await?;
        at_rest(&world.envoy, i64::from(WORKERS) + 1).await?;
        world.set_filter_config(config(&both, n + 20)).await?;
        assert_eq!(counted(&world, GUEST).await?, 0);
        world.home.clear();
    }
    at_rest(&world.envoy, i64::from(WORKERS) + 1).await
}
