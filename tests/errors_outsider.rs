//! Another Wasm module of the proxy writes the records of errors, and the gauges beside them: whatever it writes, home gets
//! requests again where it answers well, and its errors eject it again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use common::{Service, builder, detecting, host};
use envoy_test::World;
use envoy_test::envoy::temp_dir;
use envoy_test::wait::until_some_by;
use envoy_test::world::{
    HOME, HOST, PEER, PLUGIN, Update, metric, peer_host, plugin_config, service_metric,
};
use serde_json::json;

#[path = "errors/common.rs"]
mod common;

/// A record: its phase, ejections, runs; the count of good answers, a time, and the owner of a probe.
fn record(phase: u32, number: u32, time: u64) -> Vec<u8> {
    let words = [phase, number, number, number];
    let longs = [0, time, 7u64];
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    words
        .chain(longs.iter().flat_map(|long| long.to_le_bytes()))
        .collect()
}

/// A module that writes these records and gauges when it is configured.
fn outsider(records: &[(String, Vec<u8>)], gauges: &[(String, u64)]) -> String {
    let (mut data, mut code, mut at) = (String::new(), String::new(), 16);
    let mut put = |bytes: &[u8]| {
        let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let here = at;
        writeln!(data, "(data (i32.const {here}) \"{text}\")").expect("a string");
        at += bytes.len();
        format!("(i32.const {here}) (i32.const {})", bytes.len())
    };
    for (key, value) in records {
        let (key, value) = (put(key.as_bytes()), put(value));
        writeln!(code, "(drop (call $set {key} {value} (i32.const 0)))").expect("a string");
    }
    for (name, value) in gauges {
        let name = put(name.as_bytes());
        writeln!(
            code,
            "(drop (call $define (i32.const 1) {name} (i32.const 0)))
             (drop (call $record (i32.load (i32.const 0)) (i64.const {value})))"
        )
        .expect("a string");
    }
    format!(
        r#"(module
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
  (memory (export "memory") 1)
  {data}
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 32768))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    {code}
    (i32.const 1)))"#
    )
}

/// A module that writes these, as a file in this folder.
fn built(dir: &Path, records: &[(String, Vec<u8>)], gauges: &[(String, u64)]) -> Result<PathBuf> {
    let (text, module) = (dir.join("o.wat"), dir.join("o.wasm"));
    std::fs::write(&text, outsider(records, gauges))?;
    let mut wasm_opt = xtask::tools::wasm_opt()?;
    let made = wasm_opt.arg(&text).arg("-o").arg(&module).status()?;
    anyhow::ensure!(made.success(), "wasm-opt");
    Ok(module)
}

/// What stands and the gauge beside it are changed one after the other, so a VM may die between.
#[tokio::test(flavor = "multi_thread")]
async fn the_gauge_of_misroutes_heals() -> Result<()> {
    // Bits of what stands, what the gauge is set to, and what is right.
    let poisons = [(0, 77, 0), (2, 0, 2), (2, 4, 2), (0, u64::MAX, 0)];
    let world = builder(&vec![json!({"consecutive5xxErrors": 1}); poisons.len()])
        .another_filter("outsider", detecting(&[]))
        .workers(2)
        .start()
        .await?;
    let (mut records, mut gauges) = (Vec::new(), Vec::new());
    for (n, (stands, gauge, _)) in poisons.iter().enumerate() {
        let service = Service::new(&world, n);
        assert_eq!(service.get(&[]).await?.served_by(), HOME);
        let name = |name: &str| service_metric(&host(n), name).replace("wasmcustom.", "");
        gauges.push((name("misrouted"), *gauge));
        if *stands == 2 {
            // It stands, and that was told; no times.
            let flags = [3u64, 0, 0, 0, 0].map(u64::to_le_bytes);
            records.push((
                name("no route") + ".notice.1",
                flags.as_flattened().to_vec(),
            ));
        }
    }
    let dir = temp_dir("outsider")?;
    let module = built(dir.path(), &records, &gauges)?;
    assert_eq!(world.set_filter(1, &module, "{}").await?, Update::Accepted);
    for (n, (_, _, right)) in poisons.iter().enumerate() {
        let service = Service::new(&world, n);
        service.wait("misrouted", *right).await?;
        // A condition of which only its record was left ends as any other.
        if *right != 0 {
            service.get(&[("x-status", "500")]).await?;
            service.wait("ejected", 1).await?;
            assert_eq!(service.get(&[]).await?.served_by(), PEER);
            service.wait("misrouted", 0).await?;
        }
    }
    Ok(())
}

/// Each of them has its turn.
#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_of_misroutes_of_several_peers_heal() -> Result<()> {
    let names = [PEER, "eks", "aks"];
    let mut config = plugin_config(1);
    let peers = names.map(|name| json!({"name": name, "host": peer_host(HOST, name)}));
    config["services"][0]["peers"] = json!(peers);
    let world = World::builder()
        .filter(config)
        .another_filter("outsider", detecting(&[]))
        .more_peers(names.into_iter().skip(1))
        .workers(2)
        .start()
        .await?;
    assert_eq!(world.get(&[]).await?.served_by(), HOME);
    let gauge = |peer| {
        let service = [("plugin", PLUGIN), ("role", "client"), ("service", HOST)];
        metric(
            &[&service[..], &[("peer", peer)]].concat(),
            "peer_misrouted",
        )
    };
    let gauges = names.map(|name| (gauge(name).replace("wasmcustom.", ""), 77));
    let dir = temp_dir("outsider")?;
    let module = built(dir.path(), &[], &gauges)?;
    assert_eq!(world.set_filter(1, &module, "{}").await?, Update::Accepted);
    for name in names {
        world.envoy.wait_stat(&gauge(name), |n| n == 0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_record_heals_and_detection_works_on() -> Result<()> {
    let far = u64::MAX / 2;
    // A record, and what its gauge is set to.
    let poisons = [
        (record(1, 0, far), None),
        (record(1, 0, far), Some(1)),
        (record(2, u32::MAX, far), Some(1)),
        (record(3, 0, far), Some(2)),
        (record(0, u32::MAX, far), None),
        (vec![], Some(77)),
        (record(0, 0, 0), Some(5)),
        (vec![9; 7], Some(u64::MAX)),
        (record(4, 9, far), None),
    ];
    let detection =
        json!({"consecutive5xxErrors": 2, "interval": "200ms", "baseEjectionTime": "300ms"});
    let world = builder(&vec![detection; poisons.len()])
        .another_filter("outsider", detecting(&[]))
        .workers(2)
        .start()
        .await?;
    for n in 0..poisons.len() {
        assert_eq!(Service::new(&world, n).get(&[]).await?.served_by(), HOME);
    }
    let mut records = Vec::new();
    let mut gauges = Vec::new();
    for (n, (record, gauge)) in poisons.iter().enumerate() {
        // Envoy puts a prefix before the names of all metrics of Wasm modules.
        let name = |name: &str| service_metric(&host(n), name).replace("wasmcustom.", "");
        records.push((name("errors"), record.clone()));
        gauges.extend(gauge.map(|gauge| (name("ejected"), gauge)));
    }
    let dir = temp_dir("outsider")?;
    let module = built(dir.path(), &records, &gauges)?;
    assert_eq!(world.set_filter(1, &module, "{}").await?, Update::Accepted);

    // Each is sent errors until one of them ejects it, and then good requests until it is back.
    let mut ejected = vec![false; poisons.len()];
    let mut back = ejected.clone();
    let waited = until_some_by("all heal", Duration::from_secs(90), async || {
        for n in 0..poisons.len() {
            let service = Service::new(&world, n);
            if back[n] {
                continue;
            }
            if ejected[n] {
                let answer = service.get(&[]).await.ok()?;
                let shown = service.stat("ejected").await.ok()?;
                back[n] = answer.served_by() == HOME && shown == 0;
            } else {
                service.get(&[("x-status", "500")]).await.ok()?;
                ejected[n] = !service.ejected_for().is_empty();
            }
        }
        back.iter().all(|back| *back).then_some(())
    })
    .await;
    waited.with_context(|| format!("ejected: {ejected:?}, back: {back:?}"))
}
