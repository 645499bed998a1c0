//! The folder `gateway` with a subset as the peer: what it says of the ServiceEntry's host is changed to the subset.

use anyhow::Result;
use envoy_test::client::Dial;
use envoy_test::load::{LoadOptions, Until, closed_loop, failed};
use istio_test::experiment::PATH;
use istio_test::federation::{answered, edit};
use istio_test::fixture::{home, peer};
use istio_test::layout::{Cluster, INGRESS};
use istio_test::mesh::SERVICE;
use istio_test::net;

use crate::joined;

const PUBLIC: &str = "a.example.com";
const GATEWAY: &str = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: ingress, namespace: istio-system},
    spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.example.com]}]}}";

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_gateway_sends_the_surplus_to_the_subset() -> Result<()> {
    let (mesh, folder) = joined().await?;
    mesh.restart_proxy(&INGRESS).await?;
    let (ours, gateway) = (folder.join("multi-primary"), folder.join("gateway"));
    edit(
        &ours.join("kustomization.yaml"),
        &[("- virtualservice.yaml\n- wasmplugin.yaml\n", "")],
    )?;
    edit(
        &gateway.join("kustomization.yaml"),
        &[("- ../federation\n", "")],
    )?;
    edit(
        &gateway.join("virtualservice.yaml"),
        &[(
            "{host: a.istio.gke.global}",
            "{host: a.istio.svc.cluster.local, subset: gke}",
        )],
    )?;
    edit(
        &gateway.join("wasmplugin.yaml"),
        &[
            ("host: a.istio.gke.global", "subset: gke"),
            ("http2MaxRequests: 100", "http2MaxRequests: 1"),
            ("mode: observe", "debugHeader: true"),
        ],
    )?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply(GATEWAY).await?;
    kube.apply_folder(&ours).await?;
    kube.apply_folder(&gateway).await?;
    let proxy = mesh.proxy(&INGRESS);
    let route = format!("\"cluster\": \"outbound|80|gke|{SERVICE}\"");
    let led = |config: &str| config.contains(&route);
    proxy
        .wait_config("the gateway has the route to the peer", led)
        .await?;
    proxy
        .wait_sum(&["peer_spillover", "configured"], |running| running > 0)
        .await?;
    proxy.wait_settled().await?;

    let (lab, to) = (mesh.layout.lab(), format!("{}:8080", INGRESS.ip()));
    let dial = Dial::by(move || {
        let (lab, to) = (lab.clone(), to.clone());
        async move { net::connect(&lab, to.parse()?).await }
    });
    let mut load = LoadOptions::by(dial, PATH, 3, Until::Requests(60));
    load.host = PUBLIC.to_owned();
    load.served_by = answered;
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0, "{outcomes:?}");
    let spilled = |decision: &str| decision.starts_with(Cluster::Peer.name());
    for one in &outcomes {
        let by = if spilled(&one.decision) {
            peer()
        } else {
            home()
        };
        assert_eq!(one.served_by, by, "{one:?}");
    }
    let left = outcomes.iter().filter(|one| spilled(&one.decision));
    let left = left.count();
    println!("ingress gateway: {} home, {left} peer", 60 - left);
    assert!(left > 0 && left < 60, "{left} of 60");
    Ok(())
}
