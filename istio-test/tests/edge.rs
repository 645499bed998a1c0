//! An entrance to the mesh without the clients' plugin: what it lends its certificate to, and that `wasmplugin/edge` ends that.

use anyhow::Result;
use envoy_test::client::{Answer, Dial, empty, request};
use envoy_test::wait::until_some;
use istio_test::federation::{answered, received};
use istio_test::fixture::{federated, home};
use istio_test::layout::INGRESS;
use istio_test::{Cluster, Mesh, net};

const PUBLIC: &str = "a.example.com";
const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";

/// The gateway, and a route to the service that looks at no header. The port is the pod's: no Service leads from 80 to it.
const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ingress, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.example.com]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-ingress, namespace: istio}
spec:
  hosts: [a.example.com]
  gateways: [istio-system/ingress]
  http:
  - route:
    - destination: {host: a.istio.svc.cluster.local}
";

/// A request with both headers, and one of its own, from outside of the mesh, on a connection of its own.
async fn forged(mesh: &Mesh) -> Result<Answer> {
    let (lab, to) = (mesh.layout.lab(), format!("{}:8080", INGRESS.ip()));
    let dial = Dial::by(move || {
        let (lab, to) = (lab.clone(), to.clone());
        async move { net::connect(&lab, to.parse()?).await }
    });
    let headers = [
        (MARKER, Cluster::Peer.name()),
        (TO, Cluster::Peer.name()),
        ("x-own", "kept"),
    ];
    let mut client = dial.client(false).await?;
    client
        .send(request("GET", PUBLIC, "/", &headers, empty())?)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_with_the_edge_lends_its_certificate_to_nobody() -> Result<()> {
    let (mesh, folder) = federated().await?;
    // No statistic of an earlier test.
    mesh.restart_proxy(&INGRESS).await?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply(ROUTES).await?;
    let answer = until_some("the gateway leads to the service", async || {
        let answer = forged(&mesh).await.ok()?;
        (answer.status == 200).then_some(answer)
    })
    .await?;
    // They came with the gateway's own certificate.
    assert_eq!(answered(&answer), home());
    for name in [MARKER, TO] {
        assert_eq!(received(&answer, name).as_deref(), Some("gke"), "{name}");
    }
    let xfcc = received(&answer, "x-forwarded-client-cert").unwrap_or_default();
    assert!(xfcc.contains("URI=spiffe://cluster.local/"), "{xfcc}");

    kube.apply_folder(&folder.join("edge")).await?;
    let proxy = mesh.proxy(&INGRESS);
    let configured = ["peer_spillover", "role=.=edge", "configured"];
    proxy.wait_sum(&configured, |n| n > 0).await?;
    let answer = until_some("the edge removes the headers", async || {
        let answer = forged(&mesh).await.ok()?;
        (answer.status == 200 && received(&answer, MARKER).is_none()).then_some(answer)
    })
    .await?;
    assert_eq!(answered(&answer), home());
    assert_eq!(received(&answer, TO), None);
    assert_eq!(received(&answer, "x-own").as_deref(), Some("kept"));
    let counted = proxy.sum(&["peer_spillover", "forged_headers"]).await?;
    assert_eq!(counted, 1);
    Ok(())
}
