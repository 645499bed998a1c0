//! What holds on every way through the machine.

#[path = "dispatch_paths.rs"]
mod paths;

use super::*;
use crate::ejection::Verdict::{Away, Home, Probe};
use paths::{paths, rules};

const PEER: PeerId = PeerId::FIRST;

fn home(why: HomeReason) -> Decision {
    Decision::Home(why)
}

fn spill(why: SpillReason) -> Decision {
    Decision::Spill { to: PEER, why }
}

#[test]
fn a_guest_and_a_request_that_came_back_are_never_spilled_again() {
    for path in paths().iter().filter(|path| path.origin != Origin::Own) {
        let why = match path.origin {
            Origin::Guest => HomeReason::Guest,
            _ => HomeReason::Returned,
        };
        let uncounted = home(HomeReason::Uncounted);
        assert!([home(why), uncounted].contains(&path.decision), "{path:?}");
        let asks = path.asks(|step| matches!(step, Step::Health | Step::Room(_)));
        assert!(!asks && !path.may_leave(), "{path:?}");
    }
}

/// But for `evacuate`, for an ejection, and for a race that was lost.
#[test]
fn nothing_leaves_while_the_count_says_that_there_is_room() {
    for path in paths() {
        let why = match path.decision {
            Decision::Spill { why, .. } => Some(why),
            Decision::Home(_) | Decision::Reject => None,
        };
        let reason = match (path.admission(), path.verdict()) {
            (Some(Admission::Full), _) => Some(SpillReason::Limit),
            (Some(Admission::Contended), _) => Some(SpillReason::Contention),
            (None, Some(Away { ramp: false })) => Some(SpillReason::Ejected),
            (None, Some(Away { ramp: true })) => Some(SpillReason::Ramp),
            (None, None) if path.rule.evacuate => Some(SpillReason::Evacuate),
            _ => None,
        };
        assert!(why.is_none() || why == reason, "{path:?}");
        assert!(!path.may_leave() || reason.is_some(), "{path:?}");
    }
}

#[test]
fn a_request_with_a_place_stays_home() {
    for path in paths() {
        let admitted = path.admission() == Some(Admission::Admitted);
        let with_room = path.rule.limit.is_some() && path.decision == home(HomeReason::Room);
        assert_eq!(admitted, with_room, "{path:?}");
    }
}

#[test]
fn a_request_that_goes_home_is_counted_or_said_to_be_uncounted() {
    for path in paths() {
        if let Decision::Home(why) = path.decision {
            let counted = path.counted() == [DestinationId::HOME];
            assert_eq!(counted, why != HomeReason::Uncounted, "{path:?}");
        }
    }
}

#[test]
fn a_request_is_held_where_it_is_counted_and_that_is_where_it_goes() {
    for path in paths() {
        assert_eq!(path.held(), path.counted(), "{path:?}");
        assert!(path.held().len() <= 1, "{path:?}");
        for at in path.held() {
            assert_eq!(path.decision.to(), Some(at), "{path:?}");
        }
    }
}

/// Otherwise its count would depend on whether its answer comes before it is held.
#[test]
fn a_request_is_held_last() {
    for path in paths() {
        let at = path
            .steps
            .iter()
            .position(|(step, _)| matches!(step, Step::Hold(_)));
        assert!(at.is_none_or(|at| at + 1 == path.steps.len()), "{path:?}");
    }
}

#[test]
fn what_cannot_leave_goes_home_and_is_counted_there() {
    let mut refused = 0;
    for path in paths() {
        let is_refused = path.steps.iter().any(|(step, fact)| {
            matches!(step, Step::Way(..) | Step::Rewrite(_)) && *fact == Fact::No
        });
        if is_refused {
            refused += 1;
            let counted = path.has(Step::Count(DestinationId::HOME), Fact::Yes);
            let why = if counted {
                HomeReason::Misroute
            } else {
                HomeReason::Uncounted
            };
            assert_eq!(path.decision, home(why), "{path:?}");
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_request_leaves_only_by_a_way_that_was_found_and_is_sent_even_if_it_is_not_counted() {
    for path in paths() {
        let found = path
            .steps
            .iter()
            .any(|(step, fact)| matches!(step, Step::Way(..)) && *fact == Fact::Yes);
        let rewritten = path.asks(|step| matches!(step, Step::Rewrite(_)));
        assert_eq!(found, rewritten, "{path:?}");
        let spilled = path.enforce && matches!(path.decision, Decision::Spill { .. });
        assert_eq!(path.has_left(), spilled, "{path:?}");
        let counts = path.asks(|step| step == Step::Count(PEER.into()));
        assert_eq!(counts, path.has_left(), "{path:?}");
        assert!(path.enforce || !path.may_leave(), "{path:?}");
    }
}

#[test]
fn errors_divert_our_own_requests_alone_and_only_where_there_is_a_peer() {
    for path in paths() {
        let heeds = path.detects.is_some()
            && path.origin == Origin::Own
            && path.rule.peer_open
            && !path.rule.evacuate
            && path.is_counted;
        assert_eq!(path.asks(|step| step == Step::Health), heeds, "{path:?}");
    }
}

#[test]
fn an_ejected_home_gets_its_probe_and_nothing_else() {
    for path in paths() {
        let probe = path.verdict() == Some(Probe);
        assert_eq!(path.probe, probe, "{path:?}");
        if probe {
            let known = [HomeReason::Probe, HomeReason::Uncounted].map(Decision::Home);
            assert!(known.contains(&path.decision), "{path:?}");
        }
        if matches!(path.verdict(), Some(Away { .. })) {
            assert!(!path.asks(|step| matches!(step, Step::Room(_))), "{path:?}");
        }
    }
}

/// Once, before the request leaves: it ejects home for those that come after.
#[test]
fn that_home_is_full_is_told_where_it_is_an_error() {
    for path in paths() {
        let told = path
            .steps
            .iter()
            .filter(|(step, _)| *step == Step::Overflowed)
            .count();
        let full = matches!(
            path.admission(),
            Some(Admission::Full | Admission::Contended)
        );
        let heeded = path.asks(|step| step == Step::Health);
        let expected = full && heeded && path.detects == Some(true);
        assert_eq!(told, usize::from(expected), "{path:?}");
    }
}

#[test]
fn a_drained_peer_gets_nothing() {
    for path in paths().iter().filter(|path| !path.rule.peer_open) {
        assert!(!matches!(path.decision, Decision::Spill { .. }), "{path:?}");
        assert!(!path.may_leave(), "{path:?}");
    }
}

#[test]
fn only_a_rule_that_says_so_rejects_and_only_when_no_peer_is_open() {
    for rule in rules() {
        let paths = paths().into_iter().filter(|path| path.rule == rule);
        let rejects = paths
            .map(|path| path.decision)
            .any(|d| d == Decision::Reject);
        let may =
            rule.reject_when_full && !rule.peer_open && (rule.evacuate || rule.limit.is_some());
        assert_eq!(rejects, may, "{rule:?}");
    }
}

#[test]
fn a_server_keeps_whatever_arrives_and_tells_whose_it_is() {
    for path in paths().iter().filter(|path| path.rule == Rule::SERVER) {
        let why = match path.origin {
            Origin::Own => HomeReason::Room,
            Origin::Guest => HomeReason::Guest,
            Origin::Returned => HomeReason::Returned,
        };
        let uncounted = home(HomeReason::Uncounted);
        assert!([home(why), uncounted].contains(&path.decision), "{path:?}");
    }
}

#[test]
fn every_decision_is_made_by_some_rule() {
    let made: Vec<Decision> = paths().iter().map(|path| path.decision).collect();
    for decision in Decision::all() {
        assert!(made.contains(&decision), "{decision:?}");
    }
}

/// The steps of one request after another, with what comes of them, as `(step, fact)`.
#[track_caller]
fn goes(rule: Rule, overflow: Option<bool>, steps: &[(Step, Fact)], decision: Decision) {
    let detection = overflow.map(|overflow| Detection {
        overflow,
        ..Detection::default()
    });
    let mut dispatch = Dispatch::new(rule, detection.as_ref(), Origin::Own, true);
    let mut fact = Fact::Yes;
    for (step, came_of_it) in steps {
        assert_eq!(dispatch.next(fact), *step);
        fact = *came_of_it;
    }
    assert_eq!(dispatch.next(fact), Step::Done(decision));
}

const LIMITED: Rule = Rule {
    limit: Some(3),
    evacuate: false,
    peer_open: true,
    reject_when_full: false,
};

#[test]
fn a_request_within_the_limit_takes_these_steps() {
    goes(
        LIMITED,
        Some(false),
        &[
            (Step::Health, Fact::Verdict(Home)),
            (Step::Room(3), Fact::Admission(Admission::Admitted)),
            (Step::Hold(DestinationId::HOME), Fact::Yes),
        ],
        home(HomeReason::Room),
    );
}

#[test]
fn the_surplus_takes_these_steps() {
    goes(
        LIMITED,
        Some(true),
        &[
            (Step::Health, Fact::Verdict(Home)),
            (Step::Room(3), Fact::Admission(Admission::Full)),
            (Step::Overflowed, Fact::Yes),
            (Step::Way(PEER, SpillReason::Limit), Fact::Yes),
            (Step::Rewrite(PEER), Fact::Yes),
            (Step::Count(PEER.into()), Fact::Yes),
            (Step::Hold(PEER.into()), Fact::Yes),
        ],
        spill(SpillReason::Limit),
    );
}
