//! The way of requests of several VMs that share the counts of a service's destinations: each request is a shipped
//! [`Dispatch`], which asks for its place at home with a shipped [`Admit`].

use std::collections::VecDeque;

use super::{World, explore};
use crate::destination::{DestinationId, PeerId};
use crate::dispatch::{Fact, Step};
use crate::ejection::Verdict;
use crate::names::{HomeReason, SpillReason};
use crate::{Admission, Admit, Decision, Detection, Dispatch, Origin, Rule, admission};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// A request, and what becomes of the steps that depend on nothing here.
    Request(Request),
    /// The oldest request in flight ends, if there is one.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Request {
    origin: Origin,
    verdict: Verdict,
    /// Something leads to the peer, and the request can be rewritten.
    way: bool,
    /// So many operations on a count before the one that Envoy refuses.
    refused: Option<u8>,
}

const OWN: Request = Request {
    origin: Origin::Own,
    verdict: Verdict::Home,
    way: true,
    refused: None,
};

/// A request that is on its way through the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Begun {
    request: Request,
    dispatch: Dispatch,
    fact: Fact,
    /// While it asks for a place, and what came of the last step.
    admit: Option<(Admit, Option<i64>)>,
    admitted: bool,
    counted: Vec<DestinationId>,
    held: Vec<DestinationId>,
}

/// A request that is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    held: Option<DestinationId>,
    admitted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vm {
    script: VecDeque<Op>,
    begun: Option<Begun>,
    in_flight: VecDeque<Sent>,
    expect_room: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Service {
    rule: Rule,
    vms: Vec<Vm>,
    /// Home's and the peer's.
    counts: [i64; 2],
}

impl Service {
    fn of(rule: Rule, scripts: &[&[Op]]) -> Service {
        let vms = scripts.iter().map(|script| Vm {
            script: script.iter().copied().collect(),
            begun: None,
            in_flight: VecDeque::new(),
            expect_room: true,
        });
        Service {
            rule,
            vms: vms.collect(),
            counts: [0; 2],
        }
    }

    fn begin(&self, request: Request) -> Begun {
        let detection = Some(Detection::default());
        Begun {
            request,
            dispatch: Dispatch::new(self.rule, detection.as_ref(), request.origin, true),
            fact: Fact::Yes,
            admit: None,
            admitted: false,
            counted: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Begun {
    /// Makes an operation on a count; `None` if Envoy refuses it.
    fn count(&mut self, count: &mut i64, add: i64) -> Option<i64> {
        // Counted down, so that what is not to be refused has few states.
        let left = self.request.refused.as_mut();
        let refused = left.is_some_and(|left| {
            *left = left.wrapping_sub(1);
            *left == u8::MAX
        });
        if refused {
            return None;
        }
        *count += add;
        Some(*count)
    }

    /// Goes on to the next operation on a count, and makes it. Returns the decision if there was none left.
    fn go_on(&mut self, counts: &mut [i64; 2], expect_room: &mut bool) -> Option<Decision> {
        loop {
            if let Some((mut admit, seen)) = self.admit {
                let step = admit.step(seen);
                let add = match step {
                    admission::Step::Add(n) => n,
                    admission::Step::Read => 0,
                    admission::Step::Done(admission) => {
                        self.admit = None;
                        self.admitted = admission == Admission::Admitted;
                        *expect_room = self.admitted;
                        if self.admitted {
                            self.counted.push(DestinationId::HOME);
                        }
                        self.fact = Fact::Admission(admission);
                        continue;
                    }
                };
                let seen = self.count(&mut counts[0], add);
                self.admit = Some((admit, seen));
                return None;
            }
            let way = self.request.way;
            self.fact = match self.dispatch.next(self.fact) {
                Step::Overflowed => Fact::Yes,
                Step::Health => Fact::Verdict(self.request.verdict),
                Step::Room(limit) => {
                    self.admit = Some((Admit::new(limit, *expect_room), Some(0)));
                    continue;
                }
                Step::Way(..) | Step::Rewrite(_) => way.into(),
                Step::Count(at) => {
                    let done = self.count(&mut counts[at.index()], 1).is_some();
                    if done {
                        self.counted.push(at);
                    }
                    self.fact = done.into();
                    return None;
                }
                Step::Hold(at) => {
                    self.held.push(at);
                    Fact::Yes
                }
                Step::Done(decision) => return Some(decision),
            };
        }
    }

    /// What the counts include of it.
    fn is_in(&self, at: DestinationId) -> i64 {
        let asks = match self.admit {
            // A refused operation is made up for by the next step.
            Some((admit, Some(_))) if at == DestinationId::HOME => admit.holds(),
            _ => false,
        };
        i64::from(asks) + i64::from(self.counted.contains(&at))
    }
}

impl World for Service {
    fn vms(&self) -> usize {
        self.vms.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        let rule = self.clone();
        let vm = &mut self.vms[vm];
        if let Some(mut begun) = vm.begun.take() {
            match begun.go_on(&mut self.counts, &mut vm.expect_room) {
                None => vm.begun = Some(begun),
                Some(decision) => {
                    is_sound(&begun, decision);
                    vm.in_flight.push_back(Sent {
                        held: begun.held.pop(),
                        admitted: begun.admitted,
                    });
                }
            }
            return true;
        }
        match vm.script.pop_front() {
            Some(Op::Request(request)) => vm.begun = Some(rule.begin(request)),
            // All end at last.
            Some(Op::End) | None => match vm.in_flight.pop_front() {
                Some(Sent { held: Some(at), .. }) => self.counts[at.index()] -= 1,
                Some(_) => {}
                None => return !vm.script.is_empty(),
            },
        }
        true
    }

    fn always(&self) {
        let sent = || self.vms.iter().flat_map(|vm| &vm.in_flight);
        let begun = || self.vms.iter().filter_map(|vm| vm.begun.as_ref());
        let admitted = sent().filter(|sent| sent.admitted).count()
            + begun().filter(|begun| begun.admitted).count();
        let limit = self.rule.limit.map_or(0, |limit| limit as usize);
        assert!(admitted <= limit, "{self:?}");
        if begun().any(|begun| begun.request.refused.is_some()) {
            return;
        }
        for at in [DestinationId::HOME, PeerId::FIRST.into()] {
            let held = sent().filter(|sent| sent.held == Some(at)).count() as i64;
            let on_the_way: i64 = begun().map(|begun| begun.is_in(at)).sum();
            assert_eq!(self.counts[at.index()], held + on_the_way, "{self:?}");
        }
    }

    fn finally(&self) {
        assert_eq!(self.counts, [0; 2], "{self:?}");
    }
}

/// What must be true of a request that was decided.
fn is_sound(begun: &Begun, decision: Decision) {
    assert_eq!(begun.held, begun.counted, "{begun:?}");
    assert!(begun.held.len() <= 1, "{begun:?}");
    let room = decision == Decision::Home(HomeReason::Room);
    assert_eq!(begun.admitted, room, "{begun:?}");
    match decision {
        Decision::Home(HomeReason::Uncounted) => assert!(begun.held.is_empty(), "{begun:?}"),
        Decision::Home(_) => assert_eq!(begun.held, [DestinationId::HOME], "{begun:?}"),
        Decision::Spill { to, why } => {
            let diverted = [SpillReason::Ejected, SpillReason::Ramp].contains(&why);
            assert_eq!(begun.request.origin, Origin::Own);
            assert_eq!(
                diverted,
                matches!(begun.request.verdict, Verdict::Away { .. })
            );
            assert!(begun.held.iter().all(|at| *at == to.into()), "{begun:?}");
        }
        Decision::Reject => assert!(begun.held.is_empty(), "{begun:?}"),
    }
}

use Op::{End, Request as Ask};

#[track_caller]
fn check(rule: Rule, scripts: &[&[Op]]) {
    let (states, ends) = explore(Service::of(rule, scripts));
    assert!(states > 50 && ends > 0, "{states} states, {ends} ends");
}

const LIMITED: Rule = Rule {
    limit: Some(1),
    evacuate: false,
    peer_open: true,
    reject_when_full: false,
};

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
            check(rule, &[&[Ask(OWN), End, Ask(OWN)], &[Ask(OWN), Ask(OWN)]]);
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
            LIMITED,
            &[&[Ask(other), Ask(OWN)], &[Ask(OWN)], &[Ask(guest)]],
        );
    }
}

#[test]
fn a_request_that_finds_no_way_comes_home_and_is_counted() {
    let stays = Request { way: false, ..OWN };
    check(LIMITED, &[&[Ask(stays), End, Ask(stays)], &[Ask(OWN)]]);
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
            check(LIMITED, &[&[Ask(request), Ask(OWN)], &[Ask(OWN)]]);
        }
    }
}
