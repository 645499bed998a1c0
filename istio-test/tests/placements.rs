//! The plugin elsewhere than in a client's sidecar: at an ingress gateway, and where the peer receives.

#[path = "placements/decisions.rs"]
mod decisions;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use decisions::table;
use demo::drive::{Target, drive};
use demo::result::{self, Counts, windows};
use envoy_test::Client;
use envoy_test::client::{Answer, Dial, empty, request};
use envoy_test::load::{Until, answered_by, closed_loop, failed};
use envoy_test::wait::until_some;
use istio_test::experiment::{DELAY, PATH, apply_plugin};
use istio_test::federation::{answered, edit, field, plugin_config, received};
use istio_test::fixture::{self, federated, home, peer};
use istio_test::layout::{HOME_APP, INGRESS, PEER_APP, PEER_GATEWAY, PodSpec};
use istio_test::mesh::SERVICE;
use istio_test::{Cluster, Mesh, net};
use tokio::task::JoinSet;

const PUBLIC: &str = "a.example.com";
const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";
/// A request that keeps home's only slot while others are sent.
const LONG: &str = "/?delay=60s";

/// The gateway's own resource. Its port is the pod's: here no Service leads from 80 to it.
const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ingress, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.example.com]}
";

/// What Envoy's configuration has of the manifest's route to the peer alone: its match on the peer's name.
const ROUTE: &str = "\"exact\": \"gke\"";

/// A new ingress gateway for the federated service, with `wasmplugin/gateway` and these changes of its plugin.
async fn ingress(changes: &[(&str, &str)]) -> Result<(Mesh, PathBuf)> {
    let (mesh, folder) = federated().await?;
    // No statistic of an earlier test.
    mesh.restart_proxy(&INGRESS).await?;
    let gateway = folder.join("gateway");
    edit(&gateway.join("wasmplugin.yaml"), changes)?;
    let kube = mesh.kube(Cluster::Home);
    kube.apply(GATEWAY).await?;
    kube.apply_folder(&gateway).await?;
    let proxy = mesh.proxy(&INGRESS);
    proxy
        .wait_config("the gateway has the route to the peer", |config| {
            let parts = ["0.0.0.0_8080", "policy[peer-spillover]", ROUTE];
            parts.iter().all(|part| config.contains(part)) && !config.contains("warming_state")
        })
        .await?;
    proxy
        .wait_sum(&["peer_spillover", "configured"], |running| running > 0)
        .await?;
    Ok((mesh, folder))
}

/// What a user changes once the numbers of `observe` look right; here with the smallest limit.
const ENFORCE: [(&str, &str); 2] = [
    ("mode: observe", "mode: enforce"),
    ("http2MaxRequests: 100", "http2MaxRequests: 1"),
];

/// Connections from outside of the mesh to the gateway.
fn outside(mesh: &Mesh) -> Dial {
    let (lab, to) = (mesh.layout.lab(), format!("{}:8080", INGRESS.ip()));
    Dial::by(move || {
        let (lab, to) = (lab.clone(), to.clone());
        async move { net::connect(&lab, to.parse()?).await }
    })
}

async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let answer = client
        .send(request("GET", PUBLIC, path, headers, empty())?)
        .await?;
    assert_eq!(answer.status, 200, "{path} {headers:?}");
    Ok(answer)
}

async fn decided(mesh: &Mesh, by: &PodSpec) -> Result<BTreeMap<String, i64>> {
    Ok(decisions::of(&mesh.proxy(by).admin(decisions::PATH).await?))
}

/// Occupies home's only slot by a request through the gateway, and returns once it is there; it is let go by a drop.
async fn occupy(mesh: &Mesh) -> Result<JoinSet<Result<Answer>>> {
    let mut client = outside(mesh).client(false).await?;
    let mut held = JoinSet::new();
    held.spawn(async move {
        client
            .send(request("GET", PUBLIC, LONG, &[], empty())?)
            .await
    });
    mesh.proxy(&INGRESS)
        .wait_sum(&["peer_spillover", "in_flight"], |n| n == 1)
        .await?;
    Ok(held)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_an_ingress_gateway_only_the_surplus_leaves_and_nothing_fails() -> Result<()> {
    let (mesh, _) = ingress(&ENFORCE).await?;
    let target = Target {
        dial: outside(&mesh),
        url: (PUBLIC.to_owned(), PATH.to_owned()),
        served_by: answered,
        clusters: (home(), peer()),
        pace: DELAY,
    };
    let (clients, seconds) = ([1, 3, 1], 4);
    let samples = drive(target, &windows(&clients, seconds), |_, _| ()).await?;
    let run = result::run(&samples, &clients, seconds, 1, Vec::new());
    let counts: Vec<Counts> = run.phases.iter().map(|phase| phase.counts).collect();
    assert!(
        counts.iter().all(|c| c.home > 0 && c.failed == 0),
        "{run:?}"
    );
    assert_eq!(counts[0].peer, 0, "one connection fits: {run:?}");
    assert!(
        counts[1].peer > counts[1].home,
        "of three, two leave: {run:?}"
    );
    // A request of the second phase may still be at home when the third begins.
    assert!(counts[2].peer <= 2, "all come home again: {run:?}");
    // One at a time, each of 100 ms: more than these would not have fitted.
    let total = samples
        .iter()
        .map(|sample| sample.ended)
        .max()
        .unwrap_or_default();
    let most = total.as_millis() / DELAY.as_millis() + 1;
    assert!(u128::from(run.totals.counts.home) <= most, "{run:?}");
    let all = decided(&mesh, &INGRESS).await?;
    assert_eq!(all.values().sum::<i64>(), samples.len() as i64);
    assert_eq!(all["client home room"], run.totals.counts.home as i64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_sees_the_public_host_and_a_marker_that_nobody_outside_can_forge() -> Result<()> {
    let (mesh, _) = ingress(&ENFORCE).await?;
    let mut client = outside(&mesh).client(false).await?;
    // Believed, each of these would keep a request at home whatever the limit.
    let forged = [Cluster::Peer.name(), Cluster::Home.name(), "anything"];
    for marker in forged {
        let answer = get(&mut client, "/", &[(MARKER, marker)]).await?;
        assert_eq!(answered(&answer), home());
        assert_eq!(field(&answer, "Host").as_deref(), Some(PUBLIC));
        assert_eq!(received(&answer, MARKER), None, "{marker}");
    }
    let held = occupy(&mesh).await?;
    for headers in [vec![], vec![(MARKER, forged[0])], vec![(MARKER, forged[1])]] {
        let answer = get(&mut client, "/", &headers).await?;
        assert_eq!(answered(&answer), peer(), "{headers:?}");
        assert_eq!(field(&answer, "Host").as_deref(), Some(PUBLIC));
        let marker = received(&answer, MARKER);
        assert_eq!(marker.as_deref(), Some(Cluster::Home.name()));
    }
    drop(held);
    let expected = [("client home room", 4), ("client gke limit", 3)];
    assert_eq!(decided(&mesh, &INGRESS).await?, table(&expected));
    Ok(())
}

/// Removes the policy that refuses the header, and returns the first answer to a request with it that passes.
async fn without_policy(mesh: &Mesh, folder: &Path) -> Result<Answer> {
    let policy = fs::read_to_string(folder.join("gateway/authorizationpolicy.yaml"))?;
    mesh.kube(Cluster::Home).delete(&policy).await?;
    until_some("nobody refuses the header", async || {
        // A connection keeps the policies that it began with.
        let mut client = outside(mesh).client(false).await.ok()?;
        let forged = request("GET", PUBLIC, "/", &[(TO, Cluster::Peer.name())], empty());
        let answer = client.send(forged.ok()?).await.ok()?;
        (answer.status == 200).then_some(answer)
    })
    .await
}

/// As shipped the plugin observes: what it would do is counted, and nothing leaves, not by a client's own header either.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_outside_chooses_the_peer_while_the_plugin_observes() -> Result<()> {
    let (mesh, folder) = ingress(&ENFORCE[1..]).await?;
    let mut client = outside(&mesh).client(false).await?;
    let held = occupy(&mesh).await?;
    let answer = get(&mut client, "/", &[]).await?;
    assert_eq!(answered(&answer), home());
    drop(held);
    let expected = table(&[("client home room", 1), ("client gke limit", 1)]);
    assert_eq!(decided(&mesh, &INGRESS).await?, expected);

    let forged = request("GET", PUBLIC, "/", &[(TO, Cluster::Peer.name())], empty())?;
    assert_eq!(client.send(forged).await?.status, 403);
    assert_eq!(
        decided(&mesh, &INGRESS).await?,
        expected,
        "the filter never saw it"
    );

    // It is the policy that refuses: a filter that observes touches nothing.
    let answer = without_policy(&mesh, &folder).await?;
    assert_eq!(answered(&answer), peer());
    Ok(())
}

/// Where there is no such policy the filter itself removes the header, and the request is like any other: at home where
/// there is room, sent away where there is none, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_enforcing_filter_removes_the_header_of_a_client() -> Result<()> {
    let (mesh, folder) = ingress(&ENFORCE).await?;
    let answer = without_policy(&mesh, &folder).await?;
    assert_eq!(answered(&answer), home());
    assert_eq!(received(&answer, TO), None);
    assert_eq!(
        decided(&mesh, &INGRESS).await?,
        table(&[("client home room", 1)])
    );
    let held = occupy(&mesh).await?;
    let mut client = outside(&mesh).client(false).await?;
    let answer = get(&mut client, "/", &[(TO, Cluster::Peer.name())]).await?;
    assert_eq!(answered(&answer), peer());
    drop(held);
    let expected = [("client home room", 2), ("client gke limit", 1)];
    assert_eq!(decided(&mesh, &INGRESS).await?, table(&expected));
    Ok(())
}

/// `routing: header` is what a gateway has where nothing is said: a gateway serves no host of a peer.
#[tokio::test(flavor = "multi_thread")]
async fn without_routing_a_gateway_routes_by_header() -> Result<()> {
    let routing = "      routing: header # with routing: authority, the peer's host would have to be a public host\n";
    let (mesh, _) = ingress(&[ENFORCE[0], ENFORCE[1], (routing, "")]).await?;
    let held = occupy(&mesh).await?;
    let mut client = outside(&mesh).client(false).await?;
    assert_eq!(answered(&get(&mut client, "/", &[]).await?), peer());
    drop(held);
    Ok(())
}

/// Timeouts and header rules of the home route do not hold for a spilled request, unless the peer's route has them too.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_route_are_its_own() -> Result<()> {
    // What is put before a route's destinations holds for that route.
    const HOME_ROUTE: &str = "  - route:\n    - destination: {host: a.istio.svc.cluster.local}";
    const PEER_ROUTE: &str = "    route:\n    - destination: {host: a.istio.gke.global}";
    const RULES: &str = "  - timeout: 500ms\n    headers: {response: {set: {x-rule: said}}}\n";
    let (mesh, folder) = ingress(&ENFORCE).await?;
    let file = folder.join("gateway/virtualservice.yaml");
    let kube = mesh.kube(Cluster::Home);
    let proxy = mesh.proxy(&INGRESS);
    let mut client = outside(&mesh).client(false).await?;

    let ruled = HOME_ROUTE.replacen("  - ", &format!("{RULES}    "), 1);
    edit(&file, &[(HOME_ROUTE, &ruled)])?;
    kube.apply_folder(&folder.join("gateway")).await?;
    let said = |times: usize| move |config: &str| config.matches("x-rule").count() == times;
    proxy.wait_config("the home route's rules", said(1)).await?;
    let slow = |path| request("GET", PUBLIC, path, &[], empty());
    let answer = client.send(slow("/?delay=2s")?).await?;
    assert_eq!((answer.status, answer.header("x-rule")), (504, "said"));

    for (times, status, rule) in [(1, 200, ""), (2, 504, "said")] {
        if times == 2 {
            // The peer's route has header rules already.
            let (removes, says) = (
                "{request: {remove: [x-peer-spillover-to]}",
                "response: {set",
            );
            let both = format!("{removes}, {says}: {{x-rule: said}}}}");
            let timed = format!("    timeout: 500ms\n{PEER_ROUTE}");
            edit(&file, &[(removes, &both), (PEER_ROUTE, &timed)])?;
            kube.apply_folder(&folder.join("gateway")).await?;
            proxy.wait_config("the peer route's rules", said(2)).await?;
        }
        // Its slot ends with the route's timeout, so the spill is of a request sent beside it.
        let mut other = outside(&mesh).client(false).await?;
        let (at_home, spilled) = tokio::join!(
            client.send(slow("/?delay=2s")?),
            other.send(slow("/?delay=2s")?)
        );
        let mut answers = [at_home?, spilled?].map(|a| (a.status, a.header("x-rule").to_owned()));
        answers.sort();
        let mut expected = [(504, "said".to_owned()), (status, rule.to_owned())];
        expected.sort();
        assert_eq!(answers, expected);
    }
    assert_eq!(
        decided(&mesh, &INGRESS).await?,
        table(&[("client home room", 3), ("client gke limit", 2)])
    );
    Ok(())
}

/// At a gateway, too, a spilled request whose peer is dead comes home, by the retries of the route; and home's own sidecar
/// knows it as its own come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peers_request_comes_home_by_the_retries_of_the_route() -> Result<()> {
    let (mesh, folder) = ingress(&ENFORCE).await?;
    receive(&mesh, &folder, &HOME_APP).await?;
    mesh.kill_proxy(&PEER_GATEWAY).await?;

    let held = occupy(&mesh).await?;
    let mut client = outside(&mesh).client(false).await?;
    let answer = get(&mut client, "/", &[]).await?;
    assert_eq!(answered(&answer), home());
    assert_eq!(field(&answer, "Host").as_deref(), Some(PUBLIC));
    drop(held);
    assert_eq!(
        decided(&mesh, &INGRESS).await?,
        table(&[("client home room", 1), ("client gke limit", 1)])
    );
    let arrived = decided(&mesh, &HOME_APP).await?;
    assert_eq!(
        arrived,
        table(&[("server home room", 1), ("server home returned", 1)])
    );
    Ok(())
}

/// The plugin of the receiving side at `app`, whose cluster applies it with its own name.
async fn receive(mesh: &Mesh, folder: &Path, app: &PodSpec) -> Result<()> {
    mesh.restart_proxy(app).await?;
    let receiver = folder.join("receiver-guests");
    let name = format!("cluster: {}", app.cluster.name());
    edit(
        &receiver.join("wasmplugin.yaml"),
        &[("cluster: gke", &name)],
    )?;
    mesh.kube(app.cluster).apply_folder(&receiver).await?;
    mesh.proxy(app)
        .wait_sum(
            &["peer_spillover", "role=.=server", "configured"],
            |running| running > 0,
        )
        .await?;
    Ok(())
}

/// Guests of both kinds of routing, from a sidecar and from an ingress gateway, are guests; the cluster's own are not.
#[tokio::test(flavor = "multi_thread")]
async fn the_peers_sidecar_tells_guests_from_its_own() -> Result<()> {
    let (mesh, folder) = ingress(&ENFORCE).await?;
    receive(&mesh, &folder, &PEER_APP).await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;

    let held = occupy(&mesh).await?;
    let mut client = outside(&mesh).client(false).await?;
    for _ in 0..3 {
        assert_eq!(answered(&get(&mut client, "/", &[]).await?), peer());
    }
    drop(held);
    let guests = table(&[("server home guest", 3)]);
    assert_eq!(decided(&mesh, &PEER_APP).await?, guests);

    let load = fixture::load(&mesh, 3, Until::Requests(12)).await?;
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0);
    let spilled = answered_by(&outcomes, &peer()) as i64;
    assert!(spilled > 0);
    let guests = table(&[("server home guest", 3 + spilled)]);
    assert_eq!(decided(&mesh, &PEER_APP).await?, guests);

    // The peer's own caller: its sidecar goes by the peer's own service address.
    let address = mesh.cluster_ip(Cluster::Peer, "a").await?;
    let dial = mesh.dial(&PEER_APP, &format!("{address}:80"));
    let mut own = dial.client(false).await?;
    for _ in 0..2 {
        let answer = own
            .send(request("GET", SERVICE, "/", &[], empty())?)
            .await?;
        assert_eq!((answer.status, answered(&answer)), (200, peer()));
    }
    let all = table(&[("server home guest", 3 + spilled), ("server home room", 2)]);
    assert_eq!(decided(&mesh, &PEER_APP).await?, all);
    let left = mesh
        .proxy(&PEER_APP)
        .sum(&["peer_spillover", "in_flight"])
        .await?;
    assert_eq!(left, 0);
    Ok(())
}
