//! Metrics as Envoy keeps them: of the process by name, numbered anew by each VM.

use std::collections::HashMap;

use crate::rng::Rng;

/// The ABI's kind of what goes up and down.
pub const GAUGE: u32 = 1;

/// One metric of the process.
#[derive(Clone, Debug)]
pub struct Metric {
    /// The ABI's kind.
    pub kind: u32,
    /// With its labels.
    pub name: String,
    /// As Envoy holds it.
    pub value: u64,
    /// A stats matcher drops it: it reads 0 for ever, and every change of it succeeds.
    pub dropped: bool,
}

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// In the order in which they were defined.
    pub all: Vec<Metric>,
    by_name: HashMap<(u32, String), usize>,
    drops: Option<&'static str>,
}

impl Metrics {
    /// Of a proxy whose stats matcher may drop some.
    pub fn draw(rng: &mut Rng) -> Metrics {
        let drops = rng.chance(60).then(|| {
            rng.pick(&[
                "in_flight",
                "ejected",
                "configured",
                "heartbeat",
                "decisions",
                "good_answers",
                "",
            ])
        });
        Metrics {
            drops,
            ..Metrics::default()
        }
    }

    /// The place of a metric in [`Metrics::all`]; nothing where Envoy has no such kind.
    pub fn define(&mut self, kind: u32, name: &str) -> Option<usize> {
        if kind > 2 {
            return None;
        }
        let key = (kind, name.to_owned());
        let all = &mut self.all;
        let drops = self.drops;
        Some(*self.by_name.entry(key).or_insert_with(|| {
            all.push(Metric {
                kind,
                name: name.to_owned(),
                value: 0,
                dropped: drops.is_some_and(|end| name.ends_with(end)),
            });
            all.len() - 1
        }))
    }
}

impl Metric {
    /// Adds, as Envoy does. False where it would not: a counter never goes down.
    pub fn add(&mut self, n: i64) -> bool {
        if self.kind != GAUGE && n <= 0 {
            return false;
        }
        if !self.dropped {
            self.value = self.value.wrapping_add_signed(n);
        }
        true
    }

    /// Sets a gauge.
    pub fn record(&mut self, value: u64) {
        if !self.dropped {
            self.value = value;
        }
    }

    /// The value of a label.
    pub fn label(&self, label: &str) -> Option<&str> {
        let (_, rest) = self.name.split_once(&format!("{label}=.="))?;
        Some(rest.split_once(";.;")?.0)
    }
}
