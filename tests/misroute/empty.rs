//! A peer whose cluster has no healthy host: the way is good, and the peer cannot take anything.

use anyhow::Result;
use envoy_test::wait::until_some;
use envoy_test::world::PEER;
use serde_json::json;

use crate::common::{Service, after, builder};

/// Envoy ejects the peer's only host for a second or two after one error.
const EJECTS: &str = "outlier_detection: {consecutive_5xx: 1, interval: 0.1s, base_ejection_time: 2s, max_ejection_percent: 100, enforcing_success_rate: 0}
common_lb_config: {healthy_panic_threshold: {value: 0}}
";

#[tokio::test]
async fn an_empty_peer_costs_few_requests_and_is_found_when_it_is_back() -> Result<()> {
    let mut lasting = after(1);
    lasting["baseEjectionTime"] = json!("1h");
    let world = builder(&[lasting]).peer_cluster(EJECTS).start().await?;
    let service = Service::new(&world, 0);
    service.get(&[("x-status", "500")]).await?;
    service.wait("ejected", 1).await?;
    assert_eq!(service.get(&[]).await?.served_by(), PEER);
    assert_eq!(service.get(&[("x-status", "503")]).await?.served_by(), PEER);

    // Of what follows, some find the peer empty; then home, ejected as it is, is the better place.
    let (mut lost, mut home) = (0, 0);
    until_some("the peer is back", async || {
        let answer = service.get(&[]).await.ok()?;
        match (answer.status, answer.served_by()) {
            (503, "") => lost += 1,
            (200, PEER) if home > 0 => return Some(()),
            (200, PEER) => {}
            (200, _) => {
                assert_eq!(answer.header("x-peer-spillover"), "home; reason=misroute");
                home += 1;
            }
            other => panic!("{other:?}"),
        }
        None
    })
    .await?;
    assert!(home > lost, "{home} at home, {lost} lost");
    let log = world.access_log(1).await?;
    let empty = log.iter().filter(|line| line["flags"] == "UH").count();
    assert_eq!(empty, lost);
    assert!(lost >= 2);
    let named = "Cluster outbound|80||s0.istio.gke.global has no healthy endpoint";
    world.envoy.wait_log(named).await?;
    // And it stays the peer's: nothing of this undid the ejection.
    for _ in 0..20 {
        assert_eq!(service.get(&[]).await?.served_by(), PEER);
    }
    assert_eq!(service.stat("ejected").await?, 1);
    Ok(())
}
