//! Streams of gRPC, headers wherever they stand, and answers of any kind: what is said of one.

use proptest::prelude::*;

use super::super::super::In;
use super::*;

#[test]
fn a_stream_of_grpc_that_begins_well_says_so_and_its_end_says_the_rest() {
    for (flags, expected) in [
        (
            1 << 9,
            vec![Step::Succeeded, Step::ProbeEnded(Ended::Begun)],
        ),
        (RESET, vec![GATEWAY, Step::ProbeEnded(Ended::Failed)]),
    ] {
        let host = Host { flags, ..GRPC };
        let mut assess = sent(true, true, &host);
        assert_eq!(begins(&mut assess, &host, false), [Step::ProbeBegun]);
        assert_eq!(ends(&mut assess, &host), expected);
    }
}

#[test]
fn every_header_is_looked_for_where_it_stands() {
    assert_eq!(Header::Timeout.place().0, In::Request);
    assert_eq!(Header::Status.place(), (In::Answer, ":status"));
    let (status, trailer) = (Header::GrpcStatus.place(), Header::TrailerStatus.place());
    assert_eq!(status.1, trailer.1);
    assert_ne!(status.0, trailer.0);
}

fn host() -> impl Strategy<Value = Host> {
    let timeouts = || prop::option::of(prop::sample::select(vec!["0", "700", "x"]));
    (
        prop::sample::select(vec![0, 101, 200, 404, 429, 500, 503, 504, 600]),
        prop::option::of(0u32..18),
        prop::sample::select(vec!["application/grpc", "text/plain", ""]),
        prop::sample::select(vec![
            VIA_UPSTREAM,
            "",
            "stream_idle_timeout",
            "max_duration_timeout",
            "route_not_found",
        ]),
        prop::sample::select(vec![0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 9]),
        prop::option::of(prop::sample::select(vec!["0m", "1S", "1x"])),
        any::<bool>(),
        [timeouts(), timeouts()],
        0u64..2_000,
    )
        .prop_map(
            |(
                status,
                grpc,
                content_type,
                details,
                flags,
                grpc_timeout,
                internal,
                timeouts,
                now,
            )| {
                Host {
                    status,
                    grpc,
                    content_type,
                    details,
                    flags,
                    grpc_timeout,
                    internal,
                    timeouts,
                    now,
                }
            },
        )
}

proptest! {
    /// Whatever Envoy says at each of the parts.
    #[test]
    fn a_probe_ends_once_and_of_one_answer_no_more_than_a_success_and_then_an_error_is_said(
        hosts in prop::collection::vec(host(), 4),
        probe: bool,
        whole: bool,
        answered: bool,
        complete: bool,
        has_trailers: bool,
        calm: bool,
    ) {
        let mut sampling = if calm { in_a_calm() } else { Sampling::default() };
        let mut assess = Assess::NOTHING;
        let mut said = Vec::new();
        if assess.sent(probe, whole, &sampling) {
            said.extend(reports(&mut assess, &hosts[0]));
        }
        if answered && assess.begins(&mut sampling, 5, complete) {
            said.extend(reports(&mut assess, &hosts[1]));
        }
        if answered && !complete && has_trailers {
            said.extend(trailers(&mut assess, &hosts[2]));
        }
        said.extend(ends(&mut assess, &hosts[3]));
        prop_assert!(!assess.is_open() || !probe);
        let ended: Vec<_> = said.iter().filter(|s| matches!(s, Step::ProbeEnded(_))).collect();
        prop_assert!(ended.len() <= usize::from(probe), "{said:?}");
        // Only one that may not be complete is left to time.
        prop_assert!(!probe || !whole || ended.len() == 1, "{said:?}");
        let told: Vec<_> = said
            .iter()
            .filter(|s| matches!(s, Step::Succeeded | Step::Failed(_)))
            .collect();
        match told[..] {
            [] | [_] | [Step::Succeeded, Step::Failed(_)] => {}
            _ => prop_assert!(false, "{said:?}"),
        }
        if ended.contains(&&Step::ProbeEnded(Ended::Failed)) {
            prop_assert!(matches!(told[..], [Step::Failed(_)]), "{said:?}");
        }
        if ended.contains(&&Step::ProbeEnded(Ended::Well)) {
            prop_assert_eq!(told[0], &Step::Succeeded);
        }
    }
}
