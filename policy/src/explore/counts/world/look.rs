//! What the tests look at.

use super::*;

impl Counts {
    pub(in crate::explore::counts) fn roster(&self) -> Roster {
        Roster::from_bytes(&self.shared[0].0).expect("it is one")
    }

    /// A count's total, and what of it there is in the VMs that live.
    pub(in crate::explore::counts) fn totals(&self) -> [(i64, i64); 2] {
        [0, 1].map(|n| {
            let held = self.living().map(|one| one.requests[n]);
            (mark::low(self.gauges[n]), held.sum())
        })
    }

    /// How many VMs there are.
    pub(in crate::explore::counts) fn len(&self) -> usize {
        self.vms.len()
    }

    /// Whether a VM lives and has a slot.
    pub(in crate::explore::counts) fn is_at_work(&self, vm: usize) -> bool {
        self.vms[vm].alive && self.vms[vm].recovery.vm() != 0
    }

    /// The beat of each slot, and its shares of the two counts.
    pub(in crate::explore::counts) fn slots(&self) -> Vec<(u64, [u64; 2])> {
        let gauges = &self.gauges[COUNTS + 1..];
        let of = |slot: usize| (gauges[slot], [1, 2].map(|n| gauges[n * SLOTS + slot]));
        (0..SLOTS).map(of).collect()
    }
}

impl One {
    /// The requests that it has in flight.
    pub(in crate::explore::counts) fn requests(&self) -> [i64; 2] {
        self.requests
    }
}
