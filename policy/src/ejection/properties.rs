//! What holds for any record and any sequence of answers.

use super::*;
use proptest::prelude::*;

fn moment() -> impl Strategy<Value = Instant> {
    any::<u64>().prop_map(Instant)
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        moment().prop_map(Phase::Available),
        moment().prop_map(Phase::Ejected),
        (any::<u64>(), moment(), any::<[bool; 2]>()).prop_map(|(owner, since, [begun, whole])| {
            let owner = owner >> 1;
            Phase::Probing {
                owner,
                since,
                begun,
                whole,
            }
        }),
        moment().prop_map(Phase::Ramp),
    ]
}

proptest! {
    #[test]
    fn a_record_survives_its_bytes(phase in phase(), runs in any::<[u32; 2]>(), successes: u64, ejections: u32) {
        let record = Record { phase, runs, successes, ejections };
        prop_assert_eq!(Record::from_bytes(&record.to_bytes()), record);
    }

    /// Whatever others have written: where home answers well, requests go there again in bounded time, and where it then
    /// fails it is ejected.
    #[test]
    fn any_bytes_heal(
        bytes in prop::collection::vec(any::<u8>(), 0..48),
        kind in 0u8..6,
        whole: bool,
        start in 0u64..1 << 50,
    ) {
        let d = detection();
        let mut bytes = bytes;
        if let Some(first) = bytes.get_mut(..4) {
            first.copy_from_slice(&[kind, 0, 0, 0]);
        }
        let mut record = Record::from_bytes(&bytes);
        let mut now = start;
        let longest = [UNANSWERED, PATIENCE, d.interval].into_iter().fold(LONGEST, |a, b| Millis(a.0 + b.0));
        while !matches!(record.phase, Phase::Available(_)) {
            prop_assert!(now - start <= longest.0 + 4_000, "{record:?}");
            let next = match record.course(&d, Instant(now), 0, whole) {
                Verdict::Probe => record.probed_by(1, whole, &d, Instant(now)),
                Verdict::Overdue => record.overdue(&d, Instant(now)),
                Verdict::Back => record.back(&d, Instant(now)),
                Verdict::Home | Verdict::Away { .. } => None,
            };
            record = next.unwrap_or(record);
            if matches!(record.phase, Phase::Probing { owner: 1, since, .. } if since.0 == now) {
                record = record.probe_ended(1, Ended::Well, &d, Instant(now)).expect("its owner");
            }
            now += 1_000;
        }
        for _ in 0..3 {
            record = record.failed(PLAIN, &d, 7, true, Instant(now)).unwrap_or(record);
        }
        prop_assert!(matches!(record.phase, Phase::Ejected(_)));
        prop_assert!(record.lasts(Instant(now)) <= LONGEST);
        // A home that is well for long has its past forgotten.
        let back = Record { phase: Phase::Available(Instant(now)), ..record };
        now += d.interval.times(12).0;
        let again = after(back, &d, &[(PLAIN, 7); 3], now);
        prop_assert_eq!(again.lasts(Instant(now)), d.base_ejection);
    }

    /// Against Envoy's detector, a counter that a good answer resets: the same error ejects.
    #[test]
    fn a_sequence_ejects_where_envoys_counter_would(answers in prop::collection::vec(0u8..3, 0..60), limit in 1u32..6) {
        let d = Detection { consecutive_5xx: limit, consecutive_gateway: 0, ..detection() };
        let (mut record, mut successes, mut counter) = (Record::default(), 0, 0);
        for answer in answers {
            if answer == 0 {
                successes += 1;
                counter = 0;
            } else {
                counter += 1;
                record = record.failed(PLAIN, &d, successes, true, Instant(0)).expect("available");
            }
            let ejected = matches!(record.phase, Phase::Ejected(_));
            prop_assert_eq!(ejected, counter >= limit);
            if ejected {
                break;
            }
        }
    }
}
