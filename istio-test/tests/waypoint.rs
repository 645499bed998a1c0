//! The plugin on a waypoint, in an ambient mesh.

#[path = "placements/decisions.rs"]
mod decisions;
#[path = "waypoint/hbone.rs"]
mod hbone;
#[path = "waypoint/pod.rs"]
mod pod;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use decisions::table;
use envoy_test::wait::until_some_by;
use hbone::{Answered, Caller};
use istio_test::fixture::{federated, home, peer};
use istio_test::mesh::SERVICE;
use istio_test::{Cluster, Mesh};
use pod::{READY, Waypoint};
use serde_json::Value;

const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";
/// What Envoy's configuration has of the manifest's route to the peer alone: its match on the peer's name.
const ROUTE: &str = "\"exact\": \"gke\"";
const SLOW: &str = "/?delay=2s";

/// The application has a sidecar here. As in an ambient mesh it takes what comes from the waypoint without TLS of its own.
const PERMISSIVE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a, namespace: istio}
spec: {selector: {matchLabels: {app: a}}, mtls: {mode: PERMISSIVE}}
";

/// Applies [`PERMISSIVE`], and waits until home's sidecar does as it says: before, it closes the waypoint's connections.
async fn admits_the_waypoint(mesh: &Mesh, waypoint: &Waypoint) -> Result<Caller> {
    mesh.kube(Cluster::Home).apply(PERMISSIVE).await?;
    let caller = Caller::new(mesh, &waypoint.address()).await?;
    until_some_by("home admits the waypoint", READY, async || {
        let answers = caller.send("/", 1, &[]).await.ok()?;
        (answers.first()?.status == 200).then_some(())
    })
    .await?;
    Ok(caller)
}

/// Applies `wasmplugin/waypoint` with a limit of 1 and this mode, and waits until it runs.
async fn apply(mesh: &Mesh, waypoint: &Waypoint, folder: &Path, mode: &str) -> Result<()> {
    let file = folder.join("waypoint/wasmplugin.yaml");
    let mut manifest: Value = serde_yaml_ng::from_str(&fs::read_to_string(&file)?)?;
    let config = &mut manifest["spec"]["pluginConfig"];
    config["mode"] = mode.into();
    let service = &mut config["services"][0];
    service["trafficPolicy"]["connectionPool"]["http"]["http2MaxRequests"] = 1.into();
    fs::write(&file, manifest.to_string())?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply_folder(&folder.join("waypoint")).await?;
    let routed = |config: &str| {
        let parts = ["policy[peer-spillover-waypoint]", ROUTE];
        parts.iter().all(|part| config.contains(part)) && !config.contains("warming_state")
    };
    waypoint
        .wait(
            "the waypoint has the route to the peer",
            "/config_dump",
            routed,
        )
        .await?;
    let runs = format!("mode=.={mode};.;");
    waypoint
        .wait("the plugin runs", "/stats?filter=peer_spillover", |stats| {
            let mut lines = stats.lines();
            lines.any(|line| line.contains(&runs) && !line.ends_with(": 0"))
        })
        .await
}

fn by(answers: &[Answered], name: &str) -> usize {
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:?}"
    );
    let names = answers.iter().map(|answer| answer.field("Hostname"));
    names.filter(|by| *by == Some(name)).count()
}

async fn spills(mesh: &Mesh, waypoint: &Waypoint, folder: &Path) -> Result<()> {
    let caller = admits_the_waypoint(mesh, waypoint).await?;

    apply(mesh, waypoint, folder, "observe").await?;
    let answers = caller.send(SLOW, 3, &[]).await?;
    assert_eq!(by(&answers, &home()), 3, "nothing leaves: {answers:?}");
    let observed = table(&[("client home room", 1), ("client gke limit", 2)]);
    assert_eq!(
        decisions::of(&waypoint.admin(decisions::PATH).await),
        observed
    );
    // Not by a client's own header either.
    let forged = [(TO, Cluster::Peer.name())];
    let refused = caller.send("/", 1, &forged).await?;
    assert_eq!(refused[0].status, 403);

    apply(mesh, waypoint, folder, "enforce").await?;
    let answers = caller.send(SLOW, 3, &[]).await?;
    assert_eq!(
        (by(&answers, &home()), by(&answers, &peer())),
        (1, 2),
        "{answers:?}"
    );
    for answer in &answers {
        assert_eq!(answer.field("Host"), Some(SERVICE));
        let spilled = answer.field("Hostname") == Some(&peer());
        let marker = spilled.then_some(Cluster::Home.name());
        assert_eq!(answer.received(MARKER), marker);
        if spilled {
            let caller = answer
                .received("x-forwarded-client-cert")
                .context("no identity")?;
            assert!(
                caller.ends_with("URI=spiffe://cluster.local/ns/istio/sa/waypoint"),
                "{caller}"
            );
        }
    }
    // Room again: home again.
    let answer = caller.send("/", 1, &[]).await?;
    assert_eq!(by(&answer, &home()), 1);
    let all = table(&[("client home room", 3), ("client gke limit", 4)]);
    assert_eq!(decisions::of(&waypoint.admin(decisions::PATH).await), all);
    let refused = caller.send("/", 1, &forged).await?;
    assert_eq!(refused[0].status, 403);
    Ok(())
}

async fn guests(mesh: &Mesh, waypoint: &Waypoint, folder: &Path) -> Result<()> {
    let caller = admits_the_waypoint(mesh, waypoint).await?;
    apply(mesh, waypoint, folder, "enforce").await?;
    let full = async {
        waypoint
            .wait("the slot is taken", "/stats?filter=in_flight", |stats| {
                stats.trim_end().ends_with("in_flight: 1")
            })
            .await?;
        for (marker, _) in GUESTS {
            let answer = caller.send("/", 1, &[(MARKER, marker)]).await?;
            assert_eq!(by(&answer, &home()), 1, "{marker}");
            assert_eq!(answer[0].received(MARKER), Some(marker));
        }
        anyhow::Ok(())
    };
    let (held, full) = tokio::join!(caller.send("/?delay=6s", 1, &[]), full);
    assert_eq!(by(&held?, &home()), 1);
    full?;
    let mut expected = table(&[("client home room", 1)]);
    expected.extend(GUESTS.map(|(_, reason)| (format!("client home {reason}"), 1)));
    assert_eq!(
        decisions::of(&waypoint.admin(decisions::PATH).await),
        expected
    );
    Ok(())
}

const GUESTS: [(&str, &str); 2] = [("gke", "guest"), ("iotcloudserve", "returned")];

/// What comes to a waypoint comes in a tunnel, so that the connection of the request itself has no certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_at_a_waypoint_is_known_by_the_certificate_of_its_tunnel() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let waypoint = Waypoint::up(&mesh).await?;
    let stayed = guests(&mesh, &waypoint, &folder).await;
    waypoint.down().await?;
    stayed
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_surplus_leaves_a_waypoint() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let waypoint = Waypoint::up(&mesh).await?;
    let spilled = spills(&mesh, &waypoint, &folder).await;
    waypoint.down().await?;
    spilled
}
