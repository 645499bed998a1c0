//! What a limit does not bound. The filter counts requests that it lets go home, and a request is over for it when Envoy
//! says so. These tests show home with more open than its limit; if one fails, the documentation promises too little.

use anyhow::Result;
use envoy_test::world::{HOST, PEER};
use envoy_test::{World, until};
use nothing::{Slot, raw, read_head};
use tokio::net::TcpStream;

#[path = "common/nothing.rs"]
mod nothing;

/// Sends a request whose upstream works on when it is aborted: it has not read the body, so it does not see the end of
/// the connection behind it. It ends by `release("go")`.
async fn stubborn(world: &World) -> Result<TcpStream> {
    let body = vec![b'x'; 400_000];
    let head = "POST /stubborn HTTP/1.1\nx-early: 1\nx-hold: go\ncontent-length: 400000";
    raw(world, head, &body).await
}

/// In the end nothing is left over: the count was right all along, for what it counts.
async fn ends(world: &World) -> Result<()> {
    world.home.release("go");
    world.wait_idle().await?;
    world.home.clear();
    let slot = Slot::take(world).await?;
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    slot.give_back().await
}

#[tokio::test]
async fn a_retry_of_the_router_overshoots_while_the_attempt_before_works_on() -> Result<()> {
    let world = World::builder()
        .route("timeout: 0s\nretry_policy: {retry_on: 5xx, num_retries: 2, per_try_timeout: 0.2s}")
        .start()
        .await?;
    let mut stream = stubborn(&world).await?;
    until("three attempts of one request work at home", || {
        world.home.in_flight() == 3
    })
    .await?;
    let head = read_head(&mut stream).await?;
    assert!(head.starts_with("http/1.1 504"), "{head}");
    assert_eq!((world.home.count(), world.peer.count()), (3, 0));
    ends(&world).await
}

#[tokio::test]
async fn a_mirror_overshoots() -> Result<()> {
    let mirror = format!("request_mirror_policies: [{{cluster: \"outbound|80||{HOST}\"}}]");
    let world = World::builder()
        .route(&format!("timeout: 0s\n{mirror}"))
        .start()
        .await?;
    let mut client = world.client(false).await?;
    let answer = tokio::spawn(async move { client.get(HOST, &[("x-hold", "go")]).await });
    world.home.wait_in_flight(2).await?;
    assert_eq!(world.in_flight().await?, 1, "of the two, one is counted");
    world.home.release("go");
    assert_eq!(answer.await??.status, 200);
    world.wait_idle().await
}

#[tokio::test]
async fn work_that_goes_on_after_a_client_abort_overshoots() -> Result<()> {
    let world = World::builder().start().await?;
    for still_at_work in 1..=3 {
        let stream = stubborn(&world).await?;
        world.home.wait_in_flight(still_at_work).await?;
        drop(stream);
        world.wait_count(0).await?;
        assert_eq!(world.home.in_flight(), still_at_work);
    }
    assert_eq!(world.peer.count(), 0, "there was room for each");
    ends(&world).await
}

#[tokio::test]
async fn work_that_goes_on_after_a_timeout_of_the_route_overshoots() -> Result<()> {
    let world = World::builder().route("timeout: 0.2s").start().await?;
    for still_at_work in 1..=3 {
        let mut stream = stubborn(&world).await?;
        let head = read_head(&mut stream).await?;
        assert!(head.starts_with("http/1.1 504"), "{head}");
        world.wait_count(0).await?;
        assert_eq!(world.home.in_flight(), still_at_work);
    }
    assert_eq!(world.peer.count(), 0, "there was room for each");
    ends(&world).await
}
