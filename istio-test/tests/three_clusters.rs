//! Three real clusters: home's surplus goes to two peers by priority and by weight, and to one of them if the other is dead.

#[expect(dead_code, reason = "it matters to other tests what a client sends")]
#[path = "dead_peer/load.rs"]
mod load;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use envoy_test::load::{Outcome, Until, answered_by, closed_loop};
use istio_test::federation::{self, PEER_HOST, THIRD_HOST, cluster_of, wasmplugin};
use istio_test::fixture::{self, federated, get, hold, home, in_flight, peer};
use istio_test::layout::{CLIENT, Cluster, PEER_APP, PEER_GATEWAY, PodSpec, THIRD_APP};
use istio_test::mesh::SERVICE;
use istio_test::pod::hostname;
use istio_test::{Mesh, third};
use load::{Load, Sent, lost};
use serde_json::{Value, json};

/// How long whatever a test waits for may take on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Two of three spill.
const CLIENTS: [&str; 3] = ["GET", "POST", "GET"];

/// The name by which the application of the third cluster answers.
fn other() -> String {
    hostname(Cluster::Third)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_goes_to_two_peers_and_past_one_that_is_dead() -> Result<()> {
    let (mesh, folder) = federated().await?;
    third::with(&mesh, async || {
        accept_guests(&mesh, &folder).await?;
        by_priority(&mesh, &folder).await?;
        by_weight(&mesh, &folder).await?;
        past_a_dead_peer(&mesh).await?;
        in_flight(&mesh, 0).await?;
        for name in ["gke", "eks"] {
            of_peer(&mesh, name, "peer_in_flight", |n| n == 0).await?;
        }
        Ok(())
    })
    .await
}

/// The third cluster lets guests in, and both peers count them, each under its own name.
async fn accept_guests(mesh: &Mesh, folder: &Path) -> Result<()> {
    let kube = mesh.kube(Cluster::Third);
    kube.apply_folder(&folder.join("receiver")).await?;
    federation::reached_in(mesh, Cluster::Third, true).await?;
    for (cluster, app) in [(Cluster::Peer, PEER_APP), (Cluster::Third, THIRD_APP)] {
        let counting = json!({
            "version": 1, "cluster": cluster.name(), "role": "server", "services": [{"host": "*"}],
        });
        let plugin = wasmplugin(&folder.join("receiver-guests"), &counting)?;
        mesh.kube(cluster).apply(&plugin.to_string()).await?;
        let named = format!("cluster=.={}", cluster.name());
        let proxy = mesh.proxy(&app);
        let info = ["peer_spillover", &named, ";.;info"];
        proxy.wait_sum(&info, |n| n > 0).await?;
        proxy.wait_settled().await?;
    }
    Ok(())
}

/// The folder `several-peers` with the smallest limit of home, enforced; `change` changes its two peers.
fn plugin(folder: &Path, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let several = folder.join("several-peers");
    let text = std::fs::read_to_string(several.join("wasmplugin.yaml"))?;
    let shipped: Value = serde_yaml_ng::from_str(&text)?;
    let mut config = shipped["spec"]["pluginConfig"].clone();
    config["mode"] = json!("enforce");
    config["debugHeader"] = json!(true);
    let service = &mut config["services"][0];
    // Errors of home would eject it: it must not be to blame for those of a peer.
    service["trafficPolicy"] = json!({
        "connectionPool": {"http": {"http2MaxRequests": 1}},
        "outlierDetection": {"consecutive5xxErrors": 5},
    });
    for peer in service["peers"].as_array_mut().into_iter().flatten() {
        let detection = &mut peer["trafficPolicy"]["outlierDetection"];
        detection["baseEjectionTime"] = json!("1s");
        detection["interval"] = json!("1s");
    }
    change(&mut service["peers"]);
    wasmplugin(&several, &config)
}

/// Waits until a metric of a peer is as `holds` says.
async fn of_peer(mesh: &Mesh, name: &str, metric: &str, holds: fn(i64) -> bool) -> Result<i64> {
    let (peer, metric) = (format!("peer=.={name};.;"), format!(";.;{metric}"));
    let parts = ["peer_spillover", &peer, &metric];
    mesh.proxy(&CLIENT).wait_sum(&parts, holds).await
}

/// gke is asked first, and has room for one request; what exceeds that goes to eks.
async fn by_priority(mesh: &Mesh, folder: &Path) -> Result<()> {
    let manifest = plugin(folder, |peers| {
        peers[0]["trafficPolicy"]["connectionPool"] = json!({"http": {"http2MaxRequests": 1}});
        peers[1]["priority"] = json!(1);
    })?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply_folder(&folder.join("several-peers")).await?;
    kube.apply(&manifest.to_string()).await?;
    let proxy = mesh.proxy(&CLIENT);
    let known = |config: &str| {
        [PEER_HOST, THIRD_HOST]
            .iter()
            .all(|host| config.contains(&cluster_of(host)))
    };
    proxy
        .wait_config("the client knows both peers", known)
        .await?;
    let enforced = ["peer_spillover", "mode=.=enforce", ";.;info"];
    proxy.wait_sum(&enforced, |n| n > 0).await?;
    proxy.wait_settled().await?;

    let said = async || -> Result<_> {
        let answer = get(mesh, "/", &[]).await?;
        let decision = answer.header("x-peer-spillover").to_owned();
        Ok((federation::answered(&answer), decision))
    };
    let (gke, eks) = (
        "gke; reason=limit".to_owned(),
        "eks; reason=limit".to_owned(),
    );
    assert_eq!(said().await?, (home(), "home; reason=room".to_owned()));
    let at_home = hold(mesh, SERVICE).await?;
    for _ in 0..5 {
        assert_eq!(said().await?, (peer(), gke.clone()));
    }
    let at_gke = hold(mesh, SERVICE).await?;
    of_peer(mesh, "gke", "peer_in_flight", |n| n == 1).await?;
    for _ in 0..5 {
        assert_eq!(said().await?, (other(), eks.clone()));
    }
    let full = ["peer_spillover", "peer=.=gke;.;", "reason=.=full;.;"];
    assert_eq!(proxy.sum(&full).await?, 5);
    drop(at_gke);
    of_peer(mesh, "gke", "peer_in_flight", |n| n == 0).await?;
    assert_eq!(said().await?, (peer(), gke));
    drop(at_home);
    in_flight(mesh, 0).await
}

/// How many guests the application of a pod got, as its own sidecar counts them.
async fn guests(mesh: &Mesh, app: &PodSpec) -> Result<i64> {
    let parts = ["peer_spillover", "role=.=server", "reason=.=guest;.;"];
    mesh.proxy(app).sum(&parts).await
}

/// As shipped: gke gets two of three requests of the surplus. Each peer counts as many guests as it has answered.
async fn by_weight(mesh: &Mesh, folder: &Path) -> Result<()> {
    let manifest = plugin(folder, |_| ())?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply(&manifest.to_string()).await?;
    of_peer(mesh, "gke", "peer_limit", |n| n == 50).await?;
    let before = [
        guests(mesh, &PEER_APP).await?,
        guests(mesh, &THIRD_APP).await?,
    ];
    let mut load = fixture::load(mesh, 8, Until::Requests(1200)).await?;
    load.path = "/?delay=20ms".to_owned();
    let outcomes = closed_loop(load).await?;
    let wrong: Vec<&Outcome> = outcomes.iter().filter(|one| !one.is_ok()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let [here, gke, eks] = [home(), peer(), other()].map(|name| answered_by(&outcomes, &name));
    println!("{here} home, {gke} gke, {eks} eks");
    assert!(here > 0 && here + gke + eks == 1200, "{here} {gke} {eks}");
    let draws = (gke + eks) as f64;
    let (share, weight) = (gke as f64 / draws, 2.0 / 3.0);
    // Five standard deviations of as many draws.
    let tolerance = 5.0 * (weight * (1.0 - weight) / draws).sqrt();
    assert!((share - weight).abs() < tolerance, "{share} {tolerance}");
    for (app, answered, before) in [(PEER_APP, gke, before[0]), (THIRD_APP, eks, before[1])] {
        assert_eq!(guests(mesh, &app).await? - before, answered as i64);
    }
    Ok(())
}

/// gke's gateway is killed, and comes back. What was under way is lost. What finds it dead comes home until gke is ejected,
/// and then eks gets everything but probes.
async fn past_a_dead_peer(mesh: &Mesh) -> Result<()> {
    let by_other = |sent: &Sent| sent.ok() && sent.by == other();
    let load = Load::of(mesh, &CLIENTS).await?;
    for is in [Sent::by_peer as fn(&Sent) -> bool, by_other] {
        load.wait("both peers answer", load.now(), 10, is).await?;
    }
    mesh.kill_proxy(&PEER_GATEWAY).await?;
    let dead = load.now();
    of_peer(mesh, "gke", "peer_ejected", |n| n == 1).await?;
    let ejected = load.now();
    load.wait("the other peer answers", ejected, 40, by_other)
        .await?;
    let (until, ejections) = (
        load.now(),
        of_peer(mesh, "gke", "peer_ejections", |n| n > 0).await?,
    );
    mesh.start_proxy(&PEER_GATEWAY).await?;
    load.wait("the peer answers again", load.now(), 20, Sent::by_peer)
        .await?;
    let sent = load.finish().await?;

    for client in 0..CLIENTS.len() {
        let of = lost(&sent).into_iter().filter(|one| one.client == client);
        assert!(of.count() <= 1, "{:?}", lost(&sent));
    }
    for one in lost(&sent) {
        assert!(one.begun < dead && one.status == 503, "{one:?}, {dead:?}");
    }
    let meanwhile = || sent.iter().filter(|s| s.begun > ejected && s.begun < until);
    let probes = meanwhile().filter(|one| one.spilled).count() as i64;
    println!("{probes} probes in {ejections} ejections");
    assert!(probes <= ejections, "{probes} {ejections}");
    // They came home too.
    assert!(meanwhile().all(|one| !one.spilled || one.returned()));
    let proxy = mesh.proxy(&CLIENT);
    for ejections in [";.;ejections", "peer=.=eks;.;peer_ejections"] {
        assert_eq!(proxy.sum(&["peer_spillover", ejections]).await?, 0);
    }
    Ok(())
}
