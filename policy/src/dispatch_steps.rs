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
