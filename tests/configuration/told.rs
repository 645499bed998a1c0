//! What a user reads of a configuration: a line for each mistake and for each warning.

use anyhow::Result;
use envoy_test::World;
use envoy_test::wait::until_some;
use envoy_test::world::{HOST, Update};
use serde_json::json;

use super::{lines, rejected, rejections, vms, with};

/// A text of many lines, as a plain Envoy may have it, with three mistakes; then one with two warnings.
#[tokio::test]
async fn each_mistake_and_each_warning_is_a_line_of_its_own() -> Result<()> {
    let wrong = with(|c| {
        c["clustre"] = json!("home");
        c["services"][0]["whenFull"] = json!("never");
        c["services"][0]["trafficPolicy"]["connectionPool"]["http"]["http2MaxRequests"] = json!(0);
    });
    let text = format!("{wrong:#}");
    let world = World::builder().filter(text.as_str()).start().await?;
    let expected = [
        (
            "clustre",
            "",
            "unknown field; did you mean cluster? If not, remove it, or use one of: version, ",
        ),
        (
            "whenFull",
            "services[0].",
            "must be home or reject, not never",
        ),
        (
            "http2MaxRequests",
            "services[0].trafficPolicy.connectionPool.http.",
            "must be a whole number from 1 to 2147483647, not 0 (Istio reads 0 as no limit, ",
        ),
    ];
    let expected = expected.map(|(field, path, says)| {
        let quoted = format!("\"{field}\"");
        let found = text.lines().enumerate().find_map(|(nth, line)| Some((nth + 1, line.find(&quoted)? + 1)));
        let (line, column) = found.expect("the text has it");
        format!("rejected, every request passes untouched: {path}{field} (line {line}, column {column}): {says}")
    });
    until_some("all is told", async || {
        (rejections(&world).len() >= 3).then_some(())
    })
    .await?;
    let told = rejections(&world);
    assert_eq!(told.len(), 3, "{told:#?}");
    for line in expected {
        let same = told.iter().filter(|told| told.contains(&line));
        assert_eq!(same.count(), 1, "{line}: {told:#?}");
    }
    // One configuration, however much is wrong with it.
    until_some("each VM has counted it once", async || {
        (rejected(&world).await.ok()? == vms(1) as i64).then_some(())
    })
    .await?;
    assert_eq!(rejections(&world).len(), 3);

    let worrying = with(|c| {
        c["services"][0]["host"] = json!("a.istio");
        c["services"][0]["trafficPolicy"]["outlierDetection"] = json!({"maxEjectionPercent": 50});
    });
    assert_eq!(world.set_filter_config(worrying).await?, Update::Accepted);
    assert_eq!(rejections(&world).len(), 3);
    let warnings = lines(&world, "[warning][wasm]");
    let ours: Vec<&String> = warnings
        .iter()
        .filter(|line| line.contains("peer-spillover: services[0]"))
        .collect();
    let counts = [
        "services[0].trafficPolicy.outlierDetection.maxEjectionPercent: here 50 is a share of the requests".to_owned(),
        format!("services[0].host: a.istio is a short name, which no request is for: Istio names a service in full; use {HOST}, or"),
    ]
    .map(|says| ours.iter().filter(|line| line.contains(&says)).count());
    assert_eq!(counts, [1, 1], "{warnings:#?}");
    assert_eq!(counts[0] + counts[1], ours.len(), "{ours:#?}");
    Ok(())
}

/// However many workers there are and whatever the mistakes are, each is told once; and again after a good configuration.
#[tokio::test]
async fn twenty_mistakes_are_told_once_each() -> Result<()> {
    let wrong = |mode: &str| {
        with(|c| {
            c["mode"] = json!(mode);
            for nth in 0..20u32 {
                // Names that have nothing to do with one another.
                c[format!("m{:x}", nth.wrapping_mul(0x9e37_79b9))] = json!(1);
            }
        })
    };
    let world = World::builder()
        .filter(wrong("observe"))
        .workers(4)
        .start()
        .await?;
    let all = async |vms: usize| {
        until_some("each VM has been given it", async || {
            (rejected(&world).await.ok()? == vms as i64).then_some(())
        })
        .await
    };
    all(vms(4)).await?;
    assert_eq!(rejections(&world).len(), 20);
    assert_eq!(
        world.set_filter_config(with(|_| {})).await?,
        Update::Accepted
    );
    // Another, since Envoy goes back to one that it still has without a word.
    world.set_filter_config(wrong("enforce")).await?;
    all(2 * vms(4)).await?;
    assert_eq!(rejections(&world).len(), 40);
    Ok(())
}
