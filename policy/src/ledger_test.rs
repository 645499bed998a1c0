use super::*;

const ALL: Sweep = Sweep {
    services: usize::MAX,
    full: usize::MAX,
    leisure: usize::MAX,
};

/// The bounds that the filter uses.
const SOME: Sweep = Sweep {
    services: 64,
    full: 1024,
    leisure: 16,
};

impl Ledger {
    fn held(&mut self, service: Service, stream: u32) -> Ticket {
        let ticket = self.hold(service, stream);
        self.answered(&ticket);
        ticket
    }

    /// Sweeps without bounds. Returns what was reported.
    fn sweep_all(&mut self, finished: impl FnMut(u32) -> bool) -> Vec<(Service, u32)> {
        let mut gone = vec![];
        self.sweep(
            ALL,
            |_| false,
            finished,
            |service, n| gone.push((service, n)),
        );
        gone
    }
}

#[test]
fn a_released_request_is_taken_off_the_share() {
    let mut ledger = Ledger::default();
    let ticket = ledger.hold(3, 10);
    assert_eq!(ledger.share(3), 1);
    assert_eq!(ledger.release(ticket), Some(3));
    assert_eq!(ledger.share(3), 0);
}

#[test]
fn a_request_that_a_sweep_has_reported_is_not_taken_off_again_at_its_end() {
    let mut ledger = Ledger::default();
    let (done, busy) = (ledger.held(0, 10), ledger.held(0, 11));
    assert_eq!(ledger.sweep_all(|stream| stream == 10), [(0, 1)]);
    assert_eq!(ledger.sweep_all(|stream| stream == 10), [], "swept once");
    assert_eq!(ledger.share(0), 1);
    assert_eq!(ledger.release(done), None);
    assert_eq!(ledger.release(busy), Some(0));
}

/// What has finished before that was an attempt, after which Envoy may make another.
#[test]
fn a_stream_whose_answer_has_not_begun_is_not_swept() {
    let mut ledger = Ledger::default();
    let ticket = ledger.hold(0, 10);
    let mut asked = 0;
    let mut ask = |ledger: &mut Ledger| {
        ledger.sweep_all(|_| {
            asked += 1;
            true
        })
    };
    assert_eq!(ask(&mut ledger), []);
    ledger.answered(&ticket);
    assert_eq!(ask(&mut ledger), [(0, 1)]);
    ledger.answered(&ticket);
    assert_eq!(ask(&mut ledger), [], "swept once");
    assert_eq!((asked, ledger.share(0)), (1, 0));
    assert_eq!(ledger.release(ticket), None);
}

#[test]
fn a_service_that_is_full_is_swept_before_the_others() {
    let mut ledger = Ledger::default();
    let tickets: Vec<Ticket> = (0..100).map(|n| ledger.held(n as usize / 50, n)).collect();
    let mut asked = vec![];
    ledger.sweep(
        SOME,
        |service| service == 1,
        |stream| {
            asked.push(stream);
            false
        },
        |_, _| {},
    );
    asked[..50].sort_unstable();
    assert_eq!(asked[..50], (50..100).collect::<Vec<u32>>());
    assert_eq!(asked.len(), 50 + SOME.leisure);
    assert_eq!(tickets.len(), 100);
}

/// A sweep of a thousand services with ten thousand streams takes no longer than one of a single service with many.
#[test]
fn a_sweep_checks_no_more_services_and_streams_than_its_bounds() {
    for full in [false, true] {
        let mut ledger = Ledger::default();
        let tickets: Vec<Ticket> = (0..10_000)
            .map(|n| ledger.held(n as usize % 1000, n))
            .collect();
        let (mut services, mut streams) = (0, 0);
        let mut sweep = |ledger: &mut Ledger| {
            ledger.sweep(
                SOME,
                |_| {
                    services += 1;
                    full
                },
                |_| {
                    streams += 1;
                    false
                },
                |_, _| {},
            );
            (std::mem::take(&mut services), std::mem::take(&mut streams))
        };
        for _ in 0..100 {
            let (services, streams) = sweep(&mut ledger);
            assert!(services <= SOME.services, "{services}");
            assert!(streams <= SOME.full + SOME.leisure, "{streams}");
        }
        for ticket in tickets {
            assert!(ledger.release(ticket).is_some());
        }
        assert_eq!(sweep(&mut ledger), (0, 0), "no request is counted");
    }
}

#[test]
fn requests_that_have_ended_take_no_memory() {
    let mut ledger = Ledger::default();
    let mut tickets: Vec<Ticket> = (0..10_000)
        .map(|n| ledger.held(n as usize % 100, n))
        .collect();
    let last = tickets.split_off(9_900);
    for ticket in tickets {
        ledger.release(ticket);
    }
    // A few requests go on for a long time. Until they end, the list keeps the capacity for those that have ended.
    assert_eq!(
        last.iter().map(|ticket| Rc::strong_count(&ticket.0)).max(),
        Some(2)
    );
    for ticket in last {
        ledger.release(ticket);
    }
    let capacity = ledger.services.iter().map(|held| held.answered.capacity());
    assert!(capacity.max() <= Some(SMALL));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    /// A stream in the model.
    struct Stream {
        ticket: Option<Ticket>,
        service: Service,
        answered: bool,
        swept: bool,
        finished: bool,
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Hold(Service),
        Answer(usize),
        Finish(usize),
        Release(usize),
        Sweep(Sweep, u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0usize..4).prop_map(Op::Hold),
            4 => (0usize..50).prop_map(Op::Answer),
            2 => (0usize..50).prop_map(Op::Finish),
            2 => (0usize..50).prop_map(Op::Release),
            2 => ((0usize..6, 0usize..6, 0usize..6), any::<u8>()).prop_map(
                |((services, full, leisure), bits)| Op::Sweep(Sweep { services, full, leisure }, bits)
            ),
        ]
    }

    /// The streams whose requests are counted.
    fn counted(streams: &[Stream]) -> impl Iterator<Item = &Stream> {
        streams
            .iter()
            .filter(|stream| stream.ticket.is_some() && !stream.swept)
    }

    proptest! {
        /// Compares with a model that is only a list: the shares are the counted requests, each request is taken off the
        /// count once, and a sweep reports the requests that are answered and finished, within its bounds.
        #[test]
        fn a_counted_request_is_taken_off_its_count_exactly_once(ops in prop::collection::vec(op(), 1..400)) {
            let mut ledger = Ledger::default();
            let mut streams: Vec<Stream> = vec![];
            for op in ops {
                let len = streams.len().max(1);
                match op {
                    Op::Hold(service) => streams.push(Stream {
                        ticket: Some(ledger.hold(service, streams.len() as u32)),
                        service, answered: false, swept: false, finished: false,
                    }),
                    Op::Answer(n) => if let Some(stream) = streams.get_mut(n % len)
                        && let Some(ticket) = &stream.ticket
                    {
                        ledger.answered(ticket);
                        stream.answered = true;
                    },
                    Op::Finish(n) => if let Some(stream) = streams.get_mut(n % len) {
                        stream.finished = true;
                    },
                    Op::Release(n) => if let Some(stream) = streams.get_mut(n % len)
                        && let Some(ticket) = stream.ticket.take()
                    {
                        let given = ledger.release(ticket);
                        prop_assert_eq!(given, (!stream.swept).then_some(stream.service));
                    },
                    Op::Sweep(most, bits) => {
                        let (mut services, mut asked, mut gone) = (0, HashSet::new(), [0; 4]);
                        let mut looks = 0;
                        ledger.sweep(
                            most,
                            |service| { services += 1; bits >> service & 1 == 1 },
                            |stream| { looks += 1; asked.insert(stream); streams[stream as usize].finished },
                            |service, n| gone[service] += n,
                        );
                        prop_assert!(services <= most.services);
                        prop_assert!(looks <= most.full + most.leisure);
                        for stream in asked {
                            let stream = &mut streams[stream as usize];
                            prop_assert!(stream.answered && !stream.swept && stream.ticket.is_some());
                            stream.swept = stream.finished;
                            gone[stream.service] -= u32::from(stream.finished);
                        }
                        prop_assert_eq!(gone, [0; 4]);
                    }
                }
                for service in 0..4 {
                    let held = counted(&streams).filter(|stream| stream.service == service);
                    prop_assert_eq!(held.count(), ledger.share(service));
                }
            }
        }

        /// Streams that stay are checked while other streams come and go, within as many sweeps as four times the number of
        /// streams.
        #[test]
        fn repeated_sweeps_check_every_stream_that_stays(
            stay in prop::collection::vec(0usize..4, 1..40),
            come in prop::collection::vec((0usize..4, any::<bool>()), 0..40),
            (services, most) in (1usize..4, 1usize..5),
            full in any::<bool>(),
        ) {
            let mut ledger = Ledger::default();
            let _stay: Vec<Ticket> = (0..).zip(&stay).map(|(n, service)| ledger.held(*service, n)).collect();
            let mut others: Vec<Ticket> = vec![];
            let mut asked = HashSet::new();
            let most = if full {
                Sweep { services, full: most, leisure: 0 }
            } else {
                Sweep { services, full: 0, leisure: most }
            };
            for n in 0..4 * (stay.len() + come.len()) {
                ledger.sweep(most, |_| full, |stream| { asked.insert(stream); false }, |_, _| {});
                match come.get(n) {
                    Some((service, true)) => others.push(ledger.held(*service, 1000)),
                    Some(_) if !others.is_empty() => { ledger.release(others.swap_remove(n % others.len())); }
                    _ => {}
                }
            }
            prop_assert!((0..stay.len() as u32).all(|n| asked.contains(&n)));
        }
    }
}
