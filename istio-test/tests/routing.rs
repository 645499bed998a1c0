//! What real Istio makes of a spilled request's route: its Host, its service, its rules, and where it goes when nothing leads
//! to the peer.

#[path = "routing/misroute.rs"]
mod misroute;
#[path = "routing/namespaces.rs"]
mod namespaces;
#[path = "routing/rules.rs"]
mod rules;

use anyhow::Result;
use envoy_test::client::{Answer, Client, empty, full, request};
use envoy_test::load::{Until, answered_by, closed_loop, failed};
use istio_test::Mesh;
use istio_test::experiment::apply_plugin;
use istio_test::federation::{PEER_HOST, answered, field, plugin_config, received};
use istio_test::fixture::{federated, get, hold, home, in_flight, load, peer};
use istio_test::layout::{CLIENT, Cluster};
use istio_test::mesh::SERVICE;
use serde_json::{Value, json};

const MARKER: &str = "x-peer-spillover-from";
const TO: &str = "x-peer-spillover-to";

fn config(routing: &str, mode: &str) -> Value {
    let mut config = plugin_config(1);
    config["services"][0]["routing"] = json!(routing);
    config["services"][0]["mode"] = json!(mode);
    config
}

/// A VirtualService on the home host with the match that `routing: header` wants, and `rules` on both routes.
fn by_header(rules: Value) -> String {
    let mut to_peer = json!({
        "match": [{"headers": {TO: {"exact": "gke"}}}],
        "route": [{"destination": {"host": PEER_HOST}}],
    });
    let mut to_home = json!({"route": [{"destination": {"host": SERVICE}}]});
    for (name, rule) in rules.as_object().into_iter().flatten() {
        to_peer[name] = rule.clone();
        to_home[name] = rule.clone();
    }
    virtual_service("a", SERVICE, json!([to_peer, to_home]))
}

fn virtual_service(name: &str, host: &str, http: Value) -> String {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "istio"},
        "spec": {"hosts": [host], "http": http},
    })
    .to_string()
}

/// Applies at home, and waits until `word` is in the client's configuration.
async fn apply(mesh: &Mesh, manifest: &str, word: &str) -> Result<()> {
    mesh.kube(Cluster::Home).apply(manifest).await?;
    let there = |config: &str| config.contains(word);
    mesh.proxy(&CLIENT).wait_config(word, there).await
}

async fn client(mesh: &Mesh, http2: bool) -> Result<Client> {
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    mesh.dial(&CLIENT, &format!("{address}:80"))
        .client(http2)
        .await
}

async fn ask(client: &mut Client, host: &str) -> Result<Answer> {
    client.send(request("GET", host, "/", &[], empty())?).await
}

/// Every name that a client may call the service by.
async fn aliases(mesh: &Mesh) -> Result<Vec<String>> {
    let address = mesh.cluster_ip(Cluster::Home, "a").await?;
    let names = ["a", "a.istio", "a.istio.svc", SERVICE, &address];
    let each = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("{name}:80")]);
    Ok(each.collect())
}

/// By authority the application sees the service's own host, whatever alias the client used.
#[tokio::test(flavor = "multi_thread")]
async fn routing_by_authority_shows_the_application_the_services_host() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &config("authority", "evacuate")).await?;
    let mut client = client(&mesh, false).await?;
    for alias in aliases(&mesh).await? {
        let answer = ask(&mut client, &alias).await?;
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, peer()),
            "{alias}: {answer:?}"
        );
        assert_eq!(field(&answer, "Host").as_deref(), Some(SERVICE), "{alias}");
        assert_eq!(received(&answer, TO), None);
    }
    Ok(())
}

/// By header it sees what the client wrote. And a client cannot choose the route by writing the header itself.
#[tokio::test(flavor = "multi_thread")]
async fn routing_by_header_keeps_the_host_that_the_client_wrote() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply(&mesh, &by_header(json!({})), TO).await?;
    apply_plugin(&mesh, &folder, &config("header", "enforce")).await?;
    let mut client = client(&mesh, false).await?;
    let forged = request("GET", SERVICE, "/", &[(TO, "gke")], empty())?;
    let answer = client.send(forged).await?;
    assert_eq!(answered(&answer), home());
    assert_eq!(received(&answer, TO), None);
    let held = hold(&mesh, SERVICE).await?;
    for alias in aliases(&mesh).await? {
        let answer = ask(&mut client, &alias).await?;
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, peer()),
            "{alias}: {answer:?}"
        );
        assert_eq!(field(&answer, "Host"), Some(alias));
        assert_eq!(received(&answer, MARKER).as_deref(), Some("iotcloudserve"));
    }
    drop(held);
    in_flight(&mesh, 0).await
}

/// The names of services in the client's statistics of the filter.
async fn services(mesh: &Mesh) -> Result<Vec<String>> {
    let stats = mesh.proxy(&CLIENT).stats("peer_spillover").await?;
    let labels = stats.keys().filter_map(|name| {
        let (_, rest) = name.split_once("service=.=")?;
        Some(rest.split_once(";.;")?.0.to_owned())
    });
    let mut names: Vec<String> = labels.collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// A slot that is taken under one name is taken under all.
#[tokio::test(flavor = "multi_thread")]
async fn all_aliases_are_one_service_with_one_count() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let aliases = aliases(&mesh).await?;
    let mut client = client(&mesh, false).await?;
    for (index, alias) in aliases.iter().enumerate() {
        let held = hold(&mesh, alias).await?;
        let other = &aliases[(index + 3) % aliases.len()];
        let answer = ask(&mut client, other).await?;
        assert_eq!(
            answer.header("x-peer-spillover"),
            "gke; reason=limit",
            "{alias}, {other}"
        );
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, peer()),
            "{alias}, {other}"
        );
        drop(held);
        in_flight(&mesh, 0).await?;
        let answer = ask(&mut client, other).await?;
        assert_eq!(answered(&answer), home(), "{other}");
    }
    assert_eq!(services(&mesh).await?, [SERVICE]);
    Ok(())
}

/// `outbound|80|v1|…` and `outbound|80||…` are the same service.
#[tokio::test(flavor = "multi_thread")]
async fn subsets_of_a_destination_rule_are_the_same_service() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let subsets = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "a", "namespace": "istio"},
        "spec": {"host": SERVICE, "subsets": [{"name": "v1", "labels": {"app": "a"}}]},
    });
    mesh.kube(Cluster::Home).apply(&subsets.to_string()).await?;
    let whole = json!({"host": SERVICE});
    let v1 = json!({"host": SERVICE, "subset": "v1"});
    let routes = virtual_service(
        "a",
        SERVICE,
        json!([
            {"match": [{"uri": {"prefix": "/whole"}}], "route": [{"destination": whole}]},
            {"route": [{"destination": v1}]},
        ]),
    );
    apply(&mesh, &routes, "/whole").await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    // The held one is in the subset.
    let held = hold(&mesh, SERVICE).await?;
    for path in ["/", "/whole"] {
        let answer = get(&mesh, path, &[]).await?;
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, peer()),
            "{path}: {answer:?}"
        );
    }
    drop(held);
    in_flight(&mesh, 0).await?;
    for path in ["/", "/whole"] {
        let answer = get(&mesh, path, &[]).await?;
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, home()),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(services(&mesh).await?, [SERVICE]);
    Ok(())
}

/// Form data whose last field the application acts on: it has read all of the body.
fn form(bytes: usize) -> String {
    format!("x={}&headers=x-last:arrived", "x".repeat(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_http2_and_grpcs_headers_go_the_same_way() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply_plugin(&mesh, &folder, &plugin_config(1)).await?;
    let held = hold(&mesh, SERVICE).await?;
    for http2 in [false, true] {
        let mut client = client(&mesh, http2).await?;
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let answer = client
            .send(request("POST", SERVICE, "/", &kind, full(form(1 << 20)))?)
            .await?;
        assert_eq!(
            (answer.status, answered(&answer)),
            (200, peer()),
            "{answer:?}"
        );
        assert_eq!(answer.header("x-last"), "arrived");
        assert_eq!(field(&answer, "Host").as_deref(), Some(SERVICE));
    }
    let mut client = client(&mesh, true).await?;
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = client
        .send(request(
            "POST",
            SERVICE,
            "/pkg.Service/Method",
            &grpc,
            full("x"),
        )?)
        .await?;
    assert_eq!(
        (answer.status, answered(&answer)),
        (200, peer()),
        "{answer:?}"
    );
    assert_eq!(
        field(&answer, "URL").as_deref(),
        Some("/pkg.Service/Method")
    );
    drop(held);
    in_flight(&mesh, 0).await?;

    // Several streams on each connection's way, and none is lost.
    let load = load(&mesh, 4, Until::Requests(40)).await?.http2(true);
    let outcomes = closed_loop(load).await?;
    assert_eq!(failed(&outcomes), 0, "{outcomes:?}");
    assert!(answered_by(&outcomes, &peer()) > 0);
    in_flight(&mesh, 0).await
}
