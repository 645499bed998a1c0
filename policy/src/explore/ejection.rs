//! The record of errors and the gauge that shows it: VMs that drive [`Task`]s, each with its own memory of the last record. What a
//! VM does is in [`model`].

mod model;

use model::{Errors, Op, world};

use super::{World, explore};
use crate::ejection::{Ended, Phase, Record};
use crate::time::Instant;

use Op::*;

#[test]
fn three_workers_errors_eject_once() {
    for (consecutive, errors) in [(1, 1), (3, 1), (2, 2), (3, 2)] {
        let script = vec![Error; errors];
        let world = world(consecutive, Record::default(), &[&script, &script, &script]);
        let mut ejected = world.clone();
        for vm in 0..3 {
            while ejected.step(vm) {}
        }
        assert_eq!(ejected.ejections, 1, "one after the other");
        let (states, ends) = explore(Once(world));
        assert!(states > 50 && ends > 0);
    }
}

/// What makes the first write one that sees any other: without it an order is found in which an error is lost.
#[test]
#[should_panic(expected = "ejections: 0")]
fn a_first_write_that_is_blind_loses_an_error() {
    let mut world = world(2, Record::default(), &[&[Error], &[Error]]);
    world.blind = true;
    explore(Once(world));
}

/// As [`Errors`], in which home is ejected exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Once(Errors);

impl World for Once {
    fn vms(&self) -> usize {
        self.0.vms()
    }

    fn step(&mut self, vm: usize) -> bool {
        self.0.step(vm)
    }

    fn always(&self) {
        self.0.always();
        assert!(self.0.ejections <= 1, "{self:?}");
    }

    fn finally(&self) {
        self.0.finally();
        assert_eq!(self.0.ejections, 1, "{self:?}");
    }
}

#[test]
fn one_probe_at_a_time_and_the_gauge_shows_the_record_in_the_end() {
    let ejected = Record {
        phase: Phase::Ejected(Instant(10)),
        ejections: 1,
        ..Record::default()
    };
    for end in ENDS {
        let script = [Request(15, true, end), Request(40_000, true, end)];
        explore(world(
            1,
            ejected,
            &[&script, &script, &[Error, Request(90_000, true, end), Well]],
        ));
    }
}

const ENDS: [Ended; 4] = [Ended::Well, Ended::Begun, Ended::Failed, Ended::Nothing];

/// Probes whose requests may not be complete, which time lets go, and what they tell when another is on its way.
#[test]
fn one_probe_at_a_time_where_those_that_may_not_be_complete_are_let_go() {
    let ejected = Record {
        phase: Phase::Ejected(Instant(10)),
        ejections: 1,
        ..Record::default()
    };
    for end in ENDS {
        for other in ENDS {
            let (states, _) = explore(world(
                1,
                ejected,
                &[
                    &[Request(30, false, end), Request(1_100, true, other)],
                    &[Request(2_200, false, other), Request(5_000, false, end)],
                    &[Request(9_000, true, end)],
                ],
            ));
            assert!(states > 50, "{end:?} {other:?}: {states}");
        }
    }
}

#[test]
fn a_probe_of_a_dead_vm_is_let_go() {
    let ejected = Record {
        phase: Phase::Ejected(Instant(10)),
        ejections: 1,
        ..Record::default()
    };
    for whole in [true, false] {
        explore(world(
            1,
            ejected,
            &[
                &[
                    Request(35, whole, Ended::Well),
                    Request(36, whole, Ended::Well),
                ],
                &[DeclareDead(1), Tick(40), Request(45, whole, Ended::Well)],
                &[Request(50, whole, Ended::Nothing)],
            ],
        ));
    }
}

/// A VM that asked before remembers the record of then: home was ejected anew meanwhile, or a probe is on its way.
#[test]
fn one_probe_at_a_time_where_a_vm_remembers_an_older_record() {
    let ejected = Record {
        phase: Phase::Ejected(Instant(10)),
        ejections: 1,
        ..Record::default()
    };
    for end in ENDS {
        let (states, _) = explore(world(
            1,
            ejected,
            &[
                &[Request(9, true, end), Request(15, true, end)],
                &[Request(8, true, end), Request(40, true, end), Tick(90_000)],
                &[Request(16, true, end)],
            ],
        ));
        assert!(states > 50, "{end:?}: {states}");
    }
}

/// Whichever VM sees it first, and though one may wait between its two hostcalls for as long as it likes.
#[test]
fn a_gauge_that_another_module_set_is_driven_back_in_the_end() {
    for (gauge, record) in [
        (0, Phase::Ejected(Instant(10_000))),
        (2, Phase::Ejected(Instant(10_000))),
        (7, Phase::Available(Instant(0))),
        (-1, Phase::Ramp(Instant(5))),
    ] {
        let record = Record {
            phase: record,
            ..Record::default()
        };
        // Every fifth is a look, and four or five in a row must see it.
        let ticks = vec![Tick(6); 26];
        let mut world = world(1, record, &[&ticks, &ticks]);
        world.gauge = gauge;
        world.meddled = true;
        let (states, ends) = explore(world);
        assert!(states > 50 && ends > 0, "{states}");
    }
}

/// Two looks of one VM between another's changes of record and gauge are too few to take that for a fault.
#[test]
fn a_change_that_is_under_way_is_not_mended() {
    let ticks = vec![Tick(6); 14];
    let (states, _) = explore(world(
        1,
        Record::default(),
        // The VM of the third number is the first to mend.
        &[&[Error], &[Error, Error], &ticks],
    ));
    assert!(states > 50, "{states}");
}

/// There is no record before the first error, and one of home available says as much.
#[test]
fn a_gauge_that_another_module_set_is_cleared_where_errors_eject_nobody() {
    let eject = [Error, Forget];
    let turns = [Forget; 3];
    for gauge in [1, 2, 7, -1] {
        let scripts: [&[Op]; 2] = [&[Meddle(gauge), Forget], &turns];
        let before: [&[Op]; 3] = [&eject, &[Meddle(gauge), Forget], &turns[..2]];
        for scripts in [&scripts[..], &before] {
            let mut world = world(1, Record::default(), scripts);
            world.forgets = true;
            for world in [world.clone(), world.without_record()] {
                let (states, ends) = explore(world);
                assert!(states > 20 && ends > 0, "{states}");
            }
        }
    }
}

/// The VMs come to a configuration that looks at no errors one by one, and what is on its way in one of them may still eject.
#[test]
fn home_is_available_where_errors_eject_nobody_any_more() {
    for record in [
        Phase::Available(Instant(0)),
        Phase::Ejected(Instant(10)),
        Phase::Ramp(Instant(5)),
    ] {
        let record = Record {
            phase: record,
            ..Record::default()
        };
        let mut world = world(
            1,
            record,
            &[
                &[Request(15, true, Ended::Failed), Forget],
                &[Error, Forget, Forget],
                &[Forget, Forget],
            ],
        );
        world.forgets = true;
        let (states, ends) = explore(world);
        assert!(states > 50 && ends > 0, "{states}");
    }
}

/// As often as a module writes it, by whichever VMs that is seen.
#[test]
fn a_gauge_that_another_module_sets_at_any_time_is_driven_back() {
    let ticks = [Tick(6); 12];
    for gauge in [0, 2, -1] {
        let (states, ends) = explore(world(
            1,
            Record::default(),
            &[
                &[Error, Meddle(gauge), Request(15, true, Ended::Well)],
                &ticks,
                &[Error, Tick(7), Meddle(1)],
            ],
        ));
        assert!(states > 50 && ends > 0, "{states}");
    }
}
