//! What a configuration does without requests, five times a second.

mod strangers;

use std::time::Duration;

use super::plugin::Plugin;
use crate::hostcalls;
use policy::error_rate::TURN;
use policy::ledger::Sweep;
use policy::recovery::roster::STALE;

/// The time between two ticks. In each of them the VM beats, and looks for streams whose client does not read.
pub(super) const TICK: Duration = Duration::from_millis(200);
// With the tick that finds a VM dead and the one before its first, a count is right again within three seconds.
const _: () = assert!(TICK.as_millis() * (STALE as u128 + 2) <= 3000);

/// The most that one tick checks for clients that do not read. A check of one stream costs about 12k instructions. So the
/// checks of services that are not full cost less than a thousandth of a core, and a worker with a full service and a thousand
/// answers on their way spends two hundredths of a core.
const SWEEP: Sweep = Sweep {
    services: 64,
    full: 1024,
    leisure: 16,
};
/// The number of ticks in which each used service has its turn. That is a second at most, and a single tick if no other service
/// is used.
const ROUND: usize = 5;
const _: () = assert!(TICK.as_millis() * ROUND as u128 == TURN.0 as u128);

impl Plugin {
    /// The work of one tick. It does not grow with the number of streams. It grows with the number of services that are used:
    /// for each of them a gauge is read in its turn, and the record of errors in every fifth turn.
    ///
    /// Only the current configuration looks at errors. One before it, which a stream keeps alive, has other intervals, or no
    /// error detection.
    pub(super) fn tick(&self, root: u32, current: bool) {
        self.clock.set(hostcalls::monotonic());
        if current {
            self.tick_services();
            self.see_strangers();
        }
        self.sweep(root);
    }

    /// Each service that is used has its turn within [`ROUND`] ticks.
    fn tick_services(&self) {
        let used = self.used.try_borrow();
        let used = used.as_deref().map_or(&[][..], Vec::as_slice);
        let turns = used.len().div_ceil(ROUND);
        for _ in 0..turns {
            let turn = self.turn.get();
            let index = used.get(turn).or(used.first());
            self.turn.set(
                turn.checked_add(1)
                    .filter(|next| *next < used.len())
                    .unwrap_or(0),
            );
            if let Some(service) = index.and_then(|index| self.services.get(*index)) {
                service.tick();
            }
        }
    }

    /// Takes requests off the counts that are finished at the upstream although their client does not read the answer. A tick
    /// checks all of them if home is full, and a few otherwise, so that no worker holds on to places that are free. The path of
    /// a request pays nothing for it.
    fn sweep(&self, root: u32) {
        let Ok(mut ledger) = self.ledger.try_borrow_mut() else {
            return;
        };
        let full = |index: usize| {
            let destination = self.destination(index);
            destination.is_some_and(|(service, at)| service.is_full(at))
        };
        let mut asked = false;
        let finished = |stream| {
            asked = true;
            hostcalls::set_effective_context(stream)
                && hostcalls::has_property(hostcalls::BACKEND_LATENCY)
        };
        let swept = |index: usize, n| {
            if let Some((service, to)) = self.destination(index) {
                service.count_out(to, n);
            }
        };
        ledger.sweep(SWEEP, full, finished, swept);
        if asked {
            hostcalls::set_effective_context(root);
        }
    }
}
