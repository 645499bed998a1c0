//! What holds on every way through the machine.

#[path = "dispatch_paths.rs"]
mod paths;
#[path = "dispatch_steps.rs"]
mod steps;

use super::*;
use crate::ejection::Verdict::{Away, Overdue, Probe};
use paths::{Path, paths};

const PEER: PeerId = PeerId::FIRST;

fn home(why: HomeReason) -> Decision {
    Decision::Home(why)
}

fn spill(why: SpillReason) -> Decision {
    Decision::Spill { to: PEER, why }
}

/// The wording of the reasons for which a request is neither home's nor a peer's.
fn at_home(path: &Path, why: HomeReason) -> bool {
    [home(why), home(HomeReason::Uncounted)].contains(&path.decision)
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
            (None, Some(Away { ramp: false } | Overdue)) => Some(SpillReason::Ejected),
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

/// A request that stays in any case costs nothing more.
#[test]
fn whether_a_request_may_be_spilled_is_asked_only_of_one_that_would_leave() {
    for path in paths() {
        let full = matches!(
            path.admission(),
            Some(Admission::Full | Admission::Contended)
        );
        let away = matches!(path.verdict(), Some(Away { .. } | Overdue));
        let evacuated = path.rule.evacuate && path.origin == Origin::Own && path.is_counted;
        let asked = path.may_spill().is_some();
        assert_eq!(asked, full || away || evacuated, "{path:?}");
    }
}

/// It goes home, whatever `whenFull` says, and even if home is ejected. It is no probe of home then.
#[test]
fn a_request_that_may_not_be_spilled_goes_home_and_waits_for_nobody() {
    let mut stayed = 0;
    for path in paths() {
        if path.may_spill() == Some(false) {
            stayed += 1;
            assert!(at_home(&path, HomeReason::Unmatched), "{path:?}");
            assert!(!path.may_leave() && path.declined().is_empty(), "{path:?}");
            assert!(!path.asks(|step| step == Step::Draw), "{path:?}");
            assert_eq!(path.probe, None, "{path:?}");
        } else {
            assert_ne!(path.decision, home(HomeReason::Unmatched), "{path:?}");
        }
    }
    assert!(stayed > 0);
}

/// Neither refused nor sent home, if only one of several takes it.
#[test]
fn a_request_that_some_open_peer_takes_goes_there() {
    let mut declined = 0;
    for path in paths() {
        let reasons = path.declined();
        let peers: Vec<PeerId> = reasons.iter().map(|(peer, _)| *peer).collect();
        if !path.may_leave() || path.left().is_some() {
            continue;
        }
        declined += 1;
        let mut sorted = peers.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, path.open(), "all were asked, each once: {path:?}");
        let unrouted = reasons.iter().all(|(_, why)| *why == Declined::Misroute);
        let expected = match (unrouted, path.rule.reject_when_full) {
            (true, _) => at_home(&path, HomeReason::Misroute),
            (false, true) => path.decision == Decision::Reject,
            (false, false) => at_home(&path, HomeReason::WhenFull),
        };
        assert!(expected, "{path:?}");
    }
    assert!(declined > 0);
}

#[test]
fn peers_of_a_lower_priority_value_are_asked_first() {
    for path in paths() {
        let asked = path.steps.iter().filter_map(|(step, _)| match step {
            Step::Way(peer, _) => Some(path.peers[peer.index()].priority),
            _ => None,
        });
        assert!(asked.is_sorted(), "{path:?}");
    }
}

#[test]
fn a_number_is_drawn_once_and_only_if_there_is_a_choice() {
    for path in paths() {
        let draws = path.steps.iter().filter(|(step, _)| *step == Step::Draw);
        let draws = draws.count();
        assert!(draws <= 1, "{path:?}");
        assert!(draws == 0 || path.open().len() > 1, "{path:?}");
    }
}

/// Each by what it says itself.
#[test]
fn a_peer_declines_a_request_for_a_reason_and_takes_it_otherwise() {
    for path in paths() {
        for (peer, why) in path.declined() {
            let said = |of: fn(Step) -> Option<PeerId>, fact: fn(Fact) -> bool| {
                let mut steps = path.steps.iter();
                steps.any(|(step, came)| of(*step) == Some(peer) && fact(*came))
            };
            let health = |step| match step {
                Step::PeerHealth(peer) => Some(peer),
                _ => None,
            };
            let room = |step| match step {
                Step::PeerRoom(peer, _) => Some(peer),
                _ => None,
            };
            let way = |step| match step {
                Step::Way(peer, _) | Step::Rewrite(peer) => Some(peer),
                _ => None,
            };
            let is_so = match why {
                Declined::Ejected => said(health, |fact| {
                    matches!(fact, Fact::Verdict(Away { .. } | Overdue))
                }),
                Declined::Full => said(room, |fact| {
                    matches!(
                        fact,
                        Fact::Admission(Admission::Full | Admission::Contended)
                    )
                }),
                Declined::Uncounted => {
                    said(room, |fact| fact == Fact::Admission(Admission::Refused))
                }
                Declined::Misroute => said(way, |fact| fact == Fact::No),
            };
            assert!(is_so, "{why:?}: {path:?}");
            assert_ne!(path.left(), Some(peer), "{path:?}");
        }
    }
}

#[test]
fn a_request_leaves_only_by_a_way_that_was_found_and_is_sent_even_if_it_is_not_counted() {
    for path in paths() {
        if let Some(peer) = path.left() {
            let found = |(step, fact): &(Step, Fact)| {
                matches!(step, Step::Way(to, _) if *to == peer) && *fact == Fact::Yes
            };
            assert!(path.steps.iter().any(found), "{path:?}");
            assert!(path.enforce, "{path:?}");
            let Decision::Spill { to, .. } = path.decision else {
                panic!("it has left: {path:?}");
            };
            assert_eq!(to, peer, "{path:?}");
        }
        let spilled = path.enforce && matches!(path.decision, Decision::Spill { .. });
        assert_eq!(path.left().is_some(), spilled, "{path:?}");
        assert!(path.enforce || !path.may_leave(), "{path:?}");
    }
}

#[test]
fn a_request_is_within_the_limit_of_the_peer_where_it_goes_but_for_a_probe() {
    for path in paths() {
        let Some(peer) = path.left() else { continue };
        let admitted = path.steps.iter().any(|(step, fact)| {
            matches!(step, Step::PeerRoom(of, _) if *of == peer)
                && *fact == Fact::Admission(Admission::Admitted)
        });
        let probe = path.probe == Some(peer.into());
        let limited = path.peers[peer.index()].limit.is_some();
        assert_eq!(admitted, limited && !probe, "{path:?}");
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
        if path.verdict() == Some(Probe) {
            assert!(at_home(&path, HomeReason::Probe), "{path:?}");
        }
        if matches!(path.verdict(), Some(Away { .. } | Overdue)) {
            assert!(!path.asks(|step| matches!(step, Step::Room(_))), "{path:?}");
        }
    }
}

/// A claim that is neither used nor given back would keep every other probe away.
#[test]
fn a_probe_goes_where_it_was_claimed_or_is_let_go() {
    for path in paths() {
        assert_eq!(path.probe, path.claimed(), "{path:?}");
        if path.probe.is_some() {
            assert_eq!(path.probe, path.decision.to(), "{path:?}");
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
    for path in paths() {
        let about = |step| match step {
            Step::Way(peer, _) | Step::PeerHealth(peer) | Step::PeerRoom(peer, _) => Some(peer),
            Step::Rewrite(peer) | Step::Declined(peer, _) => Some(peer),
            _ => None,
        };
        let open = path.open();
        let drained = |step| about(step).is_some_and(|peer| !open.contains(&peer));
        assert!(!path.asks(drained), "{path:?}");
        if let Decision::Spill { to, .. } = path.decision {
            assert!(open.contains(&to), "{path:?}");
        }
    }
}

#[test]
fn only_a_rule_that_says_so_rejects_and_only_what_home_is_not_to_get() {
    for path in paths()
        .iter()
        .filter(|path| path.decision == Decision::Reject)
    {
        assert!(
            path.rule.reject_when_full && path.origin == Origin::Own,
            "{path:?}"
        );
        let full = matches!(
            path.admission(),
            Some(Admission::Full | Admission::Contended)
        );
        let away = matches!(path.verdict(), Some(Away { .. } | Overdue));
        assert!(full || away || path.rule.evacuate, "{path:?}");
        assert_eq!(path.may_spill(), Some(true), "{path:?}");
        assert!(path.counted().is_empty(), "{path:?}");
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
