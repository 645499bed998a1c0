//! What one worker holds of the shared counts, stream by stream.
//!
//! **Invariant: every ticket is released once.** A [`Ticket`] cannot be copied and is consumed by
//! [`Ledger::release`]; a stream that [`Ledger::sweep`] already released gives nothing the second time.
//!
//! **Invariant: the worker's share of a count is the number of its slots held.** [`Ledger::share`] is what a repair
//! after a crash may take off the count when this worker is gone, and no more.

use core::mem;

/// Index of a service in the configuration that the worker runs.
pub type Service = usize;

/// The right to give one slot back.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    Held {
        service: Service,
        stream: u32,
    },
    /// Given back by a sweep while the stream still had its ticket.
    Swept,
}

/// One worker's tickets.
#[derive(Debug, Default)]
pub struct Ledger {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

impl Ledger {
    /// Books one slot of `service` for `stream` (Envoy's context id). The caller has added 1 to the service's count.
    pub fn hold(&mut self, service: Service, stream: u32) -> Ticket {
        let held = Slot::Held { service, stream };
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index)
        {
            *slot = held;
            return Ticket { slot: index };
        }
        self.slots.push(held);
        Ticket {
            slot: self.slots.len().saturating_sub(1),
        }
    }

    /// Gives a slot back: the service whose count to reduce by 1, or nothing if a sweep did so before.
    pub fn release(&mut self, ticket: Ticket) -> Option<Service> {
        let slot = self.slots.get_mut(ticket.slot)?;
        let was = mem::replace(slot, Slot::Free);
        if was != Slot::Free {
            self.free.push(ticket.slot);
        }
        match was {
            Slot::Held { service, .. } => Some(service),
            Slot::Free | Slot::Swept => None,
        }
    }

    /// Gives back the slots of `service` whose upstream has finished though the stream lives on, because its client
    /// does not read. `finished` is asked for each held stream, for `most` of them. Returns how many: the caller takes
    /// them off the count.
    pub fn sweep(
        &mut self,
        service: Service,
        most: usize,
        mut finished: impl FnMut(u32) -> bool,
    ) -> u32 {
        let mut swept: u32 = 0;
        let held = self.slots.iter_mut().filter_map(|slot| match *slot {
            Slot::Held {
                service: of,
                stream,
            } if of == service => Some((slot, stream)),
            _ => None,
        });
        for (slot, stream) in held.take(most) {
            if finished(stream) {
                *slot = Slot::Swept;
                swept = swept.saturating_add(1);
            }
        }
        swept
    }

    /// How many slots of `service` this worker holds.
    pub fn share(&self, service: Service) -> usize {
        self.slots
            .iter()
            .filter(|slot| matches!(slot, Slot::Held { service: of, .. } if *of == service))
            .count()
    }
}

#[cfg(test)]
#[path = "ledger_test.rs"]
mod tests;
