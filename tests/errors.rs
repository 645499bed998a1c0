//! Error detection: home is ejected for its errors, probed, and takes its load back.

use anyhow::Result;
use envoy_test::World;
use envoy_test::world::{HOME, PEER, plugin_config};
use serde_json::{Value, json};

/// A configuration with a limit that is never reached and this `outlierDetection`.
fn detecting(detection: Value) -> Value {
    let mut config = plugin_config(1000);
    config["services"][0]["trafficPolicy"]["outlierDetection"] = detection;
    config
}

#[tokio::test]
async fn errors_in_a_row_eject_home_and_a_probe_brings_it_back() -> Result<()> {
    for workers in [1, 2] {
        let world = World::builder()
            .filter(detecting(json!({
                "consecutive5xxErrors": 3, "interval": "200ms", "baseEjectionTime": "1s",
            })))
            .workers(workers)
            .start()
            .await?;
        for status in ["500", "503", "200", "500", "501", "502"] {
            let answer = world.get(&[("x-status", status)]).await?;
            assert_eq!(
                (answer.served_by(), answer.status.to_string().as_str()),
                (HOME, status)
            );
        }
        let answer = world.get(&[]).await?;
        assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
        assert_eq!(answer.served_by(), PEER);
        let mut reasons = vec![];
        while reasons
            .last()
            .is_none_or(|last| last != "home; reason=room")
        {
            let answer = world.get(&[]).await?;
            assert_eq!(answer.status, 200);
            let reason = answer.header("x-peer-spillover").to_owned();
            if reasons.last() != Some(&reason) {
                reasons.push(reason);
            }
        }
        let course = ["gke; reason=ejected", "home; reason=probe"];
        assert_eq!(
            reasons.get(..2),
            Some(&course.map(str::to_owned)[..]),
            "{reasons:?}"
        );
        world.wait_idle().await?;
    }
    Ok(())
}
