//! Two peers of one service that are ejected: VMs whose requests look for places and become probes there, while one of the VMs dies
//! before any of its hostcalls. Each request is a shipped [`Dispatch`], which asks for places with a shipped [`Admit`] and for the
//! health of a peer with a shipped [`Task`]. That the counts of a dead VM are repaired is the matter of [`super::counts`]; here it
//! is one step. What a VM does is in [`model`].

mod model;

use std::collections::VecDeque;

use model::{Op, Peers, Vm};

use super::explore;
use crate::ejection::{Ended, Phase, Record};
use crate::time::Instant;

/// Explores two VMs with these scripts, one of which dies.
#[track_caller]
fn check(scripts: [&[Op]; 2]) {
    for dies in [None, Some(0), Some(1)] {
        let vm = |script: &[Op]| Vm {
            script: script.iter().copied().collect(),
            streams: 0,
            begun: None,
            running: None,
            in_flight: VecDeque::new(),
            memories: Default::default(),
            alive: true,
        };
        let ejected = Record {
            phase: Phase::Ejected(Instant(10)),
            ejections: 1,
            ..Record::default()
        };
        let (states, ends) = explore(Peers {
            vms: scripts.map(vm).to_vec(),
            now: 0,
            records: [(1, ejected); 2],
            gauges: [1; 2],
            counts: [0; 3],
            dies,
            found: 0,
        });
        assert!(states > 50 && ends > 0, "{states} states, {ends} ends");
    }
}

use Op::*;

const BOTH: [bool; 2] = [true; 2];

#[test]
fn one_probe_at_a_time_at_each_of_two_peers_whichever_vm_dies() {
    for how in [Ended::Well, Ended::Failed, Ended::Nothing] {
        check([
            &[Request(30, BOTH), Answer(35, how)],
            &[Request(31, BOTH), Request(33, BOTH), Answer(36, how)],
        ]);
    }
}

/// Its claim, and its place, are given back before it is offered to the next.
#[test]
fn a_request_that_cannot_be_rewritten_for_one_peer_is_the_probe_of_the_other_alone() {
    for how in [Ended::Well, Ended::Failed] {
        check([
            &[Request(30, [false, true]), Answer(35, how)],
            &[Request(31, BOTH), Answer(34, how), Request(60, BOTH)],
        ]);
    }
    check([
        &[Request(30, [false; 2]), Request(32, [true, false])],
        &[Request(31, [false, true]), Request(33, BOTH)],
    ]);
}

/// Of the peers that take their load back, errors eject one anew, and its place is another's meanwhile.
#[test]
fn errors_of_a_ramp_eject_one_peer_while_the_other_is_probed() {
    check([
        &[
            Request(30, BOTH),
            Answer(32, Ended::Well),
            Request(50, BOTH),
            Answer(51, Ended::Failed),
        ],
        &[Request(31, BOTH), Answer(40, Ended::Well)],
    ]);
}
