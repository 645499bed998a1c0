//! One request's way: where it goes, and what is to be done so that it goes there.
//!
//! A request that home is not to get, and that may be spilled, is offered to the peers in the order of [`crate::select`], until one
//! takes it. A peer takes it if its route is known, if its errors have not ejected it, and if it has a place under its limit.
//!
//! A machine of single steps, as [`crate::Admit`]: the filter carries out a [`Step`], hands back the [`Fact`] that came of it and
//! asks for the next. The last step is the [`Decision`].
//!
//! **Invariants.** A guest, and a request of ours that came back, are never spilled again. Nothing leaves while the count says
//! that there is room, but for `evacuate`, for an ejection, and for a lost race, which has a word of its own. A request that goes
//! home is counted, within the limit or beyond it, or said to be uncounted. A request is held at most once, at the destination
//! where it goes, and what was counted or claimed at a peer that does not get it in the end is given back. A request that some
//! open peer takes is neither sent home nor refused. A request that may not be spilled goes home, and is neither offered to a peer
//! nor refused. A server sends nothing anywhere: whatever arrives is home.

use core::mem;

use super::{Admission, Decision, Detection, Origin};
use crate::destination::{DestinationId, PeerId};
use crate::draw::Draws;
use crate::ejection::Verdict;
use crate::names::{Declined, HomeReason, SpillReason};
use crate::select::{By, Candidate, Select};

/// What a service's configuration says, in the form that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The most requests in flight at home, at least 1. `None` if there is no limit.
    pub limit: Option<u32>,
    /// Send everything that may spill to a peer.
    pub evacuate: bool,
    /// Whether a peer may be sent new requests: not all of them are drained.
    pub peer_open: bool,
    /// What no peer takes is answered 503 instead of going home.
    pub reject_when_full: bool,
}

impl Rule {
    /// The rule of the receiving side: there is no limit and no peer, so everything stays, and is counted by its origin.
    pub const SERVER: Rule = Rule {
        limit: None,
        evacuate: false,
        peer_open: false,
        reject_when_full: false,
    };
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Ask the error detection of home what to do with the request.
    Health,
    /// Ask for a place at home under this limit, with [`crate::Admit`].
    Room(u32),
    /// Tell the error detection that home had no place for a request.
    Overflowed,
    /// Find out whether the request is one of those that may be spilled. Asked only if it would leave.
    MaySpill,
    /// Give the session of the request, by which the order of the peers is known, or a random number, by which it is drawn.
    Draw,
    /// Find out whether anything leads to this peer; the reason is what the request would leave for.
    Way(PeerId, SpillReason),
    /// Ask the error detection of this peer what to do with the request.
    PeerHealth(PeerId),
    /// Ask for a place at this peer under this limit, with [`crate::Admit`].
    PeerRoom(PeerId, u32),
    /// This peer does not take the request, for this reason.
    Declined(PeerId, Declined),
    /// Take the request off the count of this peer, which includes it, since it does not go there.
    TakeBack(PeerId),
    /// Tell the error detection of this peer that the request is not its probe.
    LetGo(PeerId),
    /// Rewrite the request so that its route leads to this peer.
    Rewrite(PeerId),
    /// Count the request at this destination without asking for a place.
    Count(DestinationId),
    /// Hold the request, which the count of this destination includes, until it ends.
    Hold(DestinationId),
    /// There is nothing more to do.
    Done(Decision),
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Yes: it is so, or it could be done. Before the first step: Envoy counts the requests of the service. Also after a step of
    /// which nothing is to be told.
    Yes,
    /// No.
    No,
    /// What [`Step::Health`] or [`Step::PeerHealth`] said. [`Fact::No`] if there is no error detection.
    Verdict(Verdict),
    /// What [`Step::Room`] or [`Step::PeerRoom`] said.
    Admission(Admission),
    /// The random number of [`Step::Draw`].
    Drawn(u64),
    /// The session of [`Step::Draw`].
    Session(u64),
}

impl From<bool> for Fact {
    fn from(yes: bool) -> Fact {
        if yes { Fact::Yes } else { Fact::No }
    }
}

/// The step that was asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Health,
    Room,
    Overflowed(SpillReason),
    MaySpill(SpillReason),
    Draw(SpillReason),
    /// A step about a peer.
    Peer(AtPeer, PeerId, SpillReason),
    /// The request is counted, and goes where this decision sends it.
    Count(Decision),
    End(Decision),
}

/// The step that was asked for last about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AtPeer {
    Way,
    Health,
    Room,
    Rewrite,
    TakeBack,
    LetGo,
    Declined,
}

/// The state machine of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch<'a> {
    rule: Rule,
    peers: &'a [Candidate],
    origin: Origin,
    /// Decisions are carried out. Otherwise a request that would leave stays where it is.
    enforce: bool,
    /// Errors of home can divert this request.
    heeds_errors: bool,
    /// That home is full is an error of home's.
    overflow: bool,
    /// The destination whose probe it is.
    probe: Option<DestinationId>,
    select: Select,
    draws: Draws,
    session: Option<u64>,
    /// The order of the peers was drawn, or is that of the session.
    drawn: bool,
    /// The count of the peer that is asked includes the request.
    counted: bool,
    /// A peer that anything leads to does not take it.
    full: bool,
    at: At,
}

impl<'a> Dispatch<'a> {
    /// A request of this origin, for a service with this rule and these peers. `detection` is `None` if ejection is disabled. `enforce` is false
    /// if decisions are only to be counted, and change no request.
    #[inline]
    pub fn new(
        rule: Rule,
        peers: &'a [Candidate],
        detection: Option<&Detection>,
        origin: Origin,
        enforce: bool,
    ) -> Dispatch<'a> {
        // Where a request may not leave, or cannot, there is nothing that errors would change.
        let diverts = origin == Origin::Own && !rule.evacuate && rule.peer_open;
        Dispatch {
            rule,
            peers,
            origin,
            enforce,
            heeds_errors: diverts && detection.is_some(),
            overflow: diverts && detection.is_some_and(|detection| detection.overflow),
            probe: None,
            select: Select::default(),
            draws: Draws::new(0),
            session: None,
            drawn: false,
            counted: false,
            full: false,
            at: At::Begin,
        }
    }

    /// The next step, after the last one came to this fact. Before the first step the fact is whether Envoy counts the requests
    /// of the service.
    #[inline]
    pub fn next(&mut self, fact: Fact) -> Step {
        match (self.at, fact) {
            (At::Begin, Fact::Yes) if self.heeds_errors => self.go(At::Health, Step::Health),
            (At::Begin, Fact::Yes) => self.by_origin(),
            (At::Health, Fact::Verdict(verdict)) => self.by_health(verdict),
            (At::Health, _) => self.by_origin(),
            (At::Room, Fact::Admission(admission)) => self.by_admission(admission),
            (At::Begin | At::Room, _) => self.end(Decision::Home(HomeReason::Uncounted)),
            (At::Overflowed(why), _) => self.surplus(why),
            (At::MaySpill(_), Fact::No) => self.uninvited(HomeReason::Unmatched),
            (At::MaySpill(why), _) if self.rule.peer_open => self.offer(why),
            (At::MaySpill(_), _) => self.refused(),
            (At::Draw(why), fact) => {
                match fact {
                    Fact::Drawn(seed) => self.draws = Draws::new(seed),
                    Fact::Session(session) => self.session = Some(session),
                    _ => {}
                }
                self.drawn = true;
                self.offer(why)
            }
            (At::Peer(at, peer, why), fact) => self.at_peer(at, peer, why, fact),
            (At::Count(decision), Fact::Yes) => self.hold(decision),
            (At::Count(Decision::Home(_)), _) => self.end(Decision::Home(HomeReason::Uncounted)),
            // It is on its way to the peer, counted or not.
            (At::Count(decision) | At::End(decision), _) => self.end(decision),
        }
    }

    /// The destination whose probe the request is, if it was claimed as one.
    pub fn probe(&self) -> Option<DestinationId> {
        self.probe
    }

    fn go(&mut self, at: At, step: Step) -> Step {
        self.at = at;
        step
    }

    fn end(&mut self, decision: Decision) -> Step {
        self.go(At::End(decision), Step::Done(decision))
    }

    fn count(&mut self, at: DestinationId, decision: Decision) -> Step {
        self.go(At::Count(decision), Step::Count(at))
    }

    fn hold(&mut self, decision: Decision) -> Step {
        let at = decision.to().unwrap_or(DestinationId::HOME);
        self.go(At::End(decision), Step::Hold(at))
    }

    /// It goes home without a place there, and is in flight there all the same.
    fn uninvited(&mut self, why: HomeReason) -> Step {
        self.count(DestinationId::HOME, Decision::Home(why))
    }

    fn by_health(&mut self, verdict: Verdict) -> Step {
        match verdict {
            Verdict::Away { ramp: false } | Verdict::Overdue => self.surplus(SpillReason::Ejected),
            Verdict::Away { ramp: true } => self.surplus(SpillReason::Ramp),
            Verdict::Probe => {
                self.probe = Some(DestinationId::HOME);
                self.uninvited(HomeReason::Probe)
            }
            Verdict::Home | Verdict::Back => self.by_origin(),
        }
    }

    fn by_origin(&mut self) -> Step {
        match (self.origin, self.rule.evacuate, self.rule.limit) {
            (Origin::Guest, ..) => self.uninvited(HomeReason::Guest),
            (Origin::Returned, ..) => self.uninvited(HomeReason::Returned),
            (Origin::Own, true, _) => self.surplus(SpillReason::Evacuate),
            (Origin::Own, false, Some(limit)) => self.go(At::Room, Step::Room(limit)),
            (Origin::Own, false, None) => self.uninvited(HomeReason::Room),
        }
    }

    fn by_admission(&mut self, admission: Admission) -> Step {
        match admission {
            Admission::Admitted => self.hold(Decision::Home(HomeReason::Room)),
            Admission::Full => self.full(SpillReason::Limit),
            Admission::Contended => self.full(SpillReason::Contention),
            Admission::Refused => self.end(Decision::Home(HomeReason::Uncounted)),
        }
    }

    /// Home has no place for it.
    fn full(&mut self, why: SpillReason) -> Step {
        if self.overflow {
            self.go(At::Overflowed(why), Step::Overflowed)
        } else {
            self.surplus(why)
        }
    }

    /// Home is not to get it, if it may be spilled.
    #[inline(never)]
    fn surplus(&mut self, why: SpillReason) -> Step {
        self.go(At::MaySpill(why), Step::MaySpill)
    }

    /// Offers it to the next peer.
    #[inline(never)]
    fn offer(&mut self, why: SpillReason) -> Step {
        if !self.drawn && self.select.is_a_choice(self.peers) {
            return self.go(At::Draw(why), Step::Draw);
        }
        let by = match self.session {
            Some(session) => By::Session(session),
            None => By::Chance(&mut self.draws),
        };
        let Some(to) = self.select.next(self.peers, by) else {
            return if self.full {
                self.refused()
            } else {
                self.uninvited(HomeReason::Misroute)
            };
        };
        if self.enforce {
            self.ask(AtPeer::Way, to, why, Step::Way(to, why))
        } else {
            self.end(Decision::Spill { to, why })
        }
    }

    fn ask(&mut self, at: AtPeer, peer: PeerId, why: SpillReason, step: Step) -> Step {
        self.go(At::Peer(at, peer, why), step)
    }

    #[inline(never)]
    fn at_peer(&mut self, at: AtPeer, peer: PeerId, why: SpillReason, fact: Fact) -> Step {
        let candidate = self.peers.get(peer.index());
        let rewrite = Step::Rewrite(peer);
        match (at, fact) {
            (AtPeer::Way, Fact::Yes) if candidate.is_some_and(|peer| peer.detects) => {
                self.ask(AtPeer::Health, peer, why, Step::PeerHealth(peer))
            }
            (AtPeer::Health, Fact::Verdict(Verdict::Away { .. } | Verdict::Overdue)) => {
                self.declined(peer, why, Declined::Ejected)
            }
            (AtPeer::Health, Fact::Verdict(Verdict::Probe)) => {
                self.probe = Some(peer.into());
                self.ask(AtPeer::Rewrite, peer, why, rewrite)
            }
            (AtPeer::Way, Fact::Yes) | (AtPeer::Health, _) => {
                match candidate.and_then(|peer| peer.limit) {
                    Some(limit) => self.ask(AtPeer::Room, peer, why, Step::PeerRoom(peer, limit)),
                    None => self.ask(AtPeer::Rewrite, peer, why, rewrite),
                }
            }
            (AtPeer::Room, Fact::Admission(Admission::Admitted)) => {
                self.counted = true;
                self.ask(AtPeer::Rewrite, peer, why, rewrite)
            }
            (AtPeer::Room, Fact::Admission(Admission::Full | Admission::Contended)) => {
                self.declined(peer, why, Declined::Full)
            }
            (AtPeer::Room, _) => self.declined(peer, why, Declined::Uncounted),
            (AtPeer::Rewrite, Fact::Yes) => {
                let decision = Decision::Spill { to: peer, why };
                match self.counted {
                    true => self.hold(decision),
                    false => self.count(peer.into(), decision),
                }
            }
            (AtPeer::Declined, _) => self.offer(why),
            (AtPeer::Rewrite, _) if mem::take(&mut self.counted) => {
                self.ask(AtPeer::TakeBack, peer, why, Step::TakeBack(peer))
            }
            (AtPeer::Rewrite | AtPeer::TakeBack, _) if self.probe.take().is_some() => {
                self.ask(AtPeer::LetGo, peer, why, Step::LetGo(peer))
            }
            (AtPeer::Way | AtPeer::Rewrite | AtPeer::TakeBack | AtPeer::LetGo, _) => {
                self.declined(peer, why, Declined::Misroute)
            }
        }
    }

    fn declined(&mut self, peer: PeerId, why: SpillReason, declined: Declined) -> Step {
        self.full |= declined != Declined::Misroute;
        self.ask(AtPeer::Declined, peer, why, Step::Declined(peer, declined))
    }

    /// Neither home nor a peer has a place for it.
    fn refused(&mut self) -> Step {
        if self.rule.reject_when_full {
            self.end(Decision::Reject)
        } else {
            self.uninvited(HomeReason::WhenFull)
        }
    }
}

#[cfg(test)]
#[path = "dispatch_test.rs"]
mod tests;
