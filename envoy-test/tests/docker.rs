//! `docker-compose.yaml` on a real Docker engine, by the commands that it gives: only the surplus is the peer's, and nothing
//! fails. An engine wants root; where none can be started this says so on stderr, and fails with `REQUIRE_DOCKER=1`.

#[path = "docker/engine.rs"]
mod engine;
#[path = "docker/image.rs"]
mod image;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use engine::Engine;
use envoy_test::client::{Answer, Client};
use envoy_test::wait::{until_some, until_some_by};
use envoy_test::world::{HOME, PEER, PEER_HOST};
use xtask::workspace_root;

const FILE: &str = "envoy-test/docker-compose.yaml";
/// As the curl lines name the service.
const SERVICE: &str = "a.istio";
const CALLER: &str = "URI=spiffe://cluster.local/ns/istio/sa/home";
/// Containers on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Three requests are the surplus only while none of them is answered: on a machine that stops for a tenth of a second
/// between them, they are not.
const ROUNDS: usize = 20;

#[test]
fn the_image_is_the_envoy_that_everything_is_tested_on() {
    let file = fs::read_to_string(workspace_root().join(FILE)).unwrap();
    let images: Vec<&str> = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "))
        .collect();
    let first = format!("&envoy {}", image::name());
    assert!(images.contains(&first.as_str()), "{images:?}");
    assert!(
        images
            .iter()
            .all(|image| *image == first || *image == "*envoy"),
        "{images:?}"
    );
}

#[tokio::test]
async fn only_the_surplus_is_the_peers_and_nothing_fails() -> Result<()> {
    let engine = match Engine::start().await {
        Ok(engine) => engine,
        Err(error) if env::var("REQUIRE_DOCKER").is_ok_and(|value| value == "1") => {
            return Err(error);
        }
        Err(error) => {
            // Not by a macro: libtest would keep it to itself, and nobody would know.
            writeln!(io::stderr(), "docker: not tested: {error:#}")?;
            return Ok(());
        }
    };
    image::load(&engine)?;
    tokio::task::spawn_blocking(xtask::filter::ensure).await??;
    if let Err(error) = claims(&engine).await {
        let logs = ["-f", FILE, "logs", "--no-color", "--tail=30"];
        bail!("{error:#}\n{}", engine.output("docker-compose", &logs)?);
    }
    Ok(())
}

async fn claims(engine: &Engine) -> Result<()> {
    let compose =
        |arguments: &[&str]| engine.run("docker-compose", &[&["-f", FILE], arguments].concat());
    compose(&["up", "-d"])?;
    wait_until_both_answer(engine).await?;

    let mut alone = engine.dial(10000).client(false).await?;
    for _ in 0..5 {
        assert_eq!(answered_by(&alone.get(SERVICE, &[]).await?), HOME);
    }

    let mut at_peer = 0;
    for round in 1.. {
        let [home, peer] = three_at_once(engine).await?;
        at_peer += peer;
        if [home, peer] == [1, 2] {
            break;
        }
        ensure!(
            round < ROUNDS,
            "of 3 at once, {home} were home's and {peer} the peer's"
        );
    }
    assert_eq!(answered_by(&alone.get(SERVICE, &[]).await?), HOME);
    assert_eq!(
        stat(engine, "destination=.=gke;.;reason=.=limit;.;decisions").await?,
        at_peer
    );

    // A second `up` makes no other certificates: a proxy that starts anew is still known to the gateway that did not.
    compose(&["up", "-d"])?;
    compose(&["restart", "home-proxy"])?;
    wait_until_both_answer(engine).await?;

    compose(&["down", "-v"])?;
    assert_eq!(engine.output("docker", &["ps", "--all", "--quiet"])?, "");
    assert_eq!(engine.output("docker", &["volume", "ls", "--quiet"])?, "");
    Ok(())
}

/// Waits until home's service answers, and the peer's by its own name, and nothing is in flight.
async fn wait_until_both_answer(engine: &Engine) -> Result<()> {
    for host in [SERVICE, PEER_HOST] {
        let what = format!("{host} answers");
        until_some_by(&what, START_DEADLINE, async || {
            let mut client = engine.dial(10000).client(false).await.ok()?;
            let answer = client.get(host, &[]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await?;
    }
    wait_until_idle(engine).await
}

/// Sends three requests at once, each on a connection of its own, and returns how many were home's and the peer's.
async fn three_at_once(engine: &Engine) -> Result<[i64; 2]> {
    let dial = engine.dial(10000);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..3 {
        clients.push(dial.client(false).await?);
    }
    let [a, b, c] = &mut clients[..] else {
        bail!("three clients");
    };
    let answers = tokio::try_join!(
        a.get(SERVICE, &[]),
        b.get(SERVICE, &[]),
        c.get(SERVICE, &[])
    )?;
    let mut count = [0, 0];
    for answer in [answers.0, answers.1, answers.2] {
        match answered_by(&answer).as_str() {
            HOME => count[0] += 1,
            PEER => {
                assert_eq!(answer.header("x-peer-spillover"), "gke; reason=limit");
                assert!(answer.header("x-called-by").contains(CALLER), "{answer:?}");
                count[1] += 1;
            }
            other => bail!("{other:?} answered"),
        }
    }
    wait_until_idle(engine).await?;
    Ok(count)
}

fn answered_by(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8_lossy(&answer.body).trim_end().to_owned()
}

async fn wait_until_idle(engine: &Engine) -> Result<()> {
    until_some("nothing is in flight", async || {
        let in_flight = stat(engine, "service=.=a.istio.svc.cluster.local;.;in_flight").await;
        in_flight.is_ok_and(|count| count == 0).then_some(())
    })
    .await
}

/// The one statistic of the filter whose name ends so.
async fn stat(engine: &Engine, end: &str) -> Result<i64> {
    let mut admin = engine.dial(9901).client(false).await?;
    let request = envoy_test::client::request(
        "GET",
        "admin",
        "/stats?filter=peer_spillover",
        &[],
        envoy_test::client::empty(),
    )?;
    let answer = admin.send(request).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.ends_with(end).then_some(value)
    });
    match value {
        Some(value) => Ok(value.parse()?),
        None => bail!("no statistic ends with {end}:\n{text}"),
    }
}
