use super::*;
use crate::policy::answer::BROKEN;

const PLAIN: Failure = Failure { gateway: false };

fn detection() -> Detection {
    Detection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        interval: 10_000,
        base_ejection: 30_000,
        max_percent: 100,
        overflow: false,
    }
}

/// `record` after errors, the witness given with each.
fn after(record: Record, detection: &Detection, errors: &[(Failure, u64)], now: u64) -> Record {
    errors.iter().fold(record, |record, (failure, witness)| {
        record
            .failed(*failure, detection, *witness, now)
            .unwrap_or(record)
    })
}

#[test]
fn errors_in_a_row_eject_and_not_one_fewer() {
    let d = detection();
    let two = after(Record::default(), &d, &[(PLAIN, 0); 2], 7);
    assert_eq!(two.phase, Phase::Available(0));
    let three = after(two, &d, &[(PLAIN, 0)], 7);
    assert_eq!(three.phase, Phase::Ejected(30_007));
    assert_eq!(three.lasts(7), 30_000);
}

#[test]
fn a_good_answer_begins_the_run_anew() {
    let d = detection();
    let record = after(
        Record::default(),
        &d,
        &[(PLAIN, 0), (PLAIN, 0), (PLAIN, 1), (PLAIN, 1)],
        0,
    );
    assert_eq!(record.phase, Phase::Available(0));
    assert!(matches!(
        after(record, &d, &[(PLAIN, 1)], 0).phase,
        Phase::Ejected(_)
    ));
}

#[test]
fn gateway_errors_have_a_run_of_their_own_that_other_errors_end() {
    let d = Detection {
        consecutive_5xx: 0,
        consecutive_gateway: 2,
        ..detection()
    };
    let record = after(
        Record::default(),
        &d,
        &[(BROKEN, 0), (PLAIN, 0), (BROKEN, 0)],
        0,
    );
    assert_eq!(record.phase, Phase::Available(0));
    assert!(matches!(
        after(record, &d, &[(BROKEN, 0)], 0).phase,
        Phase::Ejected(_)
    ));
    let both = Detection {
        consecutive_5xx: 5,
        ..d
    };
    assert!(matches!(
        after(Record::default(), &both, &[(BROKEN, 0); 2], 0).phase,
        Phase::Ejected(_)
    ));
}

#[test]
fn two_workers_do_not_eject_twice() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    assert_eq!(ejected.failed(PLAIN, &d, 0, 5), None);
    let probing = ejected.probed_by(1, 30_000).expect("it is time");
    assert_eq!(probing.failed(PLAIN, &d, 0, 30_001), None);
}

#[test]
fn one_probe_at_a_time_and_none_before_its_time() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    assert_eq!(ejected.course(&d, 29_999, 0), Course::Away { ramp: false });
    assert_eq!(ejected.probed_by(1, 29_999), None);
    assert_eq!(ejected.course(&d, 30_000, 0), Course::Probe);
    let probing = ejected.probed_by(1, 30_000).expect("it is time");
    assert_eq!(
        probing.course(&d, 59_999, u32::MAX),
        Course::Away { ramp: false }
    );
    assert_eq!(probing.probed_by(2, 90_000), None);
    assert_eq!(
        probing.probe_ended(2, Some(true), &d, 90_000),
        None,
        "not its owner"
    );
}

#[test]
fn a_probe_that_fails_ejects_for_longer_up_to_five_minutes() {
    let d = detection();
    let mut record = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let (mut now, mut times) = (0, vec![]);
    for _ in 0..12 {
        times.push(record.lasts(now) / 1000);
        now += record.lasts(now);
        record = record.probed_by(1, now).expect("it is time");
        record = record
            .probe_ended(1, Some(false), &d, now)
            .expect("its owner");
    }
    assert_eq!(
        times,
        [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    );
    let long = Detection {
        base_ejection: 400_000,
        ..d
    };
    assert_eq!(
        after(Record::default(), &long, &[(PLAIN, 0); 3], 0).lasts(0),
        400_000
    );
}

#[test]
fn a_probe_that_is_not_answered_has_failed_in_the_end() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let probing = ejected.probed_by(1, 30_000).expect("it is time");
    assert_eq!(probing.overdue(&d, 59_999), None);
    assert_eq!(probing.course(&d, 60_000, 0), Course::Overdue);
    let again = probing.overdue(&d, 60_000).expect("it is overdue");
    assert_eq!((again.lasts(60_000), again.ejections), (60_000, 2));
    assert_eq!(
        again.probe_ended(1, Some(true), &d, 60_001),
        None,
        "too late"
    );
}

/// A watch or a subscription of gRPC may last for hours.
#[test]
fn a_probe_whose_answer_has_begun_is_well_in_the_end() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    assert_eq!(ejected.probe_begun(1), None);
    let probing = ejected.probed_by(1, 30_000).expect("it is time");
    assert_eq!(probing.probe_begun(2), None, "another's");
    let begun = probing.probe_begun(1).expect("its owner");
    assert_eq!(begun.probe_begun(1), None, "once");
    assert_eq!(begun.overdue(&d, 59_999), None);
    let failed = begun.probe_ended(1, Some(false), &d, 59_999);
    assert_eq!(failed.map(|record| record.ejections), Some(2));
    let over = begun.overdue(&d, 60_000).expect("it is overdue");
    assert_eq!((over.phase, over.ejections), (Phase::Ramp(60_000), 1));
}

#[test]
fn a_probe_that_tells_nothing_makes_room_for_the_next() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let probing = ejected.probed_by(1, 30_000).expect("it is time");
    let again = probing.probe_ended(1, None, &d, 31_000).expect("its owner");
    assert_eq!(again.course(&d, 31_000, 0), Course::Probe);
    assert_eq!(again.ejections, 1);
}

#[test]
fn home_takes_its_load_back_in_a_ramp() {
    let d = detection();
    let ramp = Record {
        phase: Phase::Ramp(1000),
        ..Record::default()
    };
    let home = |now: u64| {
        let draws = (0..1000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
        draws
            .filter(|draw| ramp.course(&d, now, *draw) == Course::Home)
            .count()
    };
    assert_eq!(home(1000), 0);
    for (now, share) in [(3500, 250), (6000, 500), (8500, 750)] {
        assert!(home(now).abs_diff(share) <= 3, "{now}: {}", home(now));
    }
    assert_eq!(ramp.course(&d, 11_000, 0), Course::Back);
    assert_eq!(ramp.back(&d, 10_999), None);
    assert_eq!(
        ramp.back(&d, 11_000).expect("over").phase,
        Phase::Available(11_000)
    );
}

#[test]
fn max_ejection_percent_bounds_what_is_diverted() {
    for percent in [0, 10, 50, 100] {
        let d = Detection {
            max_percent: percent,
            ..detection()
        };
        for phase in [
            Phase::Ejected(1),
            Phase::Probing {
                owner: 1,
                since: 0,
                begun: false,
            },
            Phase::Ramp(0),
        ] {
            let record = Record {
                phase,
                ..Record::default()
            };
            let draws = (0..1000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
            let away = draws
                .filter(|draw| record.course(&d, 0, *draw) != Course::Home)
                .count();
            assert!(
                away.abs_diff(percent as usize * 10) <= 3,
                "{percent} %: {away}"
            );
        }
    }
}

#[test]
fn an_interval_without_ejection_makes_one_be_forgotten() {
    let d = detection();
    let record = Record {
        phase: Phase::Available(0),
        ejections: 4,
        ..Record::default()
    };
    for (now, lasts) in [
        (9_999, 150_000),
        (10_000, 120_000),
        (30_000, 60_000),
        (1_000_000, 30_000),
    ] {
        assert_eq!(
            after(record, &d, &[(PLAIN, 0); 3], now).lasts(now),
            lasts,
            "{now}"
        );
    }
}

#[test]
fn bytes_that_are_no_record_say_nothing_of_home() {
    for bytes in [&b""[..], b"0", &[9; 40], &[0; 31]] {
        assert_eq!(Record::from_bytes(bytes), Record::default());
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    fn phase() -> impl Strategy<Value = Phase> {
        prop_oneof![
            any::<u64>().prop_map(Phase::Available),
            any::<u64>().prop_map(Phase::Ejected),
            any::<(u64, u64, bool)>().prop_map(|(owner, since, begun)| Phase::Probing {
                owner,
                since,
                begun
            }),
            any::<u64>().prop_map(Phase::Ramp),
        ]
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(phase in phase(), runs in any::<[u32; 2]>(), witness: u64, ejections: u32) {
            let record = Record { phase, runs, witness, ejections };
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), record);
        }

        /// Against Envoy's detector, a counter that a good answer resets: the same error ejects.
        #[test]
        fn a_sequence_ejects_where_envoys_counter_would(answers in prop::collection::vec(0u8..3, 0..60), limit in 1u32..6) {
            let d = Detection { consecutive_5xx: limit, consecutive_gateway: 0, ..detection() };
            let (mut record, mut witness, mut counter) = (Record::default(), 0, 0);
            for answer in answers {
                if answer == 0 {
                    witness += 1;
                    counter = 0;
                } else {
                    counter += 1;
                    record = record.failed(PLAIN, &d, witness, 0).expect("available");
                }
                let ejected = matches!(record.phase, Phase::Ejected(_));
                prop_assert_eq!(ejected, counter >= limit);
                if ejected {
                    break;
                }
            }
        }
    }
}
