//! One request's way: where it goes, and what is to be done so that it goes there.
//!
//! A machine of single steps, as [`crate::Admit`]: the filter carries out a [`Step`], hands back the [`Fact`] that came of it and
//! asks for the next. The last step is the [`Decision`].
//!
//! **Invariants.** A guest, and a request of ours that came back, are never spilled again. Nothing leaves while the count says
//! that there is room, but for `evacuate`, for an ejection, and for a lost race, which has a word of its own. A request that goes
//! home is counted, within the limit or beyond it, or said to be uncounted. A request is held at most once, at the destination
//! where it goes. A server sends nothing anywhere: whatever arrives is home.

use super::{Admission, Decision, Detection, Origin};
use crate::destination::{DestinationId, PeerId};
use crate::ejection::Verdict;
use crate::names::{HomeReason, SpillReason};

/// What a service's configuration says, in the form that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The most requests in flight at home, at least 1. `None` if there is no limit.
    pub limit: Option<u32>,
    /// Send everything that may spill to the peer.
    pub evacuate: bool,
    /// The peer may be sent new requests (it is not drained).
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
    /// Find out whether anything leads to this peer; the reason is what the request would leave for.
    Way(PeerId, SpillReason),
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
    /// What [`Step::Health`] said. [`Fact::No`] if there is no error detection.
    Verdict(Verdict),
    /// What [`Step::Room`] said.
    Admission(Admission),
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
    Way(PeerId, SpillReason),
    Rewrite(PeerId, SpillReason),
    /// The request is counted, and goes where this decision sends it.
    Count(Decision),
    End(Decision),
}

/// The state machine of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch {
    rule: Rule,
    origin: Origin,
    /// Decisions are carried out. Otherwise a request that would leave stays where it is.
    enforce: bool,
    /// Errors of home can divert this request.
    heeds_errors: bool,
    /// That home is full is an error of home's.
    overflow: bool,
    probe: bool,
    at: At,
}

impl Dispatch {
    /// A request of this origin, for a service with this rule. `detection` is `None` if ejection is disabled. `enforce` is false
    /// if decisions are only to be counted, and change no request.
    #[inline]
    pub fn new(
        rule: Rule,
        detection: Option<&Detection>,
        origin: Origin,
        enforce: bool,
    ) -> Dispatch {
        // Where a request may not leave, or cannot, there is nothing that errors would change.
        let diverts = origin == Origin::Own && !rule.evacuate && rule.peer_open;
        Dispatch {
            rule,
            origin,
            enforce,
            heeds_errors: diverts && detection.is_some(),
            overflow: diverts && detection.is_some_and(|detection| detection.overflow),
            probe: false,
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
            (At::Way(peer, why), Fact::Yes) => self.go(At::Rewrite(peer, why), Step::Rewrite(peer)),
            (At::Rewrite(to, why), Fact::Yes) => self.count(to.into(), Decision::Spill { to, why }),
            // With many peers, the next candidate is asked here.
            (At::Way(..) | At::Rewrite(..), _) => self.uninvited(HomeReason::Misroute),
            (At::Count(decision), Fact::Yes) => self.hold(decision),
            (At::Count(Decision::Home(_)), _) => self.end(Decision::Home(HomeReason::Uncounted)),
            // It is on its way to the peer, counted or not.
            (At::Count(decision) | At::End(decision), _) => self.end(decision),
        }
    }

    /// Whether the request was claimed as home's probe.
    pub fn is_probe(&self) -> bool {
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
            Verdict::Away { ramp: false } => self.surplus(SpillReason::Ejected),
            Verdict::Away { ramp: true } => self.surplus(SpillReason::Ramp),
            Verdict::Probe => {
                self.probe = true;
                self.uninvited(HomeReason::Probe)
            }
            Verdict::Home | Verdict::Back | Verdict::Overdue => self.by_origin(),
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

    /// Home is not to get it.
    fn surplus(&mut self, why: SpillReason) -> Step {
        let to = PeerId::FIRST;
        match (self.rule.peer_open, self.rule.reject_when_full) {
            (true, _) if self.enforce => self.go(At::Way(to, why), Step::Way(to, why)),
            (true, _) => self.end(Decision::Spill { to, why }),
            (false, true) => self.end(Decision::Reject),
            (false, false) => self.uninvited(HomeReason::WhenFull),
        }
    }
}

#[cfg(test)]
#[path = "dispatch_test.rs"]
mod tests;
