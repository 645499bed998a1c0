//! A worker that is busy is alive: however long its event loop does not come back to its timers, what its VM counts stays
//! counted, and home never gets more than the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use envoy_test::world::{HOST, PEER, Upstream, plugin_config};
use envoy_test::{Client, World};
use tokio::task::JoinSet;

const DEAD: &str = "a VM of this proxy is dead";
const COUNTED_AGAIN: &str = "it is counted again";

/// Keeps its worker busy for the seconds that `x-busy` says: a filter behind ours that does not return to the event loop.
const BUSY: &str = r#"
- name: envoy.filters.http.lua
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
    default_source_code:
      inline_string: |
        function envoy_on_request(handle)
          local seconds = handle:headers():get("x-busy")
          if seconds then
            local ends = os.time() + tonumber(seconds)
            while os.time() < ends do end
          end
        end
"#;

/// Nobody was taken for dead.
fn all_lived(world: &World) -> Result<()> {
    for line in [DEAD, COUNTED_AGAIN] {
        let said = world.envoy.log().matches(line).count();
        ensure!(said == 0, "{said} times in the log: {line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_busy_outside_of_the_filter_keeps_what_it_counts() -> Result<()> {
    for workers in [1, 2, 4] {
        let limit = 12;
        let world = World::builder()
            .filter(plugin_config(limit))
            .filters_after(BUSY.trim_start())
            // So that a worker that has served one request has the connections that it needs.
            .upstream(Upstream::Http2)
            .workers(workers)
            .start()
            .await?;
        // Each on a connection of its own, so that all workers hold some.
        let mut held = JoinSet::new();
        for _ in 0..limit {
            let mut client = Client::http1(world.addr()).await?;
            held.spawn(async move { client.get(HOST, &[("x-hold", "all")]).await });
        }
        world.home.wait_in_flight(limit as usize).await?;

        // Longer than a VM that is dead takes to be found, and shorter than what a connection may take.
        let over = Arc::new(AtomicBool::new(false));
        let mut busy = Client::http1(world.addr()).await?;
        busy.get(HOST, &[]).await?;
        let mut others = JoinSet::new();
        for _ in 0..16 {
            let (mut client, over) = (Client::http1(world.addr()).await?, Arc::clone(&over));
            client.get(HOST, &[]).await?;
            others.spawn(async move {
                let mut answers = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    answers.push(client.get(HOST, &[]).await?);
                }
                Ok::<_, anyhow::Error>(answers)
            });
        }
        let busy = busy.get(HOST, &[("x-busy", "4")]).await?;
        // What the busy worker gets next comes before its timers as likely as after them.
        over.store(true, Ordering::Relaxed);
        let mut answers = vec![busy];
        while let Some(more) = others.join_next().await {
            answers.extend(more??);
        }
        for answer in &answers {
            let by = (answer.status, answer.served_by());
            ensure!(
                by == (200, PEER),
                "{workers} workers: {by:?}: {:?}",
                world.access_log(answers.len()).await
            );
        }
        world.home.release("all");
        while let Some(answer) = held.join_next().await {
            ensure!(answer??.status == 200);
        }
        world.wait_count(0).await?;
        let most = world.home.max_in_flight();
        ensure!(most == limit as usize, "{workers} workers: {most} at home");
        all_lived(&world).with_context(|| format!("{workers} workers"))?;
    }
    Ok(())
}
