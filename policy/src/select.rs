//! In which order the peers of a service are asked whether they take a request.
//!
//! **Invariants.** Each open peer is asked at most once, and all of them are asked before there is none. No peer is asked before all of a
//! lower priority value were. Among peers of one priority each one is the next with a probability in proportion to its weight, so
//! a peer that does not take a request gives its part to the others of its priority in proportion to theirs.
//!
//! With a session (`spill.consistentHash`), the order of one priority depends on the session alone and not on chance: weighted
//! rendezvous hashing (Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996; with weights as in Schindelhauer
//! and Schomaker, "Weighted distributed hash tables", 2005). **Invariant: if a peer leaves, only its sessions move**, each to
//! the peer that was its second; if one comes, it only takes sessions, and no others move.

use crate::destination::PeerId;
use crate::draw::{self, Draws};

/// The most peers of a service.
pub const MOST_PEERS: usize = 64;

/// What the choice needs to know of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Peers with a lower value are asked first.
    pub priority: u32,
    /// The weight among the peers of one priority, at least 1.
    pub weight: u32,
    /// The hash of the peer's name, by which sessions know it whatever its place in the configuration.
    pub hash: u64,
    /// Whether new requests are sent to it. If not, it is not asked.
    pub open: bool,
    /// The most requests in flight there, at least 1. `None` if there is no limit.
    pub limit: Option<u32>,
    /// Whether its errors eject it.
    pub detects: bool,
}

/// How the next peer is chosen among those of one priority.
#[derive(Debug)]
pub enum By<'a> {
    /// By chance.
    Chance(&'a mut Draws),
    /// By the hash of the request's session.
    Session(u64),
}

/// The choice for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Select {
    /// Bit `n` is set if peer `n` was asked.
    asked: u64,
}

impl Select {
    /// Whether several peers can be the next one, so that a choice by chance needs a draw.
    pub fn is_a_choice(&self, peers: &[Candidate]) -> bool {
        self.open(peers).nth(1).is_some()
    }

    /// The peers of which one is the next: those of the lowest priority value that are open and were not asked.
    fn open<'a>(
        &self,
        peers: &'a [Candidate],
    ) -> impl Iterator<Item = (u8, &'a Candidate)> + Clone + use<'a> {
        let asked = self.asked;
        let open = move || {
            let peers = (0..MOST_PEERS as u8).zip(peers);
            peers.filter(move |(nth, peer)| peer.open && asked & bit(*nth) == 0)
        };
        let priority = open().map(|(_, peer)| peer.priority).min();
        open().filter(move |(_, peer)| Some(peer.priority) == priority)
    }

    /// The next of `peers` to ask, of which there are at most [`MOST_PEERS`]. `None` if all that are open were asked.
    pub fn next(&mut self, peers: &[Candidate], by: By<'_>) -> Option<PeerId> {
        let mut open = self.open(peers);
        let (nth, _) = match by {
            By::Chance(draws) => {
                let weights = open.clone().map(|(_, peer)| u64::from(peer.weight));
                let mut left = draws.below(weights.fold(0, u64::saturating_add));
                open.find(|(_, peer)| {
                    let weight = u64::from(peer.weight);
                    let is_drawn = left < weight;
                    left = left.saturating_sub(weight);
                    is_drawn
                })
            }
            By::Session(session) => open.min_by(|(_, a), (_, b)| {
                // Which is less: the wait of `a` divided by its weight, or that of `b`.
                let times = |a: &Candidate, weight| {
                    wait(session ^ a.hash).saturating_mul(u64::from(weight))
                };
                times(a, b.weight).cmp(&times(b, a.weight))
            }),
        }?;
        self.asked |= bit(nth);
        Some(PeerId::new(nth))
    }
}

/// The bit of peer `nth`.
fn bit(nth: u8) -> u64 {
    1u64.checked_shl(nth.into()).unwrap_or(0)
}

/// The waiting time for an event that happens once in a unit of time on average, times ln 2, in units of 2^-32: the negative
/// binary logarithm of a number between 0 and 1 that depends on `key` alone. At most 2^38.
///
/// If several events with rates (weights) are waited for, each is the first with a probability in proportion to its rate, which
/// is the reason for this distribution.
fn wait(key: u64) -> u64 {
    let number = draw::mix(key) | 1;
    let zeros = number.leading_zeros();
    // The number as 1.xxx with 31 bits after the point. Each squaring tells the next bit of its logarithm.
    let mut of = number.wrapping_shl(zeros) >> 32;
    let mut log = 0u64;
    for _ in 0..32 {
        let square = of.wrapping_mul(of);
        let is_two = square >> 63;
        of = square >> 31u64.wrapping_add(is_two);
        log = log << 1 | is_two;
    }
    (u64::from(zeros) << 32 | 0xffff_ffff).saturating_sub(log)
}

#[cfg(test)]
#[path = "select_test.rs"]
mod tests;
