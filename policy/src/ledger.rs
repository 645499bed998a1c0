//! The requests of one worker that the shared counts include, stream by stream.
//!
//! **Invariant: every counted request is taken off its count once.** A [`Ticket`] cannot be copied, and [`Ledger::release`]
//! consumes it. If [`Ledger::sweep`] has already reported the request, `release` returns `None`.
//!
//! **Invariant: the worker's share of a count is the number of its requests that the count includes.** When this worker has
//! crashed, the repair takes exactly [`Ledger::share`] off the count.
//!
//! **Invariant: a sweep reports only requests that are finished.** It checks only streams whose answer has begun
//! ([`Ledger::answered`]). Before that, an upstream request that has finished was only an attempt, after which Envoy may
//! send the request again.
//!
//! **Invariant: the work of a sweep is bounded** by [`Sweep`], for any number of requests, and repeated sweeps check all of
//! them. When no request is counted, only a few words of memory are kept for each service.

use core::cell::Cell;
use std::rc::Rc;

/// The index of a service in the configuration that the worker runs, from 0.
pub type Service = usize;

/// The capacity of a list that is kept for later requests, in elements.
const SMALL: usize = 64;

/// A request that a count includes. Whoever has the ticket must release it when the request is finished.
#[derive(Debug)]
pub struct Ticket(Rc<Entry>);

#[derive(Debug, Default)]
struct Entry {
    service: Cell<Service>,
    stream: Cell<u32>,
    /// A sweep has reported the request as finished while the stream still had its ticket.
    swept: Cell<bool>,
    /// The index in [`Held::answered`] of its service. `None` if it is not in that list.
    index: Cell<Option<usize>>,
}

/// The counted requests of one service.
#[derive(Debug, Default)]
struct Held {
    count: usize,
    /// The requests whose answer has begun and that no sweep has reported.
    answered: Vec<Rc<Entry>>,
    /// The number of elements of `answered`, from the first, that sweeps have still to check in this pass.
    left: usize,
    /// The service is in [`Ledger::busy`].
    busy: bool,
}

/// The bounds of one sweep, each a number from 0.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The most services that each of the two rounds checks.
    pub services: usize,
    /// The most streams that are checked of services whose limit is reached.
    pub full: usize,
    /// The most streams that are checked in addition, of any services.
    pub leisure: usize,
}

/// The counted requests of one worker.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The requests of each service, up to the last service that was used.
    services: Vec<Held>,
    /// Entries that are free for later requests, so that most requests need no allocation.
    spare: Vec<Rc<Entry>>,
    /// The services with streams whose answer has begun. Some have none any more, and a sweep removes them.
    busy: Vec<Service>,
    /// As in [`Held`], for `busy`: in the round of services whose limit is reached, and in the round of any services.
    left: [usize; 2],
}

impl Ledger {
    /// Notes that the count of `service` includes the request of `stream` (Envoy's context id). The caller has added 1 to
    /// the count.
    pub fn hold(&mut self, service: Service, stream: u32) -> Ticket {
        while self.services.len() <= service {
            self.services.push(Held::default());
        }
        if let Some(held) = self.services.get_mut(service) {
            held.count = held.count.saturating_add(1);
        }
        let entry = self.spare.pop().unwrap_or_default();
        entry.service.set(service);
        entry.stream.set(stream);
        Ticket(entry)
    }

    /// Notes that the answer to the request has begun. Envoy makes no further attempt after that, so the request is
    /// finished when its upstream request is finished.
    pub fn answered(&mut self, ticket: &Ticket) {
        let entry = &ticket.0;
        let Some(held) = self.services.get_mut(entry.service.get()) else {
            return;
        };
        if entry.swept.get() || entry.index.get().is_some() {
            return;
        }
        entry.index.set(Some(held.answered.len()));
        held.answered.push(Rc::clone(entry));
        if !held.busy {
            held.busy = true;
            self.busy.push(entry.service.get());
        }
    }

    /// Ends a request. Returns the service from whose count the caller must take 1, or `None` if a sweep has reported the
    /// request before.
    pub fn release(&mut self, ticket: Ticket) -> Option<Service> {
        let entry = ticket.0;
        if entry.swept.get() {
            return None;
        }
        self.take(&entry);
        let service = entry.service.get();
        if self.spare.len() < SMALL {
            self.spare.push(entry);
        }
        Some(service)
    }

    /// Finds requests whose upstream request has finished although their stream continues, because the client does not read
    /// the answer. `full` says whether the limit of a service is reached. `finished` says whether the upstream request of a
    /// stream has finished. `swept` is called with a service and the number of requests that the caller must take off its
    /// count, which is at least 1.
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

    /// Round 0 checks services whose limit is reached, and round 1 any services. `budget` is the most streams to check.
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
            // The next sweep continues with the services that this one does not reach.
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

    /// Checks the streams of one service, at most `budget`. Returns how many requests are finished.
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
            let entry = next.map(|(_, entry)| Rc::clone(entry));
            if let Some(entry) = entry.filter(|entry| finished(entry.stream.get())) {
                entry.swept.set(true);
                self.take(&entry);
                gone = gone.saturating_add(1);
            }
        }
        gone
    }

    /// The worker's share of the count of `service`: the number of its requests that the count includes.
    pub fn share(&self, service: Service) -> usize {
        self.services.get(service).map_or(0, |held| held.count)
    }

    /// Removes a counted request from the ledger.
    fn take(&mut self, entry: &Entry) {
        let Some(held) = self.services.get_mut(entry.service.get()) else {
            return;
        };
        held.count = held.count.saturating_sub(1);
        let Some(index) = entry.index.take() else {
            return;
        };
        if index >= held.answered.len() {
            return;
        }
        held.answered.swap_remove(index);
        if held.answered.is_empty() && held.answered.capacity() > SMALL {
            held.answered = Vec::new();
        }
        if let Some(moved) = held.answered.get(index) {
            moved.index.set(Some(index));
        }
    }
}

/// The next element to check, with its index. `left` is the number of elements that are still to check in this pass. A pass
/// goes from the last element to the first. If an element is removed, the last one moves to its index. That one was checked
/// already or is still to be checked, so the pass skips no element that stays.
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
