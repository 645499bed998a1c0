//! The peer dies in one way or another while clients need it.

use std::time::Duration;

use anyhow::Result;
use envoy_test::client::Dial;
use envoy_test::wait::until_some_by;
use istio_test::federation::{PEER_HOST, edit, wasmplugin};
use istio_test::layout::{CLIENT, Cluster, HOME_APP, INGRESS, PEER_APP, PEER_GATEWAY, PodSpec};
use istio_test::{Mesh, fixture, net};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::load::{Load, Sent, lost};
use crate::{PATIENCE, RULE, choice, choose, full};

const UNREACHED: &str = "x-peer-spillover-unreached";

/// Three of four spill.
const FOUR: [&str; 4] = ["GET", "POST", "GET", "POST"];
const PUBLIC: &str = "a.example.com";

/// Waits until the peer takes spills, a good many of them.
async fn peer_answers(load: &Load) -> Result<()> {
    load.wait("the peer answers", load.now(), 20, Sent::by_peer)
        .await
}

/// Waits until spills come back from the peer, a good many of them.
async fn come_home(load: &Load) -> Result<()> {
    load.wait("spills come home", load.now(), 40, Sent::returned)
        .await
}

/// Waits until what was under way when the peer died is known to be lost, so that no proxy takes an old connection to it
/// for a good one any more.
async fn known(load: &Load) -> Result<Duration> {
    load.wait("a loss is seen", Duration::ZERO, 1, |sent| !sent.ok())
        .await?;
    Ok(load.now())
}

/// What is lost was under way when the peer died, one request of each client at most, and was answered 503.
fn only_under_way(sent: &[Sent], dead: Duration) {
    let clients = sent.iter().map(|sent| sent.client + 1).max();
    assert!(Some(lost(sent).len()) <= clients, "{:?}", lost(sent));
    for lost in lost(sent) {
        assert!(
            lost.begun < dead && lost.spilled,
            "{lost:?}, dead at {dead:?}"
        );
        assert_eq!(lost.status, 503);
    }
}

/// The peer's east-west gateway is killed, and comes back. What comes home is served by home, which gets nothing else
/// beyond its limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_gateway_costs_what_is_under_way_and_its_return_nothing() -> Result<()> {
    let (mesh, folder) = full().await?;
    let counting = json!({
        "version": 1, "cluster": Cluster::Home.name(), "role": "server", "mode": "enforce",
        "services": [{"host": "*"}],
    });
    let manifest = wasmplugin(&folder.join("receiver-guests"), &counting)?;
    mesh.kube(Cluster::Home)
        .apply(&manifest.to_string())
        .await?;
    // What came over a connection of before would not be counted.
    mesh.restart_proxy(&HOME_APP).await?;
    let before = until_some_by("home's own sidecar counts", PATIENCE, async || {
        let before = arrived(&mesh).await.ok()?;
        fixture::get(&mesh, "/", &[]).await.ok()?;
        let now = arrived(&mesh).await.ok()?;
        (now != before).then_some(now)
    })
    .await?;
    let stayed = decided(&mesh, "destination=.=home").await?;
    let room = decided(&mesh, "reason=.=room").await?;
    let outcomes_before = outcomes(&mesh).await?;

    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let dead = known(&load).await?;
    come_home(&load).await?;
    mesh.start_proxy(&PEER_GATEWAY).await?;
    peer_answers(&load).await?;
    let sent = load.finish().await?;
    only_under_way(&sent, dead);

    let count = |is: &dyn Fn(&Sent) -> bool| sent.iter().filter(|sent| is(sent)).count() as i64;
    let (own, returned) = (count(&|sent| !sent.spilled), count(&Sent::returned));
    // Home got what stayed and what came back, each once, and nothing else; what was lost least of all.
    let after = arrived(&mesh).await?;
    let arrived: Vec<i64> = after
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    assert_eq!(arrived, [own, returned, own + returned]);
    // What stayed kept to the limit: nothing went home without room.
    let stayed = decided(&mesh, "destination=.=home").await? - stayed;
    let room = decided(&mesh, "reason=.=room").await? - room;
    assert_eq!((stayed, room), (own, own));
    // The plugin knows who answered each that it spilled.
    let now = outcomes(&mesh).await?;
    let said: Vec<i64> = now
        .iter()
        .zip(outcomes_before)
        .map(|(n, b)| n - b)
        .collect();
    let lost = lost(&sent).len() as i64;
    assert_eq!(
        said,
        [
            count(&Sent::by_peer),
            returned,
            lost,
            sent.len() as i64 - own
        ]
    );
    Ok(())
}

/// What became of what the client spilled: answered well by the peer, by home, not answered, and all.
async fn outcomes(mesh: &Mesh) -> Result<[i64; 4]> {
    let counted = async |so: &str| {
        let parts = ["peer_spillover", "outcomes", so];
        mesh.proxy(&CLIENT).sum(&parts).await
    };
    Ok([
        counted("destination=.=gke;.;response_code_class=.=2xx").await?,
        counted("destination=.=returned;.;response_code_class=.=2xx").await?,
        counted("response_code_class=.=none").await?,
        counted("").await?,
    ])
}

/// What home's application got, as its own sidecar counts it: within home's limit, come back, and all.
async fn arrived(mesh: &Mesh) -> Result<[i64; 3]> {
    let decided = async |so: &str| {
        let parts = ["peer_spillover", "decisions", "role=.=server", so];
        mesh.proxy(&HOME_APP).sum(&parts).await
    };
    Ok([
        decided("reason=.=room").await?,
        decided("reason=.=returned").await?,
        decided("reason=.=").await?,
    ])
}

/// How often the client's filter decided so.
async fn decided(mesh: &Mesh, so: &str) -> Result<i64> {
    let parts = ["peer_spillover", "decisions", "role=.=client", so];
    mesh.proxy(&CLIENT).sum(&parts).await
}

/// The same by header, at an ingress gateway, with its own VirtualService.
#[tokio::test(flavor = "multi_thread")]
async fn by_header_at_an_ingress_gateway_too_spills_come_home() -> Result<()> {
    let (mesh, folder) = fixture::federated().await?;
    mesh.restart_proxy(&INGRESS).await?;
    let gateway = folder.join("gateway");
    let plugin = gateway.join("wasmplugin.yaml");
    edit(&plugin, &[("http2MaxRequests: 100", "http2MaxRequests: 1")])?;
    edit(&plugin, &[("mode: observe", "debugHeader: true")])?;
    let home = mesh.kube(Cluster::Home);
    home.apply(
        "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: ingress, namespace: istio-system}, spec: {
            selector: {istio: ingressgateway},
            servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.example.com]}]}}",
    )
    .await?;
    home.apply_folder(&gateway).await?;
    let proxy = mesh.proxy(&INGRESS);
    let there = |config: &str| {
        let parts = ["0.0.0.0_8080", "\"exact\": \"gke\""];
        parts.iter().all(|part| config.contains(part)) && !config.contains("warming_state")
    };
    let what = "the gateway has the route to the peer";
    proxy.wait_config(what, there).await?;
    proxy
        .wait_sum(&["peer_spillover", "configured"], |running| running > 0)
        .await?;

    let (lab, to) = (mesh.layout.lab(), format!("{}:8080", INGRESS.ip()));
    let outside = Dial::by(move || {
        let (lab, to) = (lab.clone(), to.clone());
        async move { net::connect(&lab, to.parse()?).await }
    });
    let load = Load::over(outside, PUBLIC, &FOUR);
    peer_answers(&load).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let dead = known(&load).await?;
    come_home(&load).await?;
    only_under_way(&load.finish().await?, dead);
    Ok(())
}

/// The application is down and its sidecar is not, which answers 503 for it, until that is noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_application_costs_what_finds_it_dead() -> Result<()> {
    let (mesh, _) = full().await?;
    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    kill_app(&mesh).await?;
    ejected(&mesh).await?;
    // By every worker.
    come_home(&load).await?;
    let noticed = load.now();
    load.wait("none finds it dead", noticed, 20, Sent::returned)
        .await?;
    let well = load.now();
    // It is tried again, and is still dead.
    load.wait("it is tried again", well, 1, |sent| !sent.ok())
        .await?;
    let sent = load.finish().await?;
    let lost = lost(&sent);
    assert!(!lost.is_empty(), "nobody found it dead");
    for lost in lost {
        assert!(lost.spilled && lost.status == 503, "{lost:?}");
        let between = lost.begun >= noticed && lost.begun < well;
        assert!(!between, "{lost:?}, noticed at {noticed:?}");
    }
    Ok(())
}

/// The sidecar says what never reached the application (`receiver-unreached`).
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_application_whose_sidecar_says_so_costs_what_was_under_way_there() -> Result<()> {
    let (mesh, folder) = full().await?;
    let rule = folder.join(RULE);
    edit(
        &rule,
        &[(
            "    retries:",
            &format!("{}    retries:", choice(UNREACHED)?),
        )],
    )?;
    edit(
        &rule,
        &[("refused-stream", "refused-stream,retriable-headers")],
    )?;
    choose(&mesh, &folder, UNREACHED).await?;
    mesh.kube(Cluster::Peer)
        .apply_folder(&folder.join("receiver-unreached"))
        .await?;
    let says = |config: &str| config.contains("x-peer-spillover-unreached");
    mesh.proxy(&PEER_APP)
        .wait_config("the peer's sidecar says so", says)
        .await?;

    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    kill_app(&mesh).await?;
    let dead = known(&load).await?;
    come_home(&load).await?;
    only_under_way(&load.finish().await?, dead);
    Ok(())
}

async fn kill_app(mesh: &Mesh) -> Result<()> {
    let namespace = mesh.layout.namespace(&PEER_APP);
    mesh.kill(&namespace, "server", Signal::SIGKILL).await
}

/// Waits until the client's proxy leaves the peer's gateway alone.
pub async fn ejected(mesh: &Mesh) -> Result<()> {
    let proxy = mesh.proxy(&CLIENT);
    let address = format!("{}:15443", PEER_GATEWAY.ip());
    let flag = format!("outbound|80||{PEER_HOST}::{address}::health_flags::/failed_outlier_check");
    until_some_by("the peer is left alone", PATIENCE, async || {
        let clusters = proxy.admin("/clusters").await.ok()?;
        clusters.contains(&flag).then_some(())
    })
    .await
}

/// The whole pod of the service dies, sidecar and application; the gateway has nowhere to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_pod_costs_what_is_under_way() -> Result<()> {
    let (mesh, _) = full().await?;
    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    // The sidecar first: else it would answer for the application that died before it.
    mesh.kill_proxy(&PEER_APP).await?;
    kill_app(&mesh).await?;
    let dead = known(&load).await?;
    come_home(&load).await?;
    only_under_way(&load.finish().await?, dead);
    Ok(())
}

/// Where the user chose so for reads (README).
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_gateway_costs_the_writes_under_way_where_reads_come_home() -> Result<()> {
    let (mesh, folder) = full().await?;
    let reads = choice("method: {regex:")?;
    edit(
        &folder.join(RULE),
        &[("  - route:", &format!("{reads}  - route:"))],
    )?;
    choose(&mesh, &folder, "GET|HEAD|OPTIONS").await?;
    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let dead = known(&load).await?;
    come_home(&load).await?;
    let sent = load.finish().await?;
    only_under_way(&sent, dead);
    let lost = lost(&sent);
    assert!(lost.iter().all(|sent| sent.method == "POST"), "{lost:?}");
    Ok(())
}

/// The peer's control plane dies: its proxies go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_control_plane_costs_nothing() -> Result<()> {
    let (mesh, _) = full().await?;
    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    mesh.kill_daemon("peer-istiod").await?;
    peer_answers(&load).await?;
    let sent = load.finish().await?;
    assert!(lost(&sent).is_empty(), "{:?}", lost(&sent));
    assert!(!sent.iter().any(Sent::returned), "none came home");
    Ok(())
}

/// Every packet from and to the peer's gateway is dropped, and after a while no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_costs_what_is_on_its_connections() -> Result<()> {
    let (mesh, folder) = full().await?;
    mesh.kube(Cluster::Home)
        .apply_folder(&folder.join("silent-peer"))
        .await?;
    let there = |config: &str| config.contains("TCP_USER_TIMEOUT");
    let what = "the client asks who is silent";
    mesh.proxy(&CLIENT).wait_config(what, there).await?;
    // When the silence begins there are connections on which an answer is waited for, and connections without a request.
    let load = Load::with_calm(&mesh, &FOUR, &FOUR).await?;
    peer_answers(&load).await?;
    silence(&mesh, "-A").await?;
    ejected(&mesh).await?;
    let noticed = load.now();
    come_home(&load).await?;
    // None waits for a peer that says nothing.
    only_under_way(&load.finish().await?, noticed);
    silence(&mesh, "-D").await?;
    let load = Load::of(&mesh, &FOUR).await?;
    peer_answers(&load).await?;
    let sent = load.finish().await?;
    assert!(lost(&sent).is_empty(), "{:?}", lost(&sent));
    Ok(())
}

pub async fn silence(mesh: &Mesh, change: &str) -> Result<()> {
    for chain in ["INPUT", "OUTPUT"] {
        let mut iptables = net::command(&mesh.layout.namespace(&PEER_GATEWAY), "iptables");
        net::run(iptables.args([change, chain, "-j", "DROP"])).await?;
    }
    Ok(())
}

/// The peer's gateway is frozen for a while: it acknowledges and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_peer_costs_nothing_if_it_wakes() -> Result<()> {
    let (mesh, _) = full().await?;
    let early = Load::of(&mesh, &FOUR).await?;
    peer_answers(&early).await?;
    signal(&mesh, &PEER_GATEWAY, Signal::SIGSTOP).await?;
    // Those of before wait at the peer; these find that it makes no new connection.
    let late = Load::of(&mesh, &FOUR).await?;
    let home = late
        .wait("new ones come home", Duration::ZERO, 20, Sent::returned)
        .await;
    signal(&mesh, &PEER_GATEWAY, Signal::SIGCONT).await?;
    home?;
    let sent = [early.finish().await?, late.finish().await?].concat();
    assert!(lost(&sent).is_empty(), "{:?}", lost(&sent));
    Ok(())
}

async fn signal(mesh: &Mesh, pod: &PodSpec, signal: Signal) -> Result<()> {
    mesh.kill(&mesh.layout.namespace(pod), "envoy", signal)
        .await
}
