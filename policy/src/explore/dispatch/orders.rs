//! What holds in every order.

use super::Op::{End, Request as Ask};
use super::*;

#[track_caller]
fn check(of: (Rule, &'static [Candidate]), scripts: &[&[Op]]) {
    let (states, ends) = explore(Service::of(of, scripts));
    assert!(states > 50 && ends > 0, "{states} states, {ends} ends");
}

const LIMITED: Rule = Rule {
    limit: Some(1),
    evacuate: false,
    peer_open: true,
    reject_when_full: false,
};

const PEER: Candidate = Candidate {
    priority: 0,
    weight: 1,
    hash: 0,
    open: true,
    limit: None,
    detects: false,
};
const ONE: &[Candidate] = &[PEER];
/// The first has one place, and errors eject it. The second is asked after it.
const TWO: &[Candidate] = &[
    Candidate {
        limit: Some(1),
        detects: true,
        ..PEER
    },
    Candidate {
        priority: 1,
        limit: Some(1),
        ..PEER
    },
];

#[test]
fn the_limits_of_peers_hold_and_their_counts_come_back_to_0() {
    for request in [
        OWN,
        Request {
            rewrite: false,
            ..OWN
        },
        Request {
            peer: Verdict::Probe,
            ..OWN
        },
    ] {
        for reject_when_full in [false, true] {
            let rule = Rule {
                evacuate: true,
                reject_when_full,
                ..LIMITED
            };
            let scripts: [&[Op]; 2] = [&[Ask(request), End, Ask(OWN)], &[Ask(OWN), Ask(request)]];
            check((rule, TWO), &scripts);
        }
    }
}

#[test]
fn no_more_are_admitted_than_the_limit_and_the_counts_come_back_to_0() {
    for limit in [1, 2] {
        for (peer_open, reject_when_full) in [(true, false), (false, true), (false, false)] {
            let rule = Rule {
                limit: Some(limit),
                peer_open,
                reject_when_full,
                ..LIMITED
            };
            check(
                (rule, ONE),
                &[&[Ask(OWN), End, Ask(OWN)], &[Ask(OWN), Ask(OWN)]],
            );
        }
    }
}

#[test]
fn guests_and_probes_are_counted_beyond_the_limit_and_take_no_place_twice() {
    let guest = Request {
        origin: Origin::Guest,
        ..OWN
    };
    for verdict in [
        Verdict::Probe,
        Verdict::Away { ramp: true },
        Verdict::Away { ramp: false },
    ] {
        let other = Request { verdict, ..OWN };
        check(
            (LIMITED, ONE),
            &[&[Ask(other), Ask(OWN)], &[Ask(OWN)], &[Ask(guest)]],
        );
    }
}

#[test]
fn a_request_that_finds_no_way_comes_home_and_is_counted() {
    let stays = Request { way: false, ..OWN };
    check(
        (LIMITED, ONE),
        &[&[Ask(stays), End, Ask(stays)], &[Ask(OWN)]],
    );
}

#[test]
fn a_request_that_may_not_be_spilled_is_counted_at_home_beyond_the_limit() {
    let stays = Request {
        may_spill: false,
        ..OWN
    };
    let ejected = Request {
        verdict: Verdict::Away { ramp: false },
        ..stays
    };
    for (evacuate, reject_when_full) in [(false, true), (true, false), (true, true)] {
        let rule = Rule {
            evacuate,
            reject_when_full,
            ..LIMITED
        };
        check(
            (rule, TWO),
            &[&[Ask(stays), End, Ask(OWN)], &[Ask(OWN), Ask(stays)]],
        );
        check(
            (rule, ONE),
            &[
                &[Ask(stays), Ask(ejected), End],
                &[Ask(OWN), End, Ask(stays)],
            ],
        );
    }
}

/// Whichever operation it is.
#[test]
fn an_operation_that_envoy_refuses_leaves_no_count_behind() {
    for refused in 0..6 {
        for way in [true, false] {
            let request = Request {
                way,
                refused: Some(refused),
                ..OWN
            };
            check((LIMITED, ONE), &[&[Ask(request), Ask(OWN)], &[Ask(OWN)]]);
        }
    }
}
