//! The steps of some requests, from the first one to the decision.

use super::super::*;
use super::{PEER, home, spill};
use crate::ejection::Verdict::Home;

/// The steps of one request after another, with what comes of them, as `(step, fact)`.
#[track_caller]
fn goes(peers: &[Candidate], overflow: Option<bool>, steps: &[(Step, Fact)], decision: Decision) {
    let rule = LIMITED;
    let detection = overflow.map(|overflow| Detection {
        overflow,
        ..Detection::default()
    });
    let mut dispatch = Dispatch::new(rule, peers, detection.as_ref(), Origin::Own, true);
    let mut fact = Fact::Yes;
    for (step, came_of_it) in steps {
        assert_eq!(dispatch.next(fact), *step);
        fact = *came_of_it;
    }
    assert_eq!(dispatch.next(fact), Step::Done(decision));
}

const PLAIN: Candidate = Candidate {
    priority: 0,
    weight: 1,
    hash: 0,
    open: true,
    limit: None,
    detects: false,
};

const LIMITED: Rule = Rule {
    limit: Some(3),
    evacuate: false,
    peer_open: true,
    reject_when_full: false,
};

#[test]
fn a_request_within_the_limit_takes_these_steps() {
    goes(
        &[PLAIN],
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
        &[PLAIN],
        Some(true),
        &[
            (Step::Health, Fact::Verdict(Home)),
            (Step::Room(3), Fact::Admission(Admission::Full)),
            (Step::Overflowed, Fact::Yes),
            (Step::MaySpill, Fact::Yes),
            (Step::Way(PEER, SpillReason::Limit), Fact::Yes),
            (Step::Rewrite(PEER), Fact::Yes),
            (Step::Count(PEER.into()), Fact::Yes),
            (Step::Hold(PEER.into()), Fact::Yes),
        ],
        spill(SpillReason::Limit),
    );
}

#[test]
fn the_surplus_of_a_full_peer_takes_these_steps() {
    let limited = Candidate {
        limit: Some(2),
        detects: true,
        ..PLAIN
    };
    let last = Candidate {
        priority: 1,
        ..PLAIN
    };
    let second = PeerId::new(1);
    goes(
        &[limited, last],
        None,
        &[
            (Step::Room(3), Fact::Admission(Admission::Full)),
            (Step::MaySpill, Fact::Yes),
            (Step::Way(PEER, SpillReason::Limit), Fact::Yes),
            (Step::PeerHealth(PEER), Fact::Verdict(Home)),
            (Step::PeerRoom(PEER, 2), Fact::Admission(Admission::Full)),
            (Step::Declined(PEER, Declined::Full), Fact::Yes),
            (Step::Way(second, SpillReason::Limit), Fact::Yes),
            (Step::Rewrite(second), Fact::Yes),
            (Step::Count(second.into()), Fact::Yes),
            (Step::Hold(second.into()), Fact::Yes),
        ],
        Decision::Spill {
            to: second,
            why: SpillReason::Limit,
        },
    );
}

#[test]
fn the_surplus_that_may_not_be_spilled_takes_these_steps() {
    goes(
        &[PLAIN],
        Some(true),
        &[
            (Step::Health, Fact::Verdict(Home)),
            (Step::Room(3), Fact::Admission(Admission::Full)),
            (Step::Overflowed, Fact::Yes),
            (Step::MaySpill, Fact::No),
            (Step::Count(DestinationId::HOME), Fact::Yes),
            (Step::Hold(DestinationId::HOME), Fact::Yes),
        ],
        home(HomeReason::Unmatched),
    );
}

/// The peer of the session, and if it is full the next one in the order of the session.
#[test]
fn the_surplus_of_a_session_takes_these_steps() {
    let peers = [1, 2, 3].map(|name| Candidate {
        hash: crate::draw::mix(name),
        limit: Some(2),
        ..PLAIN
    });
    let mut firsts = Vec::new();
    for session in 0..20 {
        let mut select = Select::default();
        let order = [(); 2].map(|()| select.next(&peers, By::Session(session)));
        let [first, second] = order.map(|peer| peer.expect("there are three"));
        goes(
            &peers,
            None,
            &[
                (Step::Room(3), Fact::Admission(Admission::Full)),
                (Step::MaySpill, Fact::Yes),
                (Step::Draw, Fact::Session(session)),
                (Step::Way(first, SpillReason::Limit), Fact::Yes),
                (Step::PeerRoom(first, 2), Fact::Admission(Admission::Full)),
                (Step::Declined(first, Declined::Full), Fact::Yes),
                (Step::Way(second, SpillReason::Limit), Fact::Yes),
                (
                    Step::PeerRoom(second, 2),
                    Fact::Admission(Admission::Admitted),
                ),
                (Step::Rewrite(second), Fact::Yes),
                (Step::Hold(second.into()), Fact::Yes),
            ],
            Decision::Spill {
                to: second,
                why: SpillReason::Limit,
            },
        );
        firsts.push(first);
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(
        firsts.len(),
        3,
        "each of them is the first of some sessions"
    );
}
