use super::*;
use crate::sampling::CALM;

const VIA_UPSTREAM: &str = "via_upstream";

fn detection() -> Detection {
    Detection {
        consecutive_5xx: 5,
        consecutive_gateway: 0,
        interval: Millis(10_000),
        base_ejection: Millis(30_000),
        max_percent: 100,
        overflow: false,
        codes: None,
        min_percent: None,
    }
}

/// What Envoy has of one request and its answer.
#[derive(Clone, Debug)]
struct Host {
    status: u32,
    /// In the trailers, or in the headers if it has no more than these.
    grpc: Option<u32>,
    content_type: &'static str,
    details: &'static str,
    flags: u64,
    /// The request's.
    grpc_timeout: Option<&'static str>,
    internal: bool,
    timeouts: [Option<&'static str>; 2],
    now: u64,
}

const OK: Host = Host {
    status: 200,
    grpc: None,
    content_type: "text/plain",
    details: VIA_UPSTREAM,
    flags: 0,
    grpc_timeout: None,
    internal: false,
    timeouts: [None; 2],
    now: 1_000,
};

const GRPC: Host = Host {
    content_type: "application/grpc",
    ..OK
};

/// UT.
const TIMED_OUT: Host = Host {
    status: 504,
    flags: 1 << 2,
    details: "upstream_response_timeout",
    ..OK
};

/// UC.
const RESET: u64 = 1 << 6;

/// What is not a report.
fn is_read(step: Step) -> bool {
    matches!(
        step,
        Step::Enter | Step::Header(_) | Step::Flags | Step::Details | Step::Clock
    )
}

/// Carries out the steps up to the next part: all of them.
fn all(assess: &mut Assess, host: &Host) -> Vec<Step> {
    let (mut steps, mut text, mut seen) = (Vec::new(), None, 0);
    loop {
        let step = assess.next(text.as_deref(), seen, &detection());
        assert!(steps.len() < 20, "it ends: {steps:?}");
        let some = |text: &str| Some(text.to_owned());
        match step {
            Step::Header(header) => {
                text = match header {
                    Header::GrpcTimeout => host.grpc_timeout.map(str::to_owned),
                    Header::Internal => host.internal.then(|| "true".to_owned()),
                    Header::Timeout => host.timeouts[0].map(str::to_owned),
                    Header::TryTimeout => host.timeouts[1].map(str::to_owned),
                    Header::Status => some(&host.status.to_string()),
                    Header::GrpcStatus | Header::TrailerStatus => {
                        host.grpc.map(|status| status.to_string())
                    }
                    Header::ContentType => some(host.content_type),
                }
            }
            Step::Details => text = some(host.details),
            Step::Flags => seen = host.flags,
            Step::Clock => seen = host.now,
            Step::Done => return steps,
            _ => {}
        }
        steps.push(step);
    }
}

/// As that: the reports.
fn reports(assess: &mut Assess, host: &Host) -> Vec<Step> {
    let steps = all(assess, host);
    steps.into_iter().filter(|step| !is_read(*step)).collect()
}

fn in_a_calm() -> Sampling {
    let mut sampling = Sampling::default();
    (0..CALM).for_each(|_| sampling.saw(true));
    sampling
}

/// A request that was sent home where all answers are read, or as a probe.
fn sent(probe: bool, whole: bool, host: &Host) -> Assess {
    let mut assess = Assess::NOTHING;
    assert!(assess.sent(probe, whole, &Sampling::default()));
    assert_eq!(reports(&mut assess, host), []);
    assess
}

fn begins(assess: &mut Assess, host: &Host, complete: bool) -> Vec<Step> {
    assert!(assess.begins(&mut Sampling::default(), 5, complete));
    reports(assess, host)
}

fn trailers(assess: &mut Assess, host: &Host) -> Vec<Step> {
    if assess.trailers() {
        reports(assess, host)
    } else {
        vec![]
    }
}

fn ends(assess: &mut Assess, host: &Host) -> Vec<Step> {
    if assess.ends() {
        reports(assess, host)
    } else {
        vec![]
    }
}

const FAILED: Step = Step::Failed(Failure { gateway: false });
const GATEWAY: Step = Step::Failed(BROKEN);

#[test]
fn a_good_answer_is_reported_once_and_so_is_an_error() {
    for complete in [true, false] {
        let mut well = sent(false, true, &OK);
        assert_eq!(begins(&mut well, &OK, complete), [Step::Succeeded]);
        assert_eq!(trailers(&mut well, &OK), []);
        assert_eq!(ends(&mut well, &OK), []);
        let error = Host { status: 500, ..OK };
        let mut failed = sent(false, true, &error);
        assert_eq!(begins(&mut failed, &error, complete), [FAILED]);
        assert_eq!(failed.what(), What::Status(500));
        assert_eq!(ends(&mut failed, &error), []);
    }
}

#[test]
fn an_answer_that_is_passed_over_costs_nothing() {
    let mut sampling = in_a_calm();
    let mut assess = Assess::NOTHING;
    assert!(
        !assess.sent(false, true, &sampling),
        "no deadline is read in a calm"
    );
    let looked_at =
        (0..100).filter(|_| Assess::clone(&Assess::NOTHING).begins(&mut sampling, 5, true));
    assert_eq!(looked_at.count(), 20);
    assert!(!assess.trailers() && !assess.ends() && !assess.is_open());
}

/// The price of one that is looked at in a calm: one hostcall, or two where it has no body.
#[test]
fn in_a_calm_no_more_than_the_status_of_a_good_answer_is_read() {
    let mut sampling = in_a_calm();
    for (complete, read) in [
        (false, vec![Header::Status]),
        (true, vec![Header::Status, Header::GrpcStatus]),
    ] {
        let mut assess = Assess::NOTHING;
        while !assess.begins(&mut sampling, 5, complete) {}
        let read = read.into_iter().map(Step::Header);
        let expected: Vec<Step> = read.chain([Step::Succeeded]).collect();
        assert_eq!(all(&mut assess, &OK), expected);
    }
}

/// So that the count of a VM that dies with it is mended soon.
#[test]
fn whatever_takes_more_than_that_is_read_inside_the_callback() {
    let steps = |probe, sampling: &mut Sampling, host: &Host| {
        let mut assess = Assess::NOTHING;
        assess.sent(probe, true, sampling);
        while !assess.begins(sampling, 5, false) {}
        all(&mut assess, host)
    };
    let error = Host { status: 503, ..OK };
    for (probe, mut sampling) in [(true, in_a_calm()), (false, Sampling::default())] {
        let first = steps(probe, &mut sampling, &OK)[0];
        assert_eq!(first, Step::Enter, "{probe}");
    }
    let suspect = steps(false, &mut in_a_calm(), &error);
    let expected = [Step::Header(Header::Status), Step::Enter, Step::Flags];
    assert!(suspect.starts_with(&expected), "{suspect:?}");
}

#[test]
fn a_status_of_grpc_counts_wherever_it_stands() {
    let failed = Host {
        grpc: Some(14),
        ..GRPC
    };
    let mut at_once = sent(false, true, &failed);
    assert_eq!(begins(&mut at_once, &failed, true), [GATEWAY]);
    assert_eq!(at_once.what(), What::Grpc(503));
    let mut later = sent(false, true, &failed);
    assert_eq!(begins(&mut later, &failed, false), [], "nothing is known");
    assert_eq!(trailers(&mut later, &failed), [GATEWAY]);
    assert_eq!(later.what(), What::Trailers(503));
    let well = Host {
        grpc: Some(0),
        ..GRPC
    };
    let mut later = sent(false, true, &well);
    assert_eq!(begins(&mut later, &well, false), []);
    assert_eq!(trailers(&mut later, &well), [Step::Succeeded]);
    assert_eq!(ends(&mut later, &well), []);
}

#[test]
fn trailers_can_say_that_what_began_well_failed() {
    let failed = Host {
        grpc: Some(13),
        ..OK
    };
    let mut assess = sent(false, true, &failed);
    assert_eq!(begins(&mut assess, &failed, false), [Step::Succeeded]);
    assert_eq!(trailers(&mut assess, &failed), [FAILED]);
    assert_eq!(ends(&mut assess, &failed), []);
}

#[test]
fn an_answer_that_home_breaks_off_is_an_error_and_one_that_its_client_ends_is_not() {
    for host in [OK, GRPC] {
        for (flags, grpc, plain) in [
            (RESET, vec![GATEWAY], vec![GATEWAY]),
            // DC: the client went away. A stream of gRPC ends so, and had begun well.
            (1 << 9, vec![Step::Succeeded], vec![]),
        ] {
            let host = Host { flags, ..host };
            let mut assess = sent(false, true, &host);
            begins(&mut assess, &host, false);
            let expected = if host.content_type == "text/plain" {
                plain
            } else {
                grpc
            };
            assert_eq!(ends(&mut assess, &host), expected, "{host:?}");
        }
    }
}

#[test]
fn what_another_filter_answers_says_nothing_of_home() {
    for status in [200, 503] {
        let host = Host {
            status,
            details: "fault_filter_abort",
            ..OK
        };
        for probe in [true, false] {
            let mut assess = sent(probe, true, &host);
            let expected: &[Step] = match probe {
                true => &[Step::ProbeEnded(Ended::Nothing)],
                false => &[],
            };
            assert_eq!(begins(&mut assess, &host, true), expected);
        }
    }
}

/// The deadlines that a client can give, and how long it then waits.
fn patient(millis: u64) -> Vec<Host> {
    let text: &'static str = format!("{millis}").leak();
    let grpc: &'static str = format!("{millis}m").leak();
    let internal = |timeouts| Host {
        internal: true,
        timeouts,
        ..TIMED_OUT
    };
    vec![
        Host {
            grpc_timeout: Some(grpc),
            ..TIMED_OUT
        },
        internal([Some(text), None]),
        internal([None, Some(text)]),
        internal([Some("900000"), Some(text)]),
    ]
}

#[test]
fn a_deadline_that_its_client_chose_is_no_error_of_homes() {
    for host in patient(50) {
        let mut assess = sent(false, true, &host);
        let late = Host {
            now: host.now + 50 - LATER.0,
            ..host.clone()
        };
        assert_eq!(begins(&mut assess, &late, true), [], "{host:?}");
        let mut assess = sent(false, true, &host);
        let early = Host {
            now: host.now + 49 - LATER.0,
            ..host
        };
        assert_eq!(
            begins(&mut assess, &early, true),
            [GATEWAY],
            "the route's own timeout was shorter: {early:?}"
        );
    }
    let mut unset = sent(false, true, &TIMED_OUT);
    assert_eq!(begins(&mut unset, &TIMED_OUT, true), [GATEWAY]);
}

#[test]
fn a_client_outside_the_mesh_chooses_no_timeout() {
    let host = Host {
        timeouts: [Some("1"), Some("1")],
        ..TIMED_OUT
    };
    let mut assess = sent(false, true, &host);
    assert_eq!(begins(&mut assess, &host, true), [GATEWAY]);
}

#[test]
fn home_that_was_told_of_a_deadline_may_say_that_it_was_not_met() {
    let told = Host {
        grpc: Some(4),
        grpc_timeout: Some("1S"),
        ..GRPC
    };
    let mut assess = sent(false, true, &told);
    assert_eq!(begins(&mut assess, &told, true), []);
    let untold = Host {
        grpc_timeout: None,
        ..told
    };
    let mut assess = sent(false, true, &untold);
    assert_eq!(begins(&mut assess, &untold, true), [GATEWAY]);
}

#[test]
fn where_nobody_read_the_deadline_a_timeout_makes_all_answers_be_read() {
    let mut sampling = in_a_calm();
    let mut assess = Assess::NOTHING;
    while !assess.begins(&mut sampling, 5, true) {}
    assert_eq!(reports(&mut assess, &TIMED_OUT), [Step::Doubted]);
}

#[test]
fn a_probe_whose_client_did_not_wait_is_left_to_time_unless_its_request_is_complete() {
    for host in patient(0) {
        for whole in [true, false] {
            let mut assess = sent(true, whole, &host);
            let ended = [Step::ProbeEnded(Ended::Nothing)];
            let expected: &[Step] = if whole { &ended } else { &[] };
            assert_eq!(begins(&mut assess, &host, true), expected);
            assert_eq!(ends(&mut assess, &host), []);
        }
    }
}

#[test]
fn a_probe_that_gets_no_answer_is_released_when_its_request_ends() {
    for whole in [true, false] {
        let mut assess = sent(true, whole, &OK);
        assert!(assess.is_open());
        assert_eq!(
            ends(&mut assess, &OK),
            [Step::ProbeEnded(Ended::Nothing)],
            "{whole}"
        );
        assert!(!assess.is_open());
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[path = "assess_properties.rs"]
mod properties;
