use super::*;
use crate::response::BROKEN;

const PLAIN: Failure = Failure { gateway: false };

fn detection() -> Detection {
    Detection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        interval: Millis(10_000),
        base_ejection: Millis(30_000),
        max_percent: 100,
        overflow: false,
        codes: None,
        min_percent: None,
    }
}

/// `record` after errors, the successes given with each.
fn after(record: Record, detection: &Detection, errors: &[(Failure, u64)], now: u64) -> Record {
    errors.iter().fold(record, |record, (failure, successes)| {
        record
            .failed(*failure, detection, *successes, true, Instant(now))
            .unwrap_or(record)
    })
}

#[test]
fn errors_in_a_row_eject_and_not_one_fewer() {
    let d = detection();
    let two = after(Record::default(), &d, &[(PLAIN, 0); 2], 7);
    assert_eq!(two.phase, Phase::Available(Instant(0)));
    let three = after(two, &d, &[(PLAIN, 0)], 7);
    assert_eq!(three.phase, Phase::Ejected(Instant(30_007)));
    assert_eq!(three.lasts(Instant(7)), Millis(30_000));
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
    assert_eq!(record.phase, Phase::Available(Instant(0)));
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
    assert_eq!(record.phase, Phase::Available(Instant(0)));
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
    assert_eq!(ejected.failed(PLAIN, &d, 0, true, Instant(5)), None);
    let probing = ejected
        .probed_by(1, true, &d, Instant(30_000))
        .expect("it is time");
    assert_eq!(probing.failed(PLAIN, &d, 0, true, Instant(30_001)), None);
}

#[test]
fn one_probe_at_a_time_and_none_before_its_time() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    assert_eq!(
        ejected.course(&d, Instant(29_999), 0, true),
        Verdict::Away { ramp: false }
    );
    assert_eq!(ejected.probed_by(1, true, &d, Instant(29_999)), None);
    assert_eq!(ejected.course(&d, Instant(30_000), 0, true), Verdict::Probe);
    let probing = ejected
        .probed_by(1, true, &d, Instant(30_000))
        .expect("it is time");
    assert_eq!(
        probing.course(&d, Instant(59_999), u32::MAX, true),
        Verdict::Away { ramp: false }
    );
    assert_eq!(probing.probed_by(2, true, &d, Instant(90_000)), None);
    for ended in [Ended::Begun, Ended::Failed, Ended::Nothing] {
        let others = probing.probe_ended(2, ended, &d, Instant(31_000));
        assert_eq!(others, None, "not its owner: {ended:?}");
    }
}

#[test]
fn a_probe_that_fails_ejects_for_longer_up_to_five_minutes() {
    let d = detection();
    let mut record = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let (mut now, mut times) = (0, vec![]);
    for _ in 0..12 {
        times.push(record.lasts(Instant(now)).0 / 1000);
        now += record.lasts(Instant(now)).0;
        record = record
            .probed_by(1, true, &d, Instant(now))
            .expect("it is time");
        record = record
            .probe_ended(1, Ended::Failed, &d, Instant(now))
            .expect("its owner");
    }
    assert_eq!(
        times,
        [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    );
    let long = Detection {
        base_ejection: Millis(400_000),
        ..d
    };
    assert_eq!(
        after(Record::default(), &long, &[(PLAIN, 0); 3], 0).lasts(Instant(0)),
        Millis(400_000)
    );
}

#[test]
fn a_probe_that_is_not_answered_has_failed_in_the_end() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let probing = ejected
        .probed_by(1, true, &d, Instant(30_000))
        .expect("it is time");
    assert_eq!(probing.overdue(&d, Instant(59_999)), None);
    assert_eq!(
        probing.course(&d, Instant(60_000), 0, true),
        Verdict::Overdue
    );
    let again = probing.overdue(&d, Instant(60_000)).expect("it is overdue");
    assert_eq!(
        (again.lasts(Instant(60_000)), again.ejections),
        (Millis(60_000), 2)
    );
    assert_eq!(
        again.probe_ended(1, Ended::Well, &d, Instant(60_001)),
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
    let probing = ejected
        .probed_by(1, true, &d, Instant(30_000))
        .expect("it is time");
    assert_eq!(probing.probe_begun(2), None, "another's");
    let begun = probing.probe_begun(1).expect("its owner");
    assert_eq!(begun.probe_begun(1), None, "once");
    assert_eq!(begun.overdue(&d, Instant(59_999)), None);
    let failed = begun.probe_ended(1, Ended::Failed, &d, Instant(59_999));
    assert_eq!(failed.map(|record| record.ejections), Some(2));
    let over = begun.overdue(&d, Instant(60_000)).expect("it is overdue");
    assert_eq!(
        (over.phase, over.ejections),
        (Phase::Ramp(Instant(60_000)), 1)
    );
}

#[test]
fn a_probe_that_tells_nothing_makes_room_for_the_next() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let probing = ejected
        .probed_by(1, true, &d, Instant(30_000))
        .expect("it is time");
    let again = probing
        .probe_ended(1, Ended::Nothing, &d, Instant(31_000))
        .expect("its owner");
    assert_eq!(again.course(&d, Instant(31_000), 0, true), Verdict::Probe);
    assert_eq!(again.ejections, 1);
}

/// Such as one whose client sends its body slowly: home is not to be blamed for it, nor held back by it.
#[test]
fn a_probe_that_may_not_be_complete_is_let_go_ever_later_and_blames_nobody() {
    let d = detection();
    let mut record = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    let mut now = 30_000 + PATIENCE.0;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let probing = record
            .probed_by(1, false, &d, Instant(now))
            .expect("it is time");
        now += seconds * 1_000;
        assert_eq!(probing.overdue(&d, Instant(now - 1)), None);
        assert_eq!(probing.course(&d, Instant(now), 0, true), Verdict::Overdue);
        record = probing.overdue(&d, Instant(now)).expect("it is overdue");
        assert_eq!(
            (record.lasts(Instant(now)), record.ejections),
            (Millis(0), 1)
        );
        // Whoever is complete may try at once, the others a second later.
        assert_eq!(record.course(&d, Instant(now), 0, true), Verdict::Probe);
        assert_eq!(record.probed_by(2, false, &d, Instant(now)), None);
        now += PATIENCE.0;
    }
    let answered = record.probe_ended(1, Ended::Well, &d, Instant(now));
    let answered = answered.expect("what home answers one that was let go is heard");
    assert_eq!(
        (answered.phase, answered.runs),
        (Phase::Ramp(Instant(now)), [0; 2])
    );
}

#[test]
fn a_request_without_a_body_is_preferred_as_a_probe_for_a_second() {
    for (base, preferred) in [(30_000, PATIENCE.0), (10, 10)] {
        let d = Detection {
            base_ejection: Millis(base),
            ..detection()
        };
        let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
        assert!(ejected.probed_by(1, true, &d, Instant(base)).is_some());
        let away = Verdict::Away { ramp: false };
        let other = |now: u64| ejected.course(&d, Instant(now), 0, false);
        assert_eq!(other(base + preferred - 1), away);
        assert_eq!(other(base + preferred), Verdict::Probe);
        // After a probe that its client gave up anybody may try at once.
        let probing = ejected
            .probed_by(1, true, &d, Instant(base))
            .expect("it is time");
        let free = probing.probe_ended(1, Ended::Nothing, &d, Instant(base));
        assert!(
            free.and_then(|r| r.probed_by(2, false, &d, Instant(base)))
                .is_some()
        );
    }
}

/// A stream of gRPC that began long ago says nothing of home now.
#[test]
fn only_an_answer_of_now_ends_the_ejection_after_its_probe_was_let_go() {
    let d = detection();
    let ejected = after(Record::default(), &d, &[(PLAIN, 0); 3], 0);
    assert_eq!(
        ejected.probe_ended(1, Ended::Well, &d, Instant(29_999)),
        None
    );
    let late = |ended| ejected.probe_ended(1, ended, &d, Instant(30_000));
    assert!(late(Ended::Well).is_some());
    for ended in [Ended::Begun, Ended::Failed, Ended::Nothing] {
        assert_eq!(late(ended), None, "{ended:?}");
    }
    assert_eq!(
        Record::default().probe_ended(1, Ended::Well, &d, Instant(30_000)),
        None
    );
}

#[test]
fn too_small_a_part_of_errors_ejects_nobody_and_they_are_counted_all_the_same() {
    let d = detection();
    let failed = |record: Record, enough: bool| {
        let failed = record.failed(PLAIN, &d, 0, enough, Instant(7));
        failed.expect("it is counted")
    };
    let many = (0..20).fold(Record::default(), |record, _| failed(record, false));
    assert_eq!(
        (many.phase, many.runs),
        (Phase::Available(Instant(0)), [20, 0])
    );
    assert_eq!(failed(many, true).phase, Phase::Ejected(Instant(30_007)));
}

#[test]
fn home_takes_its_load_back_in_a_ramp() {
    let d = detection();
    let ramp = Record {
        phase: Phase::Ramp(Instant(1000)),
        ..Record::default()
    };
    let home = |now: u64| {
        let draws = (0..1000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
        draws
            .filter(|draw| ramp.course(&d, Instant(now), *draw, true) == Verdict::Home)
            .count()
    };
    assert_eq!(home(1000), 0);
    for (now, share) in [(3500, 250), (6000, 500), (8500, 750)] {
        assert!(home(now).abs_diff(share) <= 3, "{now}: {}", home(now));
    }
    assert_eq!(ramp.course(&d, Instant(11_000), 0, true), Verdict::Back);
    assert_eq!(ramp.back(&d, Instant(10_999)), None);
    assert_eq!(
        ramp.back(&d, Instant(11_000)).expect("over").phase,
        Phase::Available(Instant(11_000))
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
            Phase::Ejected(Instant(1)),
            Phase::Probing {
                owner: 1,
                since: Instant(0),
                begun: false,
                whole: true,
            },
            Phase::Ramp(Instant(0)),
        ] {
            let record = Record {
                phase,
                ..Record::default()
            };
            let draws = (0..1000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
            let away = draws
                .filter(|draw| record.course(&d, Instant(0), *draw, true) != Verdict::Home)
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
        phase: Phase::Available(Instant(0)),
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
            after(record, &d, &[(PLAIN, 0); 3], now).lasts(Instant(now)),
            Millis(lasts),
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
#[path = "ejection/properties.rs"]
mod properties;
