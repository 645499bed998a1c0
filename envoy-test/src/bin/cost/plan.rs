//! How much is counted.

use std::time::Duration;

/// Where the upstream is, which makes the denominator; what the table says of it.
type Path = (&'static str, &'static str);

const REMOTE: Path = ("/remote", "the upstream is another process");
const HOP: Path = ("/hop", "the upstream is in the same Envoy, and counted");

/// The same for each variant.
pub struct Plan {
    pub paths: &'static [Path],
    /// Requests that are counted at a time.
    pub requests: u32,
    /// Requests to each path before, not counted.
    pub warm_up: u32,
    /// How often it is counted.
    pub rounds: u32,
    /// How long an Envoy without requests is counted.
    pub at_rest: Duration,
    /// Variants that are counted at a time.
    pub at_a_time: usize,
}

impl Plan {
    /// Everything, as often as is asked for.
    pub fn whole(requests: u32, warm_up: u32, rounds: u32) -> Plan {
        Plan {
            paths: &[REMOTE, HOP],
            requests,
            warm_up,
            rounds,
            at_rest: Duration::from_secs(10),
            at_a_time: 1,
        }
    }

    /// What has bounds, and no more of it than they need. `/hop` repeats best: no other process has a part in it.
    pub fn gate() -> Plan {
        Plan {
            paths: &[HOP],
            requests: 400,
            // V8 has compiled what is hot, and the filter, which reads every status until a thousand were good, samples.
            warm_up: 1500,
            rounds: 3,
            // About a hundredth of what is counted in a round: fifteen ticks say it well enough.
            at_rest: Duration::from_secs(3),
            // Instructions do not become more where two share a machine, and the upstream is each one's own.
            at_a_time: 2,
        }
    }
}
