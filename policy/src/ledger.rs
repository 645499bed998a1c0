//! What one worker holds of the shared counts, stream by stream.
//!
//! **Invariant: every ticket is released once.** A [`Ticket`] cannot be copied and is consumed by
//! [`Ledger::release`]; a stream that [`Ledger::sweep`] already released gives nothing the second time.
//!
//! **Invariant: the worker's share of a count is the number of its slots held.** [`Ledger::share`] is what a repair
//! after a crash may take off the count when this worker is gone, and no more.
//!
//! **Invariant: a sweep gives back only what is finished.** It looks only at streams whose answer has begun
//! ([`Ledger::answered`]): before that, an upstream that has finished was only an attempt, after which Envoy may send the
//! request again.
//!
//! **Invariant: a sweep's work is bounded**, by [`Sweep`], whatever is held; and everything that there is to look at has its
//! turn. When nothing is held, no memory is kept for what was, but for some words for each service.

use core::cell::Cell;
use std::rc::Rc;

/// Index of a service in the configuration that the worker runs.
pub type Service = usize;

/// Room in a list that is kept for what comes.
const SMALL: usize = 64;

/// The right to give one slot back.
#[derive(Debug)]
pub struct Ticket(Rc<Entry>);

#[derive(Debug, Default)]
struct Entry {
    service: Cell<Service>,
    stream: Cell<u32>,
    /// Given back by a sweep while the stream still had its ticket.
    swept: Cell<bool>,
    /// Where it is among the answered ones of its service, if it is.
    place: Cell<Option<usize>>,
}

/// What a worker holds of one service.
#[derive(Debug, Default)]
struct Held {
    count: usize,
    /// Those whose answer has begun and that were not swept.
    answered: Vec<Rc<Entry>>,
    /// How many of them, from the first, are yet to be looked at before all are looked at again.
    left: usize,
    /// The service is among the busy ones.
    busy: bool,
}

/// The most that one sweep does.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Services that are looked at.
    pub services: usize,
    /// Streams that are looked at, of services that are full.
    pub full: usize,
    /// Streams that are looked at, of any.
    pub leisure: usize,
}

/// One worker's tickets.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By index, as far as services were used.
    services: Vec<Held>,
    /// Slots that were given back, for what comes: most requests need not allocate one.
    spare: Vec<Rc<Entry>>,
    /// Services with streams whose answer has begun, and some that had: a sweep takes them out.
    busy: Vec<Service>,
    /// As in [`Held`]: for those that are full, and for any.
    left: [usize; 2],
}

impl Ledger {
    /// Books one slot of `service` for `stream` (Envoy's context id). The caller has added 1 to the service's count.
    pub fn hold(&mut self, service: Service, stream: u32) -> Ticket {
        while self.services.len() <= service {
            self.services.push(Held::default());
        }
        if let Some(held) = self.services.get_mut(service) {
            held.count = held.count.saturating_add(1);
        }
        let slot = self.spare.pop().unwrap_or_default();
        slot.service.set(service);
        slot.stream.set(stream);
        Ticket(slot)
    }

    /// The answer to the ticket's stream has begun: no attempt is made after that, so when the upstream has finished, it is
    /// for good.
    pub fn answered(&mut self, ticket: &Ticket) {
        let slot = &ticket.0;
        let Some(held) = self.services.get_mut(slot.service.get()) else {
            return;
        };
        if slot.swept.get() || slot.place.get().is_some() {
            return;
        }
        slot.place.set(Some(held.answered.len()));
        held.answered.push(Rc::clone(slot));
        if !held.busy {
            held.busy = true;
            self.busy.push(slot.service.get());
        }
    }

    /// Gives a slot back: the service whose count to reduce by 1, or nothing if a sweep did so before.
    pub fn release(&mut self, ticket: Ticket) -> Option<Service> {
        let slot = ticket.0;
        if slot.swept.get() {
            return None;
        }
        self.take(&slot);
        let service = slot.service.get();
        if self.spare.len() < SMALL {
            self.spare.push(slot);
        }
        Some(service)
    }

    /// Gives back the slots of streams whose upstream has finished though they live on, because their client does not read.
    /// `full` says whether a service is full; `finished` is asked for streams whose answer has begun. Calls `swept` with
    /// each service of which slots were given back and how many: the caller takes them off the count.
    pub fn sweep(
        &mut self,
        most: Sweep,
        mut full: impl FnMut(Service) -> bool,
        mut finished: impl FnMut(u32) -> bool,
        mut swept: impl FnMut(Service, u32),
    ) {
        let services = most.services;
        let finished = &mut finished;
        self.round(0, services, most.full, &mut full, finished, &mut swept);
        self.round(1, services, most.leisure, &mut full, finished, &mut swept);
    }

    /// The first round looks at those that are full, the second at any.
    #[inline(never)]
    fn round(
        &mut self,
        round: usize,
        services: usize,
        mut budget: usize,
        full: &mut impl FnMut(Service) -> bool,
        finished: &mut impl FnMut(u32) -> bool,
        swept: &mut impl FnMut(Service, u32),
    ) {
        for _ in 0..services.min(self.busy.len()) {
            let left = self.left.get_mut(round).filter(|_| budget > 0);
            let next = left.and_then(|left| turn(left, &self.busy));
            // Those that are not reached have their turn in the next sweep.
            let Some((at, service)) = next.map(|(at, service)| (at, *service)) else {
                break;
            };
            let held = self.services.get_mut(service);
            if let Some(held) = held.filter(|held| held.answered.is_empty()) {
                held.busy = false;
                self.busy.swap_remove(at);
            } else if round == 1 || full(service) {
                let gone = self.look(service, &mut budget, finished);
                if gone > 0 {
                    swept(service, gone);
                }
            }
        }
    }

    /// Looks at the streams of one service: how many it has swept.
    fn look(
        &mut self,
        service: Service,
        budget: &mut usize,
        finished: &mut impl FnMut(u32) -> bool,
    ) -> u32 {
        let held = self.services.get(service);
        let many = held.map_or(0, |held| held.answered.len()).min(*budget);
        *budget = budget.saturating_sub(many);
        let mut gone = 0u32;
        for _ in 0..many {
            let held = self.services.get_mut(service);
            let next = held.and_then(|held| turn(&mut held.left, &held.answered));
            let slot = next.map(|(_, slot)| Rc::clone(slot));
            if let Some(slot) = slot.filter(|slot| finished(slot.stream.get())) {
                slot.swept.set(true);
                self.take(&slot);
                gone = gone.saturating_add(1);
            }
        }
        gone
    }

    /// How many slots of `service` this worker holds.
    pub fn share(&self, service: Service) -> usize {
        self.services.get(service).map_or(0, |held| held.count)
    }

    /// Takes a slot that is held out.
    fn take(&mut self, slot: &Entry) {
        let Some(held) = self.services.get_mut(slot.service.get()) else {
            return;
        };
        held.count = held.count.saturating_sub(1);
        let Some(place) = slot.place.take() else {
            return;
        };
        if place >= held.answered.len() {
            return;
        }
        held.answered.swap_remove(place);
        if held.answered.is_empty() && held.answered.capacity() > SMALL {
            held.answered = Vec::new();
        }
        if let Some(moved) = held.answered.get(place) {
            moved.place.set(Some(place));
        }
    }
}

/// The next whose turn it is, and where it is. Turns go from the last to the first: what moves to the place of one that goes was
/// looked at already, or is still to be, so nothing that stays is passed over.
fn turn<'a, T>(left: &mut usize, all: &'a [T]) -> Option<(usize, &'a T)> {
    if *left == 0 || *left > all.len() {
        *left = all.len();
    }
    *left = left.checked_sub(1)?;
    Some((*left, all.get(*left)?))
}

#[cfg(test)]
#[path = "ledger_test.rs"]
mod tests;
