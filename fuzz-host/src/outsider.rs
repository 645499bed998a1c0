//! Another Wasm module of the proxy, which writes what is not its own: the records of errors, and the gauges beside them.

use crate::metrics::GAUGE;
use crate::values;
use crate::world::World;

/// Rounds of ticks after which all that it wrote is mended: a VM looks after a record every 25 ticks, and has to see the same
/// fault up to five times.
pub fn rounds(world: &World) -> u32 {
    if world.outsider { 180 } else { 0 }
}

/// Writes now and then in a case that has one, if there is anything to write to.
pub fn may_write(world: &mut World) {
    if !world.outsider || !world.rng.chance(50) {
        return;
    }
    let World { rng, shared, .. } = world;
    if rng.chance(300) {
        let metrics = &mut world.metrics.all;
        let its = |name: &str| name.ends_with(";ejected") || name.ends_with(";good_answers");
        let mut gauges: Vec<_> = metrics
            .iter_mut()
            .filter(|metric| metric.kind == GAUGE && its(&metric.name))
            .collect();
        if !gauges.is_empty() {
            let nth = rng.below(gauges.len());
            let value = rng.below(4) as u64;
            let value = if rng.chance(500) {
                value
            } else {
                values::number(rng)
            };
            gauges[nth].record(value);
            let name = gauges[nth].name.clone();
            world.tell(|| format!("an outsider writes {value}: {name}"));
        }
        return;
    }
    let keys = shared.keys(";.;errors");
    if keys.is_empty() {
        return;
    }
    let key = keys[rng.below(keys.len())].clone();
    match rng.below(4) {
        0 => shared.remove(&key),
        1 => {
            let garbage = values::garbage(rng);
            shared.set(&key, &garbage, 0);
        }
        _ => {
            // A record: its phase and three counts, then three numbers of 64 bits.
            let mut record = Vec::new();
            record.extend((rng.below(6) as u32).to_le_bytes());
            for _ in 0..3 {
                record.extend((values::number(rng) as u32).to_le_bytes());
            }
            for _ in 0..3 {
                record.extend(values::number(rng).to_le_bytes());
            }
            shared.set(&key, &record, 0);
        }
    }
    world.tell(|| format!("an outsider writes {}", String::from_utf8_lossy(&key)));
}
