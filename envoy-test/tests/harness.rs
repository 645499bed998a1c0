//! The harness itself, its echo and its load: what the end-to-end tests rely on without looking.

use std::time::Duration;

use anyhow::Result;
use envoy_test::client::{self, Client};
use envoy_test::load::{LoadOptions, Until, answered_by, closed_loop, failed};
use envoy_test::world::{HOME, HOST, PEER};
use envoy_test::{Echo, EchoOptions};

async fn echo() -> Result<Echo> {
    Echo::start(EchoOptions::named(HOME, "a-1")).await
}

#[tokio::test]
async fn an_echo_counts_what_is_open_and_no_more() -> Result<()> {
    for http2 in [false, true] {
        let echo = echo().await?;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = Client::connect(echo.addr(), http2).await?;
            clients.push(tokio::spawn(async move {
                client.get(HOST, &[("x-hold", "go")]).await
            }));
        }
        echo.wait_in_flight(3).await?;
        echo.release("go");
        for client in clients {
            let answer = client.await??;
            assert_eq!((answer.status, answer.served_by()), (200, HOME));
            assert_eq!(answer.json()["host"], HOST);
        }
        assert_eq!(
            (echo.in_flight(), echo.max_in_flight(), echo.count()),
            (0, 3, 3),
            "http2: {http2}"
        );
        let open: Vec<usize> = echo.changes().iter().map(|(_, open)| *open).collect();
        assert_eq!(open, [1, 2, 3, 2, 1, 0], "http2: {http2}");
        echo.clear();
        assert!(echo.changes().is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn the_count_is_down_before_the_end_of_an_answer_is_seen() -> Result<()> {
    let echo = echo().await?;
    for http2 in [false, true] {
        let mut client = Client::connect(echo.addr(), http2).await?;
        let kinds: [&[(&str, &str)]; 7] = [
            &[],
            &[("x-body-bytes", "0")],
            &[("x-body-bytes", "300000")],
            &[("x-chunks", "5"), ("x-chunk-delay-ms", "1")],
            &[("x-trailers", "1")],
            &[("content-type", "application/grpc")],
            &[("content-type", "application/grpc"), ("x-grpc-status", "8")],
        ];
        for kind in kinds {
            for _ in 0..50 {
                assert_eq!(client.get(HOST, kind).await?.status, 200);
                assert_eq!(echo.in_flight(), 0, "{kind:?}, http2: {http2}");
            }
        }
    }
    assert_eq!(echo.max_in_flight(), 1);
    Ok(())
}

#[tokio::test]
async fn an_abort_brings_the_count_down() -> Result<()> {
    let echo = echo().await?;
    for http2 in [false, true] {
        for kind in [("x-hold", "never"), ("x-chunks", "1000000")] {
            let mut client = Client::connect(echo.addr(), http2).await?;
            let headers = [kind, ("x-body-bytes", "10000"), ("x-chunk-delay-ms", "1")];
            let open = tokio::spawn(client.start(client::get(HOST, &headers)?));
            echo.wait_in_flight(1).await?;
            open.abort();
            drop(client);
            echo.wait_in_flight(0).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_echo_answers_as_it_is_asked() -> Result<()> {
    let echo = echo().await?;
    for http2 in [false, true] {
        echo.clear();
        let mut client = Client::connect(echo.addr(), http2).await?;
        let answer = client
            .send(client::request(
                "POST",
                HOST,
                "/p?q=1",
                &[("x-status", "418")],
                client::full("abc"),
            )?)
            .await?;
        assert_eq!(
            (answer.status, answer.json()["body_len"].as_u64()),
            (418, Some(3))
        );
        let received = &echo.requests()[0];
        assert_eq!(
            (
                received.method.as_str(),
                received.path.as_str(),
                received.body_len
            ),
            ("POST", "/p?q=1", 3)
        );
        assert_eq!(
            (received.host.as_str(), received.header("x-status")),
            (HOST, Some("418"))
        );

        assert_eq!(
            client
                .get(HOST, &[("x-chunks", "3"), ("x-body-bytes", "7")])
                .await?
                .body
                .len(),
            21
        );
        let answer = client
            .get(HOST, &[("x-trailers", "1"), ("te", "trailers")])
            .await?;
        assert_eq!(answer.json()["name"], HOME);
        if http2 {
            assert_eq!(
                answer
                    .trailers
                    .get("x-echo-trailer")
                    .map(|value| value.as_bytes()),
                Some(HOME.as_bytes())
            );
            let answer = client
                .get(HOST, &[("content-type", "application/grpc")])
                .await?;
            assert_eq!(
                answer
                    .trailers
                    .get("grpc-status")
                    .map(|value| value.as_bytes()),
                Some(&b"0"[..])
            );
        }
        for reset in ["before", "mid"] {
            let mut client = Client::connect(echo.addr(), http2).await?;
            assert!(
                client.get(HOST, &[("x-reset", reset)]).await.is_err(),
                "{reset}"
            );
        }
        assert_eq!(echo.in_flight(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_load_has_as_many_clients_as_it_says() -> Result<()> {
    let echo = Echo::start(EchoOptions {
        delay: Duration::from_millis(20),
        ..EchoOptions::named(PEER, "p")
    })
    .await?;
    for http2 in [false, true] {
        echo.clear();
        let url = format!("http://{}/x", echo.addr());
        let outcomes = closed_loop(
            LoadOptions::new(&url, 8, Until::Elapsed(Duration::from_millis(300))).http2(http2),
        )
        .await?;
        assert_eq!(
            (failed(&outcomes), answered_by(&outcomes, PEER)),
            (0, outcomes.len())
        );
        assert_eq!((echo.max_in_flight(), echo.count()), (8, outcomes.len()));
    }
    Ok(())
}
