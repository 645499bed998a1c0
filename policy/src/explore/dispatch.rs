//! The way of requests of several VMs that share the counts of a service's destinations. Each request is a shipped
//! [`Dispatch`], which asks for its places at home and at peers with a shipped [`Admit`].

mod orders;

use std::collections::VecDeque;
use std::iter;

use super::{World, explore};
use crate::destination::{DestinationId, PeerId};
use crate::dispatch::{Fact, Step};
use crate::ejection::Verdict;
use crate::names::{HomeReason, SpillReason};
use crate::select::Candidate;
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
    /// The verdict of a peer's error detection.
    peer: Verdict,
    /// Whether it is one of those that may be spilled.
    may_spill: bool,
    /// Whether anything leads to the peers.
    way: bool,
    /// Whether the request can be rewritten.
    rewrite: bool,
    /// So many operations on a count before the one that Envoy refuses.
    refused: Option<u8>,
}

const OWN: Request = Request {
    origin: Origin::Own,
    verdict: Verdict::Home,
    peer: Verdict::Home,
    may_spill: true,
    way: true,
    rewrite: true,
    refused: None,
};

/// A request that is on its way through the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Begun {
    request: Request,
    dispatch: Dispatch<'static>,
    fact: Fact,
    /// While it asks for a place: the result of the last step, and where.
    admit: Option<(Admit, Option<i64>, DestinationId)>,
    /// Where it has a place under a limit.
    admitted: Option<DestinationId>,
    counted: Vec<DestinationId>,
    held: Vec<DestinationId>,
}

/// A request that is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    held: Option<DestinationId>,
    admitted: Option<DestinationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vm {
    script: VecDeque<Op>,
    begun: Option<Begun>,
    in_flight: VecDeque<Sent>,
    expect_room: [bool; 3],
}

/// Of home and of up to two peers.
type Counts = [i64; 3];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Service {
    rule: Rule,
    peers: &'static [Candidate],
    vms: Vec<Vm>,
    counts: Counts,
}

impl Service {
    fn of((rule, peers): (Rule, &'static [Candidate]), scripts: &[&[Op]]) -> Service {
        let vms = scripts.iter().map(|script| Vm {
            script: script.iter().copied().collect(),
            begun: None,
            in_flight: VecDeque::new(),
            expect_room: [true; 3],
        });
        Service {
            rule,
            peers,
            vms: vms.collect(),
            counts: [0; 3],
        }
    }

    fn begin(&self, request: Request) -> Begun {
        let detection = Some(Detection::default());
        Begun {
            request,
            dispatch: Dispatch::new(
                self.rule,
                self.peers,
                detection.as_ref(),
                request.origin,
                true,
            ),
            fact: Fact::Yes,
            admit: None,
            admitted: None,
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
    fn go_on(&mut self, counts: &mut Counts, expect_room: &mut [bool; 3]) -> Option<Decision> {
        loop {
            if let Some((mut admit, seen, at)) = self.admit {
                let step = admit.step(seen);
                let add = match step {
                    admission::Step::Add(n) => n,
                    admission::Step::Read => 0,
                    admission::Step::Done(admission) => {
                        self.admit = None;
                        let admitted = admission == Admission::Admitted;
                        expect_room[at.index()] = admitted;
                        if admitted {
                            self.admitted = Some(at);
                            self.counted.push(at);
                        }
                        self.fact = Fact::Admission(admission);
                        continue;
                    }
                };
                let seen = self.count(&mut counts[at.index()], add);
                self.admit = Some((admit, seen, at));
                return None;
            }
            let mut ask = |at: DestinationId, limit| {
                let admit = Admit::new(limit, expect_room[at.index()]);
                self.admit = Some((admit, Some(0), at));
            };
            self.fact = match self.dispatch.next(self.fact) {
                Step::Overflowed => Fact::Yes,
                Step::Health => Fact::Verdict(self.request.verdict),
                Step::Room(limit) => {
                    ask(DestinationId::HOME, limit);
                    continue;
                }
                Step::PeerRoom(peer, limit) => {
                    ask(peer.into(), limit);
                    continue;
                }
                Step::PeerHealth(_) => Fact::Verdict(self.request.peer),
                Step::MaySpill => self.request.may_spill.into(),
                Step::Draw => Fact::Drawn(0),
                Step::Way(..) => self.request.way.into(),
                Step::Rewrite(_) => self.request.rewrite.into(),
                Step::Declined(..) | Step::LetGo(_) => Fact::Yes,
                Step::TakeBack(peer) => {
                    let at = peer.into();
                    assert_eq!(self.counted.pop(), Some(at), "it was counted");
                    self.admitted = None;
                    counts[at.index()] -= 1;
                    self.fact = Fact::Yes;
                    return None;
                }
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
            Some((admit, Some(_), asked)) if at == asked => admit.holds(),
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
        let destinations = || {
            let peers = self.peers.iter().map(|peer| peer.limit);
            let ids = PeerId::all().map(DestinationId::from);
            iter::once((DestinationId::HOME, self.rule.limit)).chain(ids.zip(peers))
        };
        for (at, limit) in destinations() {
            let admitted = sent().filter(|sent| sent.admitted == Some(at)).count()
                + begun().filter(|begun| begun.admitted == Some(at)).count();
            assert!(admitted <= limit.unwrap_or(0) as usize, "{self:?}");
        }
        if begun().any(|begun| begun.request.refused.is_some()) {
            return;
        }
        for (at, _) in destinations() {
            let held = sent().filter(|sent| sent.held == Some(at)).count() as i64;
            let on_the_way: i64 = begun().map(|begun| begun.is_in(at)).sum();
            assert_eq!(self.counts[at.index()], held + on_the_way, "{self:?}");
        }
    }

    fn finally(&self) {
        assert_eq!(self.counts, [0; 3], "{self:?}");
    }
}

/// What must be true of a request that was decided.
fn is_sound(begun: &Begun, decision: Decision) {
    assert_eq!(begun.held, begun.counted, "{begun:?}");
    assert!(begun.held.len() <= 1, "{begun:?}");
    let room = decision == Decision::Home(HomeReason::Room);
    assert_eq!(
        begun.admitted == Some(DestinationId::HOME),
        room,
        "{begun:?}"
    );
    assert!(
        begun.admitted.is_none_or(|at| decision.to() == Some(at)),
        "{begun:?}"
    );
    match decision {
        Decision::Home(HomeReason::Uncounted) => assert!(begun.held.is_empty(), "{begun:?}"),
        Decision::Home(why) => {
            assert_eq!(begun.held, [DestinationId::HOME], "{begun:?}");
            let may_not = why == HomeReason::Unmatched;
            assert!(!may_not || !begun.request.may_spill, "{begun:?}");
        }
        Decision::Spill { to, why } => {
            assert!(begun.request.may_spill, "{begun:?}");
            let diverted = [SpillReason::Ejected, SpillReason::Ramp].contains(&why);
            assert_eq!(begun.request.origin, Origin::Own);
            assert_eq!(
                diverted,
                matches!(begun.request.verdict, Verdict::Away { .. })
            );
            assert!(begun.held.iter().all(|at| *at == to.into()), "{begun:?}");
        }
        Decision::Reject => {
            assert!(
                begun.held.is_empty() && begun.request.may_spill,
                "{begun:?}"
            );
        }
    }
}
