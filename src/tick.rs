//! What a configuration does without requests, five times a second.

mod strangers;

use std::time::Duration;

use super::plugin::Plugin;
use crate::hostcalls;
use policy::destination::DestinationId;
use policy::error_rate::TURN;
use policy::ledger::Sweep;
use policy::recovery::roster::STALE;

/// Between two sweeps for streams whose client does not read, and between two heartbeats.
pub(super) const TICK: Duration = Duration::from_millis(200);
// With the tick that finds a VM dead and the one before its first, a count is right again within three seconds.
const _: () = assert!(TICK.as_millis() * (STALE as u128 + 2) <= 3000);

/// The most that is looked at in a tick for clients that do not read. A stream costs about 12k instructions, so what is looked
/// at where nothing is full is less than a thousandth of a core, and a worker on which a service is full with a thousand answers
/// on their way takes two hundredths.
const SWEEP: Sweep = Sweep {
    services: 64,
    full: 1024,
    leisure: 16,
};
/// Ticks in which each service that was used has its turn: a second at most, and one tick where no other was used.
const ROUND: usize = 5;
const _: () = assert!(TICK.as_millis() * ROUND as u128 == TURN.0 as u128);

impl Plugin {
    /// What there is to do without requests, in one tick. It does not grow with the streams. With the services it grows only as
    /// far as they were used: each has a gauge read in its turn, and its record of errors in every fifth.
    ///
    /// Health are the current configuration's alone: one before it, which a stream keeps alive, has other times, or none.
    pub(super) fn tick(&self, root: u32, current: bool) {
        self.clock.set(hostcalls::monotonic());
        if current {
            self.tick_services();
            self.see_strangers();
        }
        self.sweep(root);
    }

    /// Each service that was used has its turn within [`ROUND`] ticks.
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

    /// Gives back the slots of streams that live on only because their client does not read: all of them where home is
    /// full, a few in every tick where it is not, so that no worker keeps what another's sweep made room for. The home
    /// path pays nothing for it.
    fn sweep(&self, root: u32) {
        let Ok(mut ledger) = self.ledger.try_borrow_mut() else {
            return;
        };
        // A peer has no limit.
        let full = |index: usize| {
            let home = self
                .destination(index)
                .filter(|(_, to)| *to == DestinationId::HOME);
            home.is_some_and(|(service, _)| {
                let limit = service.rule.limit;
                limit.is_some_and(|limit| service.count().is_some_and(|n| n >= limit.into()))
            })
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
