//! Timeouts, retries and header rules of VirtualServices, for spilled requests.

use anyhow::Result;
use envoy_test::wait::until_some;
use istio_test::Mesh;
use istio_test::experiment::apply_plugin;
use istio_test::federation::{PEER_HOST, answered, received};
use istio_test::fixture::{federated, get, home, peer};
use istio_test::layout::Cluster;
use istio_test::mesh::SERVICE;
use serde_json::{Value, json};

use crate::{apply, by_header, config, virtual_service};

/// Rules that show in an answer. The timeout is longer than three tries take on a busy machine.
fn rules() -> Value {
    json!({
        "timeout": "3s",
        "retries": {"attempts": 2, "retryOn": "503"},
        "headers": {
            "request": {"set": {"x-rule": "asked"}},
            "response": {"set": {"x-rule": "answered"}},
        },
    })
}

/// Whether [`rules`] hold for requests that the peer answers.
async fn rules_hold(mesh: &Mesh) -> Result<()> {
    let answer = get(mesh, "/", &[]).await?;
    assert_eq!((answer.status, answered(&answer)), (200, peer()));
    assert_eq!(received(&answer, "x-rule").as_deref(), Some("asked"));
    assert_eq!(answer.header("x-rule"), "answered");
    let answer = get(mesh, "/?codes=503", &[]).await?;
    assert_eq!((answer.status, answered(&answer)), (503, peer()));
    assert_eq!(received(&answer, ATTEMPT).as_deref(), Some("3"));
    assert_eq!(answer.header("x-rule"), "answered");
    let answer = get(mesh, "/?delay=10m", &[]).await?;
    assert_eq!((answer.status, answered(&answer).as_str()), (504, ""));
    // The proxy's own answer has the rule too.
    assert_eq!(answer.header("x-rule"), "answered");
    Ok(())
}

const ATTEMPT: &str = "x-envoy-attempt-count";

/// By header the route to the peer is one of the home VirtualService, with whatever rules it repeats.
#[tokio::test(flavor = "multi_thread")]
async fn by_header_the_rules_that_the_home_virtual_service_repeats_hold() -> Result<()> {
    let (mesh, folder) = federated().await?;
    apply(&mesh, &by_header(rules()), "x-rule").await?;
    apply_plugin(&mesh, &folder, &config("header", "evacuate")).await?;
    rules_hold(&mesh).await
}

/// By authority the home VirtualService is left behind, and holds again where it is said again.
#[tokio::test(flavor = "multi_thread")]
async fn by_authority_the_rules_hold_that_are_said_again_for_the_peers_host() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let with_rules = |mut route: Value| {
        for (name, rule) in rules().as_object().into_iter().flatten() {
            route[name] = rule.clone();
        }
        json!([route])
    };
    let to_home = json!({"route": [{"destination": {"host": SERVICE}}]});
    apply(
        &mesh,
        &virtual_service("a", SERVICE, with_rules(to_home)),
        "x-rule",
    )
    .await?;
    let answer = get(&mesh, "/", &[]).await?;
    assert_eq!(
        (answered(&answer), answer.header("x-rule")),
        (home(), "answered")
    );
    apply_plugin(&mesh, &folder, &config("authority", "evacuate")).await?;
    let answer = get(&mesh, "/?delay=4s", &[]).await?;
    assert_eq!(
        (answer.status, answered(&answer)),
        (200, peer()),
        "no timeout"
    );
    assert_eq!(
        (received(&answer, "x-rule"), answer.header("x-rule")),
        (None, "")
    );
    let answer = get(&mesh, "/?codes=503", &[]).await?;
    assert_eq!(
        (answer.status, received(&answer, ATTEMPT).as_deref()),
        (503, Some("1"))
    );

    let again = with_rules(json!({
        "route": [{"destination": {"host": PEER_HOST}}],
        "rewrite": {"authority": SERVICE},
    }));
    mesh.kube(Cluster::Home)
        .apply(&virtual_service("a-gke", PEER_HOST, again))
        .await?;
    until_some("the peer's rules are here", async || {
        let answer = get(&mesh, "/", &[]).await.ok()?;
        (answer.header("x-rule") == "answered").then_some(())
    })
    .await?;
    rules_hold(&mesh).await
}
