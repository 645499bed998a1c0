//! Whether a good configuration runs, seen from a VM that was just given a bad one.

use super::host::{self, Kind, Metric};
use crate::config::Mode;
use crate::names::metric;

/// The label of what this filter is: the client's side.
pub const ROLE: (&str, &str) = ("role", "client");
/// Seconds after the last heartbeat in which a configuration counts as running. Longer than any pause of a healthy
/// main thread; as a clock difference in either direction, since a hot restart adds the gauges of two processes.
const ALIVE: u64 = 5;

/// Says, as long as it lives, that a good configuration runs in this VM.
pub struct Running {
    gauges: [Option<Metric>; 2],
    heartbeat: Option<Metric>,
}

impl Running {
    /// Says so from now on.
    pub fn start(plugin: &str, mode: Mode, cluster: &str) -> Self {
        let info = [
            ("plugin", plugin),
            ROLE,
            ("version", env!("CARGO_PKG_VERSION")),
            ("mode", mode.word()),
            ("cluster", cluster),
        ];
        let gauges = [metric(&info, "info"), configured(plugin)]
            .map(|name| host::metric(Kind::Gauge, &name));
        for gauge in gauges.iter().flatten() {
            host::add(*gauge, 1);
        }
        let running = Running {
            gauges,
            heartbeat: host::metric(Kind::Gauge, &heartbeat(plugin)),
        };
        running.beat();
        running
    }

    /// Shows that this VM is alive.
    pub fn beat(&self) {
        if let Some(gauge) = self.heartbeat {
            host::record(gauge, host::now());
        }
    }

    /// Whether one runs in any VM of this proxy: it said so, took nothing back, and was alive a moment ago. Both are
    /// asked for: a VM that trapped never takes back what it said, and its heart stops.
    pub fn anywhere(plugin: &str) -> bool {
        let read = |name: &str| {
            host::metric(Kind::Gauge, name)
                .and_then(host::read)
                .unwrap_or(0)
        };
        read(&configured(plugin)) > 0 && read(&heartbeat(plugin)).abs_diff(host::now()) <= ALIVE
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for gauge in self.gauges.iter().flatten() {
            host::add(*gauge, -1);
        }
    }
}

fn configured(plugin: &str) -> String {
    metric(&[("plugin", plugin), ROLE], "configured")
}

fn heartbeat(plugin: &str) -> String {
    metric(&[("plugin", plugin), ROLE], "heartbeat")
}
