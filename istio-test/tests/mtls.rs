//! Who a spilled request comes from, to the last hop: the peer sees the caller's identity, lets nobody else in, and believes
//! no marker of anybody else's.

#[path = "mtls/outsider.rs"]
mod outsider;

use std::path::Path;

use anyhow::Result;
use envoy_test::Certs;
use envoy_test::client::{Answer, empty, request};
use envoy_test::wait::until_some;
use istio_test::Mesh;
use istio_test::control::write_mesh_config;
use istio_test::experiment::apply_plugin;
use istio_test::federation::{answered, plugin_config, received, wasmplugin};
use istio_test::fixture::{federated, get, hold, home, in_flight, peer};
use istio_test::layout::{CLIENT, Cluster, PEER_APP, PEER_GATEWAY, PodSpec, STRANGER};
use istio_test::mesh::SERVICE;
use outsider::{Identity, Speech, ask};
use serde_json::{Value, json};

const MARKER: &str = "x-peer-spillover-from";
/// The name by which the peer's gateway knows the service.
const SNI: &str = "outbound_.80_._.a.istio.svc.cluster.local";
const CALLER: &str = "URI=spiffe://cluster.local/ns/istio/sa/client";
const CONFIGURED: [&str; 2] = ["peer_spillover", "configured"];

/// Everything that may spill does: what is looked at here is what becomes of a spilled request.
fn evacuate() -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["mode"] = json!("evacuate");
    config
}

fn spilled(answer: &Answer) {
    assert_eq!(
        (answer.status, answered(answer)),
        (200, peer()),
        "{answer:?}"
    );
    assert_eq!(received(answer, MARKER).as_deref(), Some("iotcloudserve"));
    let xfcc = received(answer, "x-forwarded-client-cert").unwrap_or_default();
    assert!(xfcc.contains(CALLER), "{xfcc}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_sees_the_callers_identity_and_where_it_comes_from() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let at_home = get(&mesh, "/", &[]).await?;
    assert_eq!(answered(&at_home), home());
    assert_eq!(received(&at_home, MARKER), None, "it has not been spilled");
    let held = hold(&mesh, SERVICE).await?;
    let answer = get(&mesh, "/", &[]).await?;
    spilled(&answer);
    let xfcc = received(&answer, "x-forwarded-client-cert").unwrap_or_default();
    // The connection that carried it ended at the peer's own sidecar: no gateway has read it on the way.
    assert_eq!(xfcc.matches("URI=").count(), 1, "{xfcc}");
    drop(held);
    in_flight(&mesh, 0).await
}

/// Whatever a client says of itself, its request is its own: counted, and spilled as such.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_a_client_forges_is_removed_and_its_request_spilled_all_the_same()
-> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let forged = ["gke", "iotcloudserve", "venus"];
    for marker in forged {
        let answer = get(&mesh, "/", &[(MARKER, marker)]).await?;
        assert_eq!(answered(&answer), home());
        assert_eq!(received(&answer, MARKER), None, "{marker}");
    }
    let held = hold(&mesh, SERVICE).await?;
    for marker in forged {
        let answer = get(&mesh, "/", &[(MARKER, marker)]).await?;
        assert_eq!(
            answer.header("x-peer-spillover"),
            "gke; reason=limit",
            "{marker}"
        );
        spilled(&answer);
    }
    let proxy = mesh.proxy(&CLIENT);
    for reason in ["guest", "returned"] {
        let reason = format!("reason=.={reason};");
        assert_eq!(proxy.sum(&["peer_spillover", &reason]).await?, 0);
    }
    drop(held);
    in_flight(&mesh, 0).await
}

/// At the gateway and at the pod itself.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_of_the_mesh_gets_nowhere() -> Result<()> {
    let (mesh, _) = federated().await?;
    let (gateway, pod) = targets();
    let tls = |identity| Speech::Tls(SNI.to_owned(), identity);
    let dir = mesh.layout.dir().join("outside");
    std::fs::create_dir_all(&dir)?;
    let other = Certs::make(&dir)?.leaf("cluster.local", "istio", "client")?;

    let ours = tls(Some(Identity::of_the_mesh(
        &mesh,
        "cluster.local",
        "client",
    )?));
    for addr in [&gateway, &pod] {
        // Else the refusals below would prove nothing.
        until_some("a certificate of the mesh is let in", async || {
            let text = ask(&mesh, addr, &ours, "").await.ok()?;
            (text.contains(&peer()) && text.contains(CALLER)).then_some(())
        })
        .await?;
        for (who, speech) in [
            ("plain HTTP", Speech::Plain),
            ("TLS without a certificate", tls(None)),
            (
                "a certificate of another root",
                tls(Some(Identity::of(&other)?)),
            ),
            // Signed by the mesh's own root, which may not vouch for others.
            (
                "another trust domain",
                tls(Some(Identity::of_the_mesh(
                    &mesh,
                    "elsewhere.example",
                    "client",
                )?)),
            ),
        ] {
            assert_eq!(ask(&mesh, addr, &speech, "").await?, "", "{who} at {addr}");
        }
    }
    // A service that the gateway does not name is not there, certificate or not.
    let elsewhere = Speech::Tls(
        SNI.replace("a.istio", "b.istio"),
        Some(Identity::of_the_mesh(&mesh, "cluster.local", "client")?),
    );
    assert_eq!(ask(&mesh, &gateway, &elsewhere, "").await?, "");

    // It is the PeerAuthentication that keeps plain HTTP out.
    permit_plaintext(&mesh).await?;
    until_some("plain HTTP is let in", async || {
        let text = ask(&mesh, &pod, &Speech::Plain, "").await.ok()?;
        text.contains(&peer()).then_some(())
    })
    .await?;
    assert_eq!(ask(&mesh, &gateway, &Speech::Plain, "").await?, "");
    Ok(())
}

fn targets() -> (String, String) {
    (
        format!("{}:15443", PEER_GATEWAY.ip()),
        format!("{}:8080", PEER_APP.ip()),
    )
}

async fn permit_plaintext(mesh: &Mesh) -> Result<()> {
    let arguments = [
        "delete",
        "peerauthentication",
        "a-from-peers",
        "-n",
        "istio",
    ];
    mesh.kube(Cluster::Peer).kubectl(&arguments).await?;
    Ok(())
}

/// The receiving side's plugin, at the peer's service.
async fn apply_receiver(mesh: &Mesh, folder: &Path) -> Result<()> {
    let config = json!({
        "version": 1, "cluster": "gke", "role": "server", "services": [{"host": SERVICE}],
    });
    let mut plugin = wasmplugin(&folder.join("client-sidecar"), &config)?;
    plugin["spec"]["match"] = json!([{"mode": "SERVER"}]);
    plugin["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
    mesh.kube(Cluster::Peer).apply(&plugin.to_string()).await?;
    mesh.proxy(&PEER_APP)
        .wait_sum(&CONFIGURED, |n| n > 0)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_believes_a_marker_only_from_a_certificate_of_the_mesh() -> Result<()> {
    let (mesh, folder) = federated().await?;
    mesh.restart_proxy(&PEER_APP).await?;
    apply_receiver(&mesh, &folder).await?;
    apply_plugin(&mesh, &folder, &evacuate()).await?;
    // Both would be refused at the door otherwise: whoever opens it must still not be believed.
    write_mesh_config(
        &mesh.layout,
        Cluster::Peer,
        "trustDomainAliases: [elsewhere.example]\n",
    )?;
    permit_plaintext(&mesh).await?;
    let (_, pod) = targets();
    let tls = |domain| -> Result<Speech> {
        let identity = Identity::of_the_mesh(&mesh, domain, "client")?;
        Ok(Speech::Tls(SNI.to_owned(), Some(identity)))
    };
    let (ours, theirs) = (tls("cluster.local")?, tls("elsewhere.example")?);
    for speech in [&theirs, &Speech::Plain] {
        until_some("the door is open", async || {
            let text = ask(&mesh, &pod, speech, "").await.ok()?;
            text.contains(&peer()).then_some(())
        })
        .await?;
    }

    let proxy = mesh.proxy(&PEER_APP);
    let decided = async |reason: &str| {
        let reason = format!("reason=.={reason};");
        proxy
            .sum(&["peer_spillover", "role=.=server", &reason])
            .await
    };
    let (guests, own) = (decided("guest").await?, decided("room").await?);
    assert_eq!(guests, 0);
    let marked = format!("{MARKER}: iotcloudserve\r\n");
    let seen = "RequestHeader=X-Peer-Spillover-From:iotcloudserve";
    for speech in [&theirs, &Speech::Plain] {
        let text = ask(&mesh, &pod, speech, &marked).await?;
        assert!(
            text.contains(&peer()) && !text.contains("X-Peer-Spillover"),
            "{text}"
        );
    }
    assert_eq!(
        (decided("guest").await?, decided("room").await?),
        (0, own + 2)
    );
    let text = ask(&mesh, &pod, &ours, &marked).await?;
    assert!(text.contains(&peer()) && text.contains(seen), "{text}");
    assert_eq!(decided("guest").await?, 1);
    // And so from home's own sidecar, by way of the gateway.
    spilled(&get(&mesh, "/", &[]).await?);
    assert_eq!(decided("guest").await?, 2);
    // The peer's own name: what it had sent itself, come back.
    let text = ask(&mesh, &pod, &ours, &format!("{MARKER}: gke\r\n")).await?;
    assert!(text.contains(&peer()), "{text}");
    assert_eq!(
        (decided("returned").await?, decided("room").await?),
        (1, own + 2)
    );
    Ok(())
}

async fn get_from(mesh: &Mesh, from: &PodSpec) -> Result<Answer> {
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    let dial = mesh.dial(from, &format!("{address}:80"));
    let mut client = dial.client(false).await?;
    client
        .send(request("GET", SERVICE, "/", &[], empty())?)
        .await
}

/// The peer's own AuthorizationPolicy holds for what is spilled to it, by who sent it.
#[tokio::test(flavor = "multi_thread")]
async fn the_peers_authorization_policy_holds_for_spilled_requests() -> Result<()> {
    let (mesh, folder) = federated().await?;
    mesh.restart_proxy(&STRANGER).await?;
    apply_plugin(&mesh, &folder, &evacuate()).await?;
    mesh.proxy(&STRANGER)
        .wait_sum(&CONFIGURED, |n| n > 0)
        .await?;
    for pod in [&CLIENT, &STRANGER] {
        let answer = get_from(&mesh, pod).await?;
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, peer()),
            "{}",
            pod.name
        );
    }
    mesh.kube(Cluster::Peer)
        .apply(
            r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: istio}
spec:
  selector: {matchLabels: {app: a}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/istio/sa/client]}}]
"#,
        )
        .await?;
    let refused = until_some("a stranger is refused", async || {
        let answer = get_from(&mesh, &STRANGER).await.ok()?;
        (answer.status == 403).then_some(answer)
    })
    .await?;
    assert_eq!(refused.header("x-peer-spillover"), "gke; reason=evacuate");
    assert_eq!(refused.body, "RBAC: access denied");
    spilled(&get_from(&mesh, &CLIENT).await?);
    Ok(())
}
