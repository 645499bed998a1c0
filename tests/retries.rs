//! What Envoy does again by itself, behind the filter: a request of several attempts is one request, and holds its slot until
//! the last of them has ended. Home never has more requests than the limit, by its own count, for that; and a client that does
//! not read the answer to the last attempt holds no slot.

use anyhow::Result;
use envoy_test::client::{self, Answer, Client};
use envoy_test::world::{Builder, HOME, HOST, PEER};
use envoy_test::{World, until};
use nothing::{Slot, raw, read_head};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

#[path = "common/nothing.rs"]
mod nothing;

/// Envoy draws a pause between 0 and this: hours, so that it is never over while a test runs.
const PAUSE: &str = "retry_back_off: {base_interval: 360000s, max_interval: 360000s}";

/// Limit 1.
fn builder(route: &str) -> Builder {
    World::builder().route(&format!("timeout: 0s\n{route}"))
}

/// A request on a connection of its own. Aborted, its client has gone.
async fn start(world: &World, headers: &[(&str, &str)]) -> Result<JoinHandle<Result<Answer>>> {
    let mut client = Client::http1(world.addr()).await?;
    let request = client::get(HOST, headers)?;
    Ok(tokio::spawn(async move { client.send(request).await }))
}

/// One request is not over, whatever sweeps come by: it is counted, and another goes to the peer.
async fn holds_its_slot(world: &World) -> Result<()> {
    for _ in 0..2 {
        world.wait_ticks(3).await?;
        assert_eq!(world.in_flight().await?, 1);
        assert_eq!(world.get(&[]).await?.served_by(), PEER);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_waits_for_its_next_attempt_holds_its_slot() -> Result<()> {
    let world = builder(&format!(
        "retry_policy: {{retry_on: 5xx, num_retries: 1, {PAUSE}}}"
    ));
    let world = world.start().await?;
    // With a body in the answer, and without.
    for bytes in ["10", "0"] {
        let waiting = start(&world, &[("x-status", "503"), ("x-body-bytes", bytes)]).await?;
        until("the first attempt has failed", || {
            world.home.count() == 1 && world.home.in_flight() == 0
        })
        .await?;
        holds_its_slot(&world).await?;
        assert_eq!(world.home.count(), 1, "nobody else was let in");
        waiting.abort();
        world.wait_idle().await?;
        world.home.clear();
    }
    Ok(())
}

/// The first attempt is not ended, the second is made beside it: home has both, and they are one request's.
#[tokio::test]
async fn a_hedged_request_holds_its_slot() -> Result<()> {
    let world = builder(
        "retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 0.2s}\nhedge_policy: {hedge_on_per_try_timeout: true}",
    );
    let world = world.start().await?;
    let hedged = start(&world, &[("x-hold", "go")]).await?;
    world.home.wait_in_flight(2).await?;
    holds_its_slot(&world).await?;
    assert_eq!(world.home.count(), 2);
    world.home.release("go");
    assert_eq!(hedged.await??.served_by(), HOME);
    world.wait_idle().await
}

/// It runs into the time of each attempt, and waits for the next one.
#[tokio::test]
async fn a_request_between_two_attempts_that_timed_out_holds_its_slot() -> Result<()> {
    let world = builder(&format!(
        "retry_policy: {{retry_on: 5xx, num_retries: 1, per_try_timeout: 0.2s, {PAUSE}}}"
    ));
    let world = world.start().await?;
    let waiting = start(&world, &[("x-hold", "never")]).await?;
    world.home.wait_in_flight(1).await?;
    until("the first attempt was ended", || {
        world.home.in_flight() == 0
    })
    .await?;
    holds_its_slot(&world).await?;
    waiting.abort();
    world.wait_idle().await
}

/// The answer that leads elsewhere has ended; what it led to has not.
#[tokio::test]
async fn a_request_that_was_redirected_within_envoy_holds_one_slot() -> Result<()> {
    let world = builder("internal_redirect_policy: {max_internal_redirects: 1}");
    let world = world.start().await?;
    let redirected = start(&world, &[("x-redirect", "/there"), ("x-hold", "go")]).await?;
    until("it is where it was led", || {
        world.home.count() == 2 && world.home.in_flight() == 1
    })
    .await?;
    holds_its_slot(&world).await?;
    world.home.release("go");
    let answer = redirected.await??;
    assert_eq!((answer.status, answer.served_by()), (200, HOME));
    assert_eq!(world.home.max_in_flight(), 1);
    world.wait_idle().await
}

/// Envoy tells the client to go on, which is an answer to nothing.
#[tokio::test]
async fn a_request_that_was_told_to_continue_holds_its_slot() -> Result<()> {
    let world = builder("").start().await?;
    let head = "POST / HTTP/1.1\nexpect: 100-continue\ncontent-length: 2";
    let mut stream = raw(&world, head, b"").await?;
    let told = read_head(&mut stream).await?;
    assert!(told.starts_with("http/1.1 100"), "{told}");
    world.home.wait_in_flight(1).await?;
    holds_its_slot(&world).await?;
    stream.write_all(b"ab").await?;
    let head = read_head(&mut stream).await?;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    drop(stream);
    world.wait_idle().await
}

/// A filter behind ours keeps the answer until it has all of it; then it is the client's to read.
#[tokio::test]
async fn an_answer_that_is_held_up_behind_the_filter_holds_its_slot() -> Result<()> {
    let lua = r#"- name: envoy.filters.http.lua
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
    default_source_code:
      inline_string: |
        function envoy_on_response(handle) handle:body() end"#;
    let world = builder("").filters_after(lua).start().await?;
    let body = [("x-chunks", "2"), ("x-hold-body", "end")];
    let held = start(&world, &body).await?;
    until("it is at home", || world.home.count() == 1).await?;
    holds_its_slot(&world).await?;
    world.home.release("end");
    assert_eq!(held.await??.status, 200);
    world.wait_idle().await
}

/// Home has answered without reading the body, of which more is to come: it has finished all the same.
#[tokio::test]
async fn an_early_answer_to_an_unfinished_request_holds_no_slot() -> Result<()> {
    let world = builder("").start().await?;
    let head = "POST / HTTP/1.1\nx-early: 1\ncontent-length: 400000";
    let stream = raw(&world, head, b"begun").await?;
    until("it is at home", || world.home.count() == 1).await?;
    world.wait_idle().await?;
    Slot::take(&world).await?.give_back().await?;
    drop(stream);
    world.wait_idle().await
}
