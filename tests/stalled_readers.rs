//! Clients that do not read: a slot is the upstream's work, so it is free when the upstream has finished, and not before.

use anyhow::{Context, Result, ensure};
use envoy_test::client::{self, Answer, Client};
use envoy_test::wait::until_some;
use envoy_test::world::{HOME, HOST, PEER, Upstream, plugin_config};
use envoy_test::{World, until};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Less than an answer, so that its reader must read for it to end.
const WINDOW: u32 = 1000;
/// Fits into the proxy's buffers: the upstream is rid of it, whatever the client does.
const SMALL: [(&str, &str); 2] = [("x-body-bytes", "200000"), ("x-chunks", "1")];
/// 64 MB fit into no buffers on the way: the upstream goes on sending until the client reads.
const LARGE: [(&str, &str); 2] = [("x-body-bytes", "1000000"), ("x-chunks", "64")];

/// A client that got the head of its answer, from home, and reads no further. Dropped, it goes away.
struct Reader {
    go_on: oneshot::Sender<()>,
    tasks: JoinSet<Result<Answer>>,
}

impl Reader {
    async fn stalled(world: &World, headers: &[(&str, &str)]) -> Result<Reader> {
        let mut client = Client::http2_with_window(world.addr(), Some(WINDOW)).await?;
        let answer = client.start(client::get(HOST, headers)?).await?;
        let served_by = answer.headers().get("x-served-by");
        let served_by = served_by.map(|name| name.as_bytes());
        ensure!(served_by == Some(HOME.as_bytes()), "{answer:?}");
        let (go_on, told) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The connection lives as long as its client.
            let _client = client;
            told.await?;
            client::read(answer).await
        });
        Ok(Reader { go_on, tasks })
    }

    /// Reads the rest: how many bytes the body has.
    async fn read(mut self) -> Result<usize> {
        ensure!(self.go_on.send(()).is_ok(), "the reader is gone");
        let answer = self.tasks.join_next().await.context("no reader")???;
        Ok(answer.body.len())
    }
}

/// Exactly `limit` requests find room at home, the next one spills: the count is neither too high nor too low.
async fn room_for(world: &World, limit: usize) -> Result<()> {
    world.home.clear();
    world.peer.clear();
    let mut waiting = JoinSet::new();
    for _ in 0..limit {
        let mut client = world.client(false).await?;
        waiting.spawn(async move { client.get(HOST, &[("x-hold", "room")]).await });
    }
    until("every request has arrived somewhere", || {
        world.home.count() + world.peer.count() == limit
    })
    .await?;
    assert_eq!((world.home.count(), world.peer.count()), (limit, 0));
    assert_eq!(world.get(&[]).await?.served_by(), PEER);
    world.home.release("room");
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer??.served_by(), HOME);
    }
    world.wait_count(0).await
}

/// Four readers who stall on a limit of 4, when home has finished.
async fn four_stalled(upstream: Upstream, workers: u32) -> Result<(World, Vec<Reader>)> {
    let world = World::builder()
        .filter(plugin_config(4))
        .upstream(upstream)
        .workers(workers)
        .start()
        .await?;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(Reader::stalled(&world, &SMALL).await?);
    }
    world.home.wait_in_flight(0).await?;
    Ok((world, readers))
}

/// They end, half of them by reading, half by going away: nothing is given back a second time.
async fn all_end(world: &World, mut readers: Vec<Reader>) -> Result<()> {
    drop(readers.split_off(2));
    for reader in readers {
        assert_eq!(reader.read().await?, 200_000);
    }
    let active = "http.outbound.downstream_rq_active";
    world.envoy.wait_stat(active, |n| n == 0).await?;
    assert_eq!(world.in_flight().await?, 0);
    room_for(world, 4).await
}

#[tokio::test]
async fn stalled_readers_of_a_finished_home_hold_no_slots() -> Result<()> {
    for (upstream, workers) in [
        (Upstream::Http1, 1),
        (Upstream::Http2, 1),
        (Upstream::Http2, 4),
    ] {
        let (world, readers) = four_stalled(upstream, workers).await?;
        // Nobody has read: only a sweep can bring the count down, on each worker its own.
        world.wait_count(0).await?;
        room_for(&world, 4).await?;
        all_end(&world, readers).await?;
    }
    Ok(())
}

/// Each worker sweeps its own streams, when home is full: what one has left is found when its slots are asked for.
#[tokio::test]
async fn home_can_be_filled_whichever_workers_have_the_stalled_readers() -> Result<()> {
    for upstream in [Upstream::Http1, Upstream::Http2] {
        let (world, readers) = four_stalled(upstream, 2).await?;
        world.peer.release("fill");
        let mut waiting = JoinSet::new();
        until_some("home is filled with new requests", async || {
            let sent = world.home.count() + world.peer.count() + 1;
            let mut client = world.client(false).await.ok()?;
            waiting.spawn(async move { client.get(HOST, &[("x-hold", "fill")]).await });
            until("a request has arrived somewhere", || {
                world.home.count() + world.peer.count() == sent
            })
            .await
            .ok()?;
            (world.home.in_flight() == 4).then_some(())
        })
        .await?;
        world.home.release("fill");
        while let Some(answer) = waiting.join_next().await {
            assert_eq!(answer??.status, 200);
        }
        assert_eq!(world.home.max_in_flight(), 4);
        all_end(&world, readers).await?;
    }
    Ok(())
}

/// One of two has finished, the other goes on. On one worker the sweep that takes the one has looked at both.
#[tokio::test]
async fn a_slot_is_held_while_the_upstream_still_sends() -> Result<()> {
    for upstream in [Upstream::Http1, Upstream::Http2] {
        let world = World::builder()
            .filter(plugin_config(2))
            .upstream(upstream)
            .start()
            .await?;
        let large = Reader::stalled(&world, &LARGE).await?;
        let small = Reader::stalled(&world, &SMALL).await?;
        world.home.wait_in_flight(1).await?;
        world.wait_count(1).await?;

        // One slot is free, so one of two stays; and with home full again, another sweep comes by.
        let third = Reader::stalled(&world, &SMALL).await?;
        world.home.wait_in_flight(1).await?;
        world.wait_count(1).await?;
        let mut client = world.client(false).await?;
        let held = tokio::spawn(async move { client.get(HOST, &[("x-hold", "go")]).await });
        world.home.wait_in_flight(2).await?;
        assert_eq!(world.get(&[]).await?.served_by(), PEER);
        world.home.release("go");
        assert_eq!(held.await??.served_by(), HOME);

        assert_eq!(large.read().await?, 64_000_000);
        for reader in [small, third] {
            assert_eq!(reader.read().await?, 200_000);
        }
        world.wait_idle().await?;
        room_for(&world, 2).await?;
        assert!(world.home.max_in_flight() <= 2);
    }
    Ok(())
}
