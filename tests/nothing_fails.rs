//! Nothing fails: whatever a request is and however it ends, it is answered as it would be without the filter, at home
//! and as the surplus at the peer, and afterwards the count is back at 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use envoy_test::client::{self, Answer};
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{Builder, HOME, HOST, PEER, Upstream, plugin_config};
use envoy_test::{Echo, World, until};
use nothing::{Slot, raw, read_head};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[path = "nothing_fails/broken_off.rs"]
mod broken_off;
#[path = "common/nothing.rs"]
mod nothing;

const ROUTINGS: [&str; 2] = ["authority", "header"];

fn config(limit: u32, routing: &str) -> Value {
    let mut config = plugin_config(limit);
    config["services"][0]["routing"] = routing.into();
    config
}

/// Limit 1; upstreams speak what the client speaks, so that gRPC and trailers arrive.
fn builder(routing: &str) -> Builder {
    World::builder()
        .filter(config(1, routing))
        .upstream(Upstream::AsClient)
}

/// Runs `case` twice: on an idle home, where it is a request of home's, and with home's slot held, where it is the
/// surplus and the peer's. After each, nothing is in flight, and home's slot is there to be taken.
async fn at_both(
    world: &World,
    what: &str,
    mut case: impl AsyncFnMut(&Echo) -> Result<()>,
) -> Result<()> {
    for echo in [&world.home, &world.peer] {
        let place = format!("{what}, at {}", echo.name());
        world.home.clear();
        world.peer.clear();
        let slot = match echo.name() {
            PEER => Some(Slot::take(world).await?),
            _ => None,
        };
        case(echo)
            .await
            .map_err(|error| error.context(place.clone()))?;
        assert!(echo.count() >= 1, "{place}: it arrived there");
        if let Some(slot) = slot {
            assert_eq!(world.home.count(), 1, "{place}: the surplus alone went");
            assert_eq!(world.in_flight().await?, 1, "{place}: no slot of home's");
            slot.give_back().await?;
        } else {
            assert_eq!(world.peer.count(), 0, "{place}: there was room at home");
        }
        let idle = world.wait_idle().await;
        idle.map_err(|error| error.context(place.clone()))?;
        let served_by = world.get(&[]).await?.served_by().to_owned();
        assert_eq!(served_by, HOME, "{place}: the slot is free");
        world.wait_idle().await?;
    }
    Ok(())
}

/// Sends `method` with these headers and this body over HTTP/1.1 and HTTP/2, at both places; the answer must be whole,
/// of status `status` and from there. `look` sees it, and whether it came by HTTP/2.
async fn answered(
    world: &World,
    (method, headers, body): (&str, &[(&str, &str)], usize),
    status: u16,
    look: impl Fn(&Answer, bool),
) -> Result<()> {
    for http2 in [false, true] {
        let what = format!("{method} {headers:?}, http2 {http2}");
        at_both(world, &what, async |echo| {
            let mut client = world.client(http2).await?;
            let body = match body {
                0 => client::empty(),
                n => client::full(vec![b'x'; n]),
            };
            let request = client::request(method, HOST, "/", headers, body)?;
            let answer = client.send(request).await?;
            assert_eq!(answer.status, status, "{what}: {answer:?}");
            assert_eq!(answer.served_by(), echo.name(), "{what}");
            look(&answer, http2);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_three_one_clients() -> Result<()> {
    for routing in ROUTINGS {
        let delay = Duration::from_millis(10);
        let world = World::builder()
            .filter(config(1, routing))
            .workers(2)
            .delays(delay, delay)
            .start()
            .await?;
        // The client that stays throughout.
        let (done, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let first = tokio::spawn({
            let mut client = world.client(false).await?;
            let (done, stop) = (done.clone(), stop.clone());
            async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.get(HOST, &[]).await?;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    done.fetch_add(1, Ordering::SeqCst);
                }
                anyhow::Ok(())
            }
        });
        let more = async |n: usize| {
            let aim = done.load(Ordering::SeqCst) + n;
            until("answers to the client that stays", || {
                done.load(Ordering::SeqCst) >= aim || first.is_finished()
            })
            .await
        };
        more(20).await?;
        assert_eq!(world.peer.count(), 0, "{routing}: one client has room");

        let load = LoadOptions::new(world.url(), 2, Until::Requests(80));
        let outcomes = closed_loop(load).await?;
        assert_eq!(
            (outcomes.len(), failed(&outcomes)),
            (80, 0),
            "{routing}: {outcomes:?}"
        );
        let spilled = world.peer.count();
        assert!(
            spilled >= 40,
            "{routing}: of three at a time two leave, not {spilled}"
        );

        // What the client that stays has open is perhaps still at the peer.
        more(2).await?;
        world.peer.clear();
        more(20).await?;
        assert_eq!(
            world.peer.count(),
            0,
            "{routing}: one client has room again"
        );
        stop.store(true, Ordering::SeqCst);
        first.await??;
        assert_eq!(world.home.max_in_flight(), 1, "{routing}");
        world.wait_idle().await?;
    }
    Ok(())
}

#[tokio::test]
async fn steady_overload() -> Result<()> {
    for routing in ROUTINGS {
        let delay = Duration::from_millis(5);
        let world = World::builder()
            .filter(config(2, routing))
            .workers(2)
            .delays(delay, delay)
            .start()
            .await?;
        for (http2, body_bytes) in [(false, 0), (true, 0), (false, 50_000), (true, 50_000)] {
            world.home.clear();
            world.peer.clear();
            let mut load = LoadOptions::new(world.url(), 10, Until::Requests(500)).http2(http2);
            load.body_bytes = body_bytes;
            let outcomes = closed_loop(load).await?;
            let case = format!("{routing}, http2 {http2}, {body_bytes} bytes");
            assert_eq!((outcomes.len(), failed(&outcomes)), (500, 0), "{case}");
            let (home, peer) = (answered_by(&outcomes, HOME), answered_by(&outcomes, PEER));
            assert_eq!(
                (home, peer),
                (world.home.count(), world.peer.count()),
                "{case}"
            );
            assert_eq!(world.home.max_in_flight(), 2, "{case}");
            assert!(
                home > 0 && peer > 0,
                "{case}: {home} at home, {peer} at the peer"
            );
            world.wait_idle().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn bodies_streams_trailers_and_error_answers() -> Result<()> {
    for routing in ROUTINGS {
        let world = builder(routing).start().await?;
        answered(&world, ("POST", &[], 300_000), 200, |answer, _| {
            assert_eq!(answer.json()["body_len"], 300_000, "{answer:?}");
        })
        .await?;
        let streamed = [
            ("x-chunks", "5"),
            ("x-body-bytes", "50000"),
            ("x-chunk-delay-ms", "1"),
        ];
        answered(&world, ("POST", &streamed, 1000), 200, |answer, _| {
            assert_eq!(answer.body.len(), 250_000);
        })
        .await?;
        let trailers = [("x-trailers", "1"), ("te", "trailers")];
        answered(&world, ("GET", &trailers, 0), 200, |answer, http2| {
            // Envoy forwards none over HTTP/1.1.
            let trailer = answer.trailers.get("x-echo-trailer");
            assert_eq!(trailer.is_some(), http2, "{answer:?}");
            assert!(answer.json()["host"].is_string());
        })
        .await?;
        answered(&world, ("GET", &[("x-status", "500")], 0), 500, |_, _| {}).await?;
    }
    Ok(())
}

#[tokio::test]
async fn grpc() -> Result<()> {
    for routing in ROUTINGS {
        let world = builder(routing).start().await?;
        for status in ["0", "14"] {
            at_both(&world, &format!("grpc-status {status}"), async |echo| {
                let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
                if status != "0" {
                    headers.push(("x-grpc-status", status));
                }
                let body = client::full(vec![0; 5]);
                let request = client::request("POST", HOST, "/a.A/Get", &headers, body)?;
                let answer = world.client(true).await?.send(request).await?;
                assert_eq!((answer.status, answer.served_by()), (200, echo.name()));
                // A status other than 0 is a trailers-only answer: all in its headers.
                let trailers = match status {
                    "0" => &answer.trailers,
                    _ => &answer.headers,
                };
                let said = trailers.get("grpc-status").map(|value| value.as_bytes());
                assert_eq!(said, Some(status.as_bytes()), "{answer:?}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// A tunnel holds its slot for as long as it stands.
#[tokio::test]
async fn websockets() -> Result<()> {
    for routing in ROUTINGS {
        let world = builder(routing).start().await?;
        at_both(&world, "a websocket", async |echo| {
            let head = "GET /ws HTTP/1.1\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
            let mut stream = raw(&world, head, b"").await?;
            let head = read_head(&mut stream).await?;
            assert!(head.starts_with("http/1.1 101"), "{head}");
            assert!(head.contains(&format!("x-served-by: {}", echo.name())), "{head}");
            for message in [b"first ", b"second"] {
                stream.write_all(message).await?;
                let mut back = [0; 6];
                stream.read_exact(&mut back).await?;
                assert_eq!(&back, message);
            }
            assert_eq!(echo.in_flight(), 1);
            world.wait_count(1).await?;
            let before = world.peer.count();
            assert_eq!(world.get(&[]).await?.served_by(), PEER, "home's slot is taken");
            assert_eq!(world.peer.count(), before + 1);
            // Only the tunnel is to be counted from here.
            if echo.name() == HOME {
                world.peer.clear();
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}
