use super::*;

fn detection() -> Detection {
    Detection {
        consecutive_5xx: 1,
        interval: Millis(10),
        base_ejection: Millis(1_000),
        max_percent: 100,
        ..Detection::default()
    }
}

/// The hostcalls of a request at this time, which finds this gauge and this record; and what is to be done with it.
fn request(memory: &mut Memory, gauge: u64, record: &Record, now: u64) -> (Vec<Step>, Verdict) {
    let Some(mut task) = Task::check(gauge, 1, true) else {
        return (vec![], Verdict::Home);
    };
    let (mut steps, mut seen) = (vec![], 0);
    loop {
        let step = task.next(memory, &detection(), seen);
        steps.push(step);
        seen = match step {
            Step::Clock => now,
            Step::Read => {
                task.read(&record.to_bytes());
                0
            }
            Step::Write => 1,
            Step::Done(verdict) => return (steps, verdict),
            _ => 0,
        };
    }
}

const AWAY: Verdict = Verdict::Away { ramp: false };
const EJECTED: Record = Record {
    phase: Phase::Ejected(Instant(1_000)),
    runs: [0; 2],
    successes: 0,
    ejections: 1,
};

#[test]
fn a_record_is_remembered_for_as_long_as_the_gauge_is_what_it_was() {
    let mut memory = Memory::default();
    let done = Step::Done(AWAY);
    let first = request(&mut memory, 1, &EJECTED, 5);
    assert_eq!(first.0, [Step::Clock, Step::Read, done]);
    let second = request(&mut memory, 1, &EJECTED, 6);
    assert_eq!(second.0, [Step::Clock, done], "without a look");
    let ramp = Record {
        phase: Phase::Ramp(Instant(3)),
        ..EJECTED
    };
    let (steps, verdict) = request(&mut memory, 2, &ramp, 13);
    assert_eq!(steps[..2], [Step::Clock, Step::Read], "the gauge moved");
    assert_eq!(verdict, Verdict::Home, "the ramp is over");
}

/// In the meantime the destination was ejected again, and its ramp has begun again.
#[test]
fn a_ramp_is_not_over_because_of_a_remembered_record() {
    let ramp = |since| Record {
        phase: Phase::Ramp(Instant(since)),
        ..EJECTED
    };
    let mut memory = Memory::default();
    request(&mut memory, 2, &ramp(10), 11);
    for _ in 0..20 {
        let verdict = request(&mut memory, 2, &ramp(2_000), 2_000).1;
        assert_eq!(verdict, Verdict::Away { ramp: true });
    }
}

/// Another VM may have claimed the probe since the record was read.
#[test]
fn a_request_becomes_the_probe_only_after_it_has_read_the_record() {
    let mut memory = Memory::default();
    request(&mut memory, 1, &EJECTED, 5);
    let probed = Record {
        phase: Phase::Probing {
            owner: 7,
            since: Instant(1_000),
            begun: false,
            whole: true,
        },
        ..EJECTED
    };
    let (steps, verdict) = request(&mut memory, 1, &probed, 1_001);
    assert_eq!(steps, [Step::Clock, Step::Read, Step::Done(AWAY)]);
    assert_eq!(verdict, AWAY);
    let (steps, verdict) = request(&mut Memory::default(), 1, &EJECTED, 1_001);
    assert!(steps.contains(&Step::Write));
    assert_eq!(verdict, Verdict::Probe);
}

#[test]
fn a_request_costs_nothing_more_where_the_gauge_says_that_all_is_well() {
    assert_eq!(
        request(&mut Memory::default(), 0, &EJECTED, 5),
        (vec![], Verdict::Home)
    );
}

#[test]
fn a_change_is_given_up_where_others_are_always_faster() {
    let change = Change::Failed {
        failure: crate::response::BROKEN,
        successes: 0,
        enough: true,
    };
    let mut task = Task::change(change, Instant(5));
    let mut writes = 0;
    loop {
        match task.next(&mut Memory::default(), &detection(), 0) {
            Step::Read => task.read(&[]),
            Step::Write => writes += 1,
            Step::Done(_) => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(writes, TRIES);
    assert_eq!(task.line(), None, "nobody was ejected");
}
