//! Requests that do not come to a good end: clients and upstreams that break off, retries and timeouts of the route.

use anyhow::Result;
use envoy_test::world::{HOST, PEER};
use envoy_test::{Echo, World, client, until};

use crate::nothing::raw;
use crate::{ROUTINGS, at_both, builder};

/// A client goes away: before the answer, in the middle of it, in the middle of its own request.
#[tokio::test]
async fn client_aborts() -> Result<()> {
    for routing in ROUTINGS {
        let world = builder(routing).start().await?;
        for http2 in [false, true] {
            at_both(
                &world,
                &format!("abort before the answer, http2 {http2}"),
                async |echo| {
                    let mut client = world.client(http2).await?;
                    let answer = client.start(client::get(HOST, &[("x-hold", "never")])?);
                    let waiting = tokio::spawn(answer);
                    echo.wait_in_flight(1).await?;
                    waiting.abort();
                    drop(client);
                    echo.wait_in_flight(0).await?;
                    settled(&world, echo).await
                },
            )
            .await?;
            at_both(
                &world,
                &format!("abort in the answer, http2 {http2}"),
                async |echo| {
                    let mut client = world.client(http2).await?;
                    // More than all buffers on the way hold: it cannot be over when the client goes.
                    let headers = [("x-chunks", "64"), ("x-body-bytes", "1000000")];
                    let answer = client.start(client::get(HOST, &headers)?).await?;
                    assert_eq!((answer.status().as_u16(), echo.in_flight()), (200, 1));
                    drop((answer, client));
                    echo.wait_in_flight(0).await?;
                    settled(&world, echo).await
                },
            )
            .await?;
        }
        at_both(&world, "abort in the request", async |echo| {
            let head = "POST / HTTP/1.1\ncontent-length: 1000";
            let stream = raw(&world, head, b"a part of it").await?;
            echo.wait_in_flight(1).await?;
            drop(stream);
            echo.wait_in_flight(0).await?;
            settled(&world, echo).await
        })
        .await?;
    }
    Ok(())
}

/// Waits until the filter has seen the end of what `echo` had: at the peer it counts the slot held at home alone.
async fn settled(world: &World, echo: &Echo) -> Result<()> {
    world.wait_count(i64::from(echo.name() == PEER)).await
}

/// The upstream breaks off. What Envoy makes of that is told to the client as ever.
#[tokio::test]
async fn upstream_resets() -> Result<()> {
    for routing in ROUTINGS {
        let world = builder(routing).start().await?;
        for http2 in [false, true] {
            at_both(
                &world,
                &format!("reset before the headers, http2 {http2}"),
                async |echo| {
                    let mut client = world.client(http2).await?;
                    let answer = client.get(HOST, &[("x-reset", "before")]).await?;
                    assert_eq!(answer.status, 503, "{answer:?}");
                    settled(&world, echo).await
                },
            )
            .await?;
            at_both(
                &world,
                &format!("reset in the body, http2 {http2}"),
                async |echo| {
                    let mut client = world.client(http2).await?;
                    // The first chunk is on its way when the second is broken off.
                    let headers = [
                        ("x-reset", "mid"),
                        ("x-chunks", "2"),
                        ("x-chunk-delay-ms", "20"),
                    ];
                    let answer = client.get(HOST, &headers).await;
                    // Where the head had no time to leave the upstream there is nothing to break off, but a 503 to send.
                    assert!(
                        answer.as_ref().map_or(true, |a| a.status == 503),
                        "{answer:?}"
                    );
                    settled(&world, echo).await
                },
            )
            .await?;
        }
    }
    Ok(())
}

/// The first attempt gets no answer in time, a later one does: one request, one slot.
#[tokio::test]
async fn retries_by_the_route() -> Result<()> {
    let route =
        "timeout: 0s\nretry_policy: {retry_on: 5xx, num_retries: 1000, per_try_timeout: 0.2s}";
    for routing in ROUTINGS {
        let world = builder(routing)
            .route(route)
            .peer_route_yaml(route)
            .start()
            .await?;
        for http2 in [false, true] {
            at_both(&world, &format!("a retry, http2 {http2}"), async |echo| {
                let mut client = world.client(http2).await?;
                let asked = echo.count();
                let answer = tokio::spawn(client.start(client::get(HOST, &[("x-hold", "go")])?));
                until("a second attempt", || echo.count() >= asked + 2).await?;
                assert_eq!(world.in_flight().await?, 1, "home's, or the slot held");
                echo.release("go");
                let answer = client::read(answer.await??).await?;
                assert_eq!((answer.status, answer.served_by()), (200, echo.name()));
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn timeouts_of_the_route() -> Result<()> {
    for routing in ROUTINGS {
        let world = builder(routing)
            .route("timeout: 0.2s")
            .peer_route_yaml("timeout: 0.2s")
            .start()
            .await?;
        for http2 in [false, true] {
            at_both(&world, &format!("a timeout, http2 {http2}"), async |echo| {
                let mut client = world.client(http2).await?;
                let answer = client.get(HOST, &[("x-hold", "never")]).await?;
                assert_eq!(answer.status, 504, "{answer:?}");
                settled(&world, echo).await
            })
            .await?;
        }
    }
    Ok(())
}
