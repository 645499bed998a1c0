//! Where a request goes, and why.
//!
//! **Invariants.** A guest, and a request of ours that came back, are never spilled again. Nothing leaves while the
//! count says there is room, but for `evacuate` and for a lost race, which has a word of its own. Every request that
//! goes home is counted, within the limit or beyond it. A server sends nothing anywhere: whatever arrives is home.

use super::{Admission, Origin};
use crate::names::Reason;

/// What a service's configuration says, in the form that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The most requests in flight at home, at least 1; none: no limit.
    pub limit: Option<u32>,
    /// Send everything that may spill to the peer.
    pub evacuate: bool,
    /// The peer may be sent new requests (it is not drained).
    pub peer_open: bool,
    /// What no peer takes is answered 503 instead of going home.
    pub reject_when_full: bool,
}

/// What a request needs before it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Ask for a slot under this limit, then [`Rule::settle`].
    Ask(u32),
    /// Nothing: this is the decision.
    Decided(Decision),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Home. For all reasons but a slot that was granted, the filter has yet to count it.
    Home(Reason),
    /// To the peer.
    Spill(Reason),
    /// A 503 from here.
    Reject(Reason),
}

impl Rule {
    /// The rule of the receiving side: there is no limit and no peer, so everything stays, and is counted by its origin.
    pub const SERVER: Rule = Rule {
        limit: None,
        evacuate: false,
        peer_open: false,
        reject_when_full: false,
    };

    /// Whether a request of this origin can be diverted for home's errors: where it may not, or cannot, there is nothing
    /// that errors would change.
    pub fn heeds_errors(&self, origin: Origin) -> bool {
        origin == Origin::Own && !self.evacuate && self.peer_open
    }

    /// What to do first with a request of this origin.
    pub fn intent(&self, origin: Origin) -> Intent {
        match (origin, self.evacuate, self.limit) {
            (Origin::Guest, ..) => Intent::Decided(Decision::Home(Reason::Guest)),
            (Origin::Returned, ..) => Intent::Decided(Decision::Home(Reason::Returned)),
            (Origin::Own, true, _) => Intent::Decided(self.beyond(Reason::Evacuate)),
            (Origin::Own, false, Some(limit)) => Intent::Ask(limit),
            (Origin::Own, false, None) => Intent::Decided(Decision::Home(Reason::Room)),
        }
    }

    /// The decision once the admission is known.
    pub fn settle(&self, admission: Admission) -> Decision {
        match admission {
            Admission::Admitted => Decision::Home(Reason::Room),
            Admission::Full => self.beyond(Reason::Limit),
            Admission::Contended => self.beyond(Reason::Contention),
        }
    }

    /// The decision for a request that home is not to get, for this reason.
    pub fn beyond(&self, why: Reason) -> Decision {
        match (self.peer_open, self.reject_when_full) {
            (true, _) => Decision::Spill(why),
            (false, true) => Decision::Reject(Reason::WhenFull),
            (false, false) => Decision::Home(Reason::WhenFull),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> impl Iterator<Item = Rule> {
        (0..16u8).map(|bits| Rule {
            limit: (bits & 1 != 0).then_some(1),
            evacuate: bits & 2 != 0,
            peer_open: bits & 4 != 0,
            reject_when_full: bits & 8 != 0,
        })
    }

    /// Every decision that a rule can come to for a request of this origin.
    fn outcomes(rule: Rule, origin: Origin) -> Vec<Decision> {
        match rule.intent(origin) {
            Intent::Decided(decision) => vec![decision],
            Intent::Ask(_) => [Admission::Admitted, Admission::Full, Admission::Contended]
                .map(|a| rule.settle(a))
                .to_vec(),
        }
    }

    #[test]
    fn a_guest_is_never_spilled_again() {
        for rule in rules() {
            assert_eq!(
                outcomes(rule, Origin::Guest),
                [Decision::Home(Reason::Guest)]
            );
            assert_eq!(
                outcomes(rule, Origin::Returned),
                [Decision::Home(Reason::Returned)]
            );
        }
    }

    #[test]
    fn errors_of_home_divert_our_own_requests_alone_and_only_where_there_is_a_peer() {
        for rule in rules() {
            for origin in [Origin::Guest, Origin::Returned] {
                assert!(!rule.heeds_errors(origin));
            }
            assert!(!rule.heeds_errors(Origin::Own) || rule.peer_open);
        }
        assert!(!Rule::SERVER.heeds_errors(Origin::Own));
    }

    #[test]
    fn a_server_keeps_whatever_arrives_and_tells_whose_it_is() {
        for (origin, reason) in [
            (Origin::Own, Reason::Room),
            (Origin::Guest, Reason::Guest),
            (Origin::Returned, Reason::Returned),
        ] {
            assert_eq!(outcomes(Rule::SERVER, origin), [Decision::Home(reason)]);
        }
        for admission in [Admission::Admitted, Admission::Full, Admission::Contended] {
            assert!(matches!(Rule::SERVER.settle(admission), Decision::Home(_)));
        }
    }

    #[test]
    fn a_request_with_a_slot_stays_home() {
        for rule in rules() {
            assert_eq!(
                rule.settle(Admission::Admitted),
                Decision::Home(Reason::Room)
            );
        }
    }

    #[test]
    fn a_drained_peer_gets_nothing() {
        for rule in rules().filter(|rule| !rule.peer_open) {
            assert!(
                outcomes(rule, Origin::Own)
                    .iter()
                    .all(|d| !matches!(d, Decision::Spill(_)))
            );
        }
    }

    #[test]
    fn only_a_rule_that_says_so_rejects_and_only_when_no_peer_is_open() {
        for rule in rules() {
            let rejects = outcomes(rule, Origin::Own)
                .iter()
                .any(|d| matches!(d, Decision::Reject(_)));
            let may =
                rule.reject_when_full && !rule.peer_open && (rule.evacuate || rule.limit.is_some());
            assert_eq!(rejects, may, "{rule:?}");
        }
    }

    #[test]
    fn the_surplus_leaves_and_evacuation_sends_all() {
        let rule = Rule {
            limit: Some(1),
            evacuate: false,
            peer_open: true,
            reject_when_full: false,
        };
        assert_eq!(rule.intent(Origin::Own), Intent::Ask(1));
        assert_eq!(rule.settle(Admission::Full), Decision::Spill(Reason::Limit));
        assert_eq!(
            rule.settle(Admission::Contended),
            Decision::Spill(Reason::Contention)
        );
        let all = Rule {
            evacuate: true,
            ..rule
        };
        assert_eq!(
            all.intent(Origin::Own),
            Intent::Decided(Decision::Spill(Reason::Evacuate))
        );
    }
}
