//! A write that was under way when the peer died: sent again only where the user chose so.

use anyhow::Result;
use envoy_test::client::{Answer, empty, full, request};
use envoy_test::wait::until_some_by;
use istio_test::federation::{answered, edit, plugin_config};
use istio_test::fixture::{self, home};
use istio_test::layout::{CLIENT, Cluster, HOME_APP, PEER_APP, PEER_GATEWAY, PodSpec};
use istio_test::mesh::SERVICE;
use istio_test::{Mesh, fixture::peer};
use tokio::task::JoinHandle;

use crate::cases::{ejected, silence};
use crate::{PATIENCE, RULE, choose, spilling};

const SHIPPED: &str = "retryOn: connect-failure,refused-stream\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_write_under_way_is_sent_again_only_where_the_user_chose_so() -> Result<()> {
    let (mesh, folder) = spilling(&evacuate()).await?;
    // The logs have earlier runs in them.
    let run = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_nanos();
    let [refused, shipped, chosen, timed] =
        ["refused", "shipped", "chosen", "timed"].map(|name| format!("/{name}-{run}"));

    // As shipped: the application's own 503 is an answer, and stays one.
    back(&mesh).await?;
    let answer = write(&mesh, &format!("{refused}?codes=503")).await?;
    assert_eq!((answer.status, answered(&answer)), (503, peer()));
    // A write under way: the client is told, and may find out whether it was done.
    let answer = killed_under(&mesh, &shipped).await?;
    assert_eq!((answer.status, answered(&answer).as_str()), (503, ""));

    // The user's choice: it is done at the peer, and at home once more.
    let rule = folder.join(RULE);
    let again = SHIPPED.replace('\n', ",reset,503\n");
    edit(&rule, &[(SHIPPED, &again)])?;
    choose(
        &mesh,
        &folder,
        "connect-failure,refused-stream,reset,retriable-status-codes",
    )
    .await?;
    let answer = killed_under(&mesh, &chosen).await?;
    assert_eq!((answer.status, answered(&answer)), (200, home()));

    // And with a time for each try that is shorter than what the application takes: done three times, and none answers.
    edit(
        &rule,
        &[(&again, &again.replace('\n', "\n      perTryTimeout: 1s\n"))],
    )?;
    choose(&mesh, &folder, "\"per_try_timeout\": \"1s\"").await?;
    back(&mesh).await?;
    let answer = write(&mesh, &format!("{timed}?delay=5s")).await?;
    assert_eq!(answer.status, 504);

    // Without the plugin what home's own sidecar sends stays home.
    let plugins = ["delete", "wasmplugin", "--all", "-n", "istio"];
    mesh.kube(Cluster::Home).kubectl(&plugins).await?;
    let logs = [
        logged(&mesh, &PEER_APP, run).await?,
        logged(&mesh, &HOME_APP, run).await?,
    ];
    let times = |path: &str| logs.each_ref().map(|log| log.matches(path).count());
    assert_eq!(times(&refused), [1, 0], "at the peer, at home");
    assert_eq!(times(&shipped), [1, 0]);
    assert_eq!(times(&chosen), [1, 1]);
    assert_eq!(times(&timed), [2, 1]);
    Ok(())
}

/// Where nobody has found the peer dead before, the first write does, and comes home: it reached nobody.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_that_finds_the_peer_dead_comes_home() -> Result<()> {
    let (mesh, _) = spilling(&evacuate()).await?;
    back(&mesh).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let answer = write(&mesh, "/").await?;
    assert_eq!((answer.status, answered(&answer)), (200, home()));
    let decided = answer.header("x-peer-spillover").to_owned();
    assert!(decided.starts_with(Cluster::Peer.name()), "{decided}");
    Ok(())
}

/// What finds the peer silent comes home after `connectTimeout`, but for a body above what Envoy keeps of it for a retry, the
/// buffer limit of a connection, 1 MiB. Once the peer is left alone every body goes home.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_buffer_comes_home_only_when_the_peer_is_known_to_be_dead() -> Result<()>
{
    let (mesh, _) = spilling(&evacuate()).await?;
    back(&mesh).await?;
    silence(&mesh, "-A").await?;
    let upload = async |kilobytes: usize| -> Result<(u16, String)> {
        let mut client = fixture::dial(&mesh).await?.client(false).await?;
        let body = "x".repeat(kilobytes * 1024);
        let answer = client
            .send(request("POST", SERVICE, "/", &[], full(body))?)
            .await?;
        assert!(
            answer
                .header("x-peer-spillover")
                .starts_with(Cluster::Peer.name())
        );
        Ok((answer.status, answered(&answer)))
    };
    for (kilobytes, expected) in [(1100, (503, String::new())), (900, (200, home()))] {
        // A proxy that has no connection to the peer, and knows nothing of it.
        mesh.restart_proxy(&CLIENT).await?;
        let proxy = mesh.proxy(&CLIENT);
        proxy
            .wait_sum(&["peer_spillover", "configured"], |running| running > 0)
            .await?;
        proxy.wait_settled().await?;
        assert_eq!(upload(kilobytes).await?, expected, "{kilobytes} KiB");
    }
    ejected(&mesh).await?;
    assert_eq!(upload(1100).await?, (200, home()));
    Ok(())
}

/// Everything goes to the peer.
fn evacuate() -> serde_json::Value {
    let mut config = plugin_config(1);
    config["services"][0]["mode"] = "evacuate".into();
    config
}

/// Sends a write that takes long, kills the peer's gateway once the peer's application has it, and returns the answer.
async fn killed_under(mesh: &Mesh, path: &str) -> Result<Answer> {
    back(mesh).await?;
    let (sender, path) = (mesh.clone(), format!("{path}?delay=5s"));
    let sent: JoinHandle<Result<Answer>> = tokio::spawn(async move { write(&sender, &path).await });
    until_some_by("the peer's application has it", PATIENCE, async || {
        let active = mesh.proxy(&PEER_APP).active().await.ok()?;
        (active > 0).then_some(())
    })
    .await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    sent.await?
}

/// Waits until the peer's gateway runs, and what is sent to the peer is answered there.
async fn back(mesh: &Mesh) -> Result<()> {
    if mesh.proxy(&PEER_GATEWAY).admin("/ready").await.is_err() {
        mesh.start_proxy(&PEER_GATEWAY).await?;
    }
    until_some_by("the peer answers again", PATIENCE, async || {
        let answer = fixture::get(mesh, "/", &[]).await.ok()?;
        (answered(&answer) == peer()).then_some(())
    })
    .await
}

async fn write(mesh: &Mesh, path: &str) -> Result<Answer> {
    let mut client = fixture::dial(mesh).await?.client(false).await?;
    client
        .send(request("POST", SERVICE, path, &[], full("x"))?)
        .await
}

/// The access log of a pod's sidecar, once it has all that was sent before this. Envoy writes it every ten seconds.
async fn logged(mesh: &Mesh, pod: &PodSpec, run: u128) -> Result<String> {
    let address = format!("{}:80", mesh.cluster_ip(pod.cluster, "a").await?);
    let last = format!("/last-{run}");
    until_some_by("the access log is written", PATIENCE, async || {
        let mut client = mesh.dial(pod, &address).client(false).await.ok()?;
        let ask = request("GET", SERVICE, &last, &[], empty()).ok()?;
        client.send(ask).await.ok()?;
        let log = mesh.proxy_log(pod).ok()?;
        let inbound = |line: &str| line.contains(&last) && line.contains("inbound|8080||");
        log.lines().any(inbound).then_some(log)
    })
    .await
}
