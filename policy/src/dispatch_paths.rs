//! All ways through the machine: every rule, every origin, and every fact that may come of a step.

use super::super::*;
use crate::ejection::Verdict::{Away, Back, Home, Overdue, Probe};

/// One way through the machine: the steps before the decision, each with what came of it.
#[derive(Clone, Debug)]
pub struct Path {
    pub rule: Rule,
    pub peers: &'static [Candidate],
    /// `overflow`, if errors are detected.
    pub detects: Option<bool>,
    pub origin: Origin,
    pub enforce: bool,
    /// Envoy counts the requests of the service.
    pub is_counted: bool,
    pub steps: Vec<(Step, Fact)>,
    pub decision: Decision,
    pub probe: Option<DestinationId>,
}

const fn peer(priority: u32, open: bool, limit: Option<u32>, detects: bool) -> Candidate {
    Candidate {
        priority,
        weight: 1,
        hash: 0,
        open,
        limit,
        detects,
    }
}

const PLAIN: Candidate = peer(0, true, None, false);
/// Its name has another hash, so it is the first one of some sessions.
const OTHER: Candidate = Candidate { hash: 1, ..PLAIN };
const LIMITED: Candidate = peer(0, true, Some(2), false);
const WATCHED: Candidate = peer(0, true, Some(2), true);

/// The peers that a service may have: none as at a server, some that are drained, and such that are asked in an order that is
/// drawn or not.
pub const PEERS: [&[Candidate]; 8] = [
    &[],
    &[peer(0, false, None, false)],
    &[PLAIN],
    &[LIMITED],
    &[WATCHED],
    &[PLAIN, OTHER],
    &[
        peer(0, false, None, true),
        peer(1, true, Some(1), true),
        peer(0, true, None, true),
    ],
    &[LIMITED, LIMITED, peer(1, true, None, false)],
];

pub fn rules() -> impl Iterator<Item = (Rule, &'static [Candidate])> {
    PEERS.into_iter().flat_map(|peers| {
        (0..8u8).map(move |bits| {
            let rule = Rule {
                limit: (bits & 1 != 0).then_some(1),
                evacuate: bits & 2 != 0,
                peer_open: peers.iter().any(|peer| peer.open),
                reject_when_full: bits & 4 != 0,
            };
            (rule, peers)
        })
    })
}

fn facts(step: Step) -> Vec<Fact> {
    match step {
        Step::Health | Step::PeerHealth(_) => {
            let verdicts = [
                Home,
                Away { ramp: false },
                Away { ramp: true },
                Probe,
                Back,
                Overdue,
            ];
            verdicts
                .map(Fact::Verdict)
                .into_iter()
                .chain([Fact::No])
                .collect()
        }
        Step::Room(_) | Step::PeerRoom(..) => {
            let all = [
                Admission::Admitted,
                Admission::Full,
                Admission::Contended,
                Admission::Refused,
            ];
            all.map(Fact::Admission).to_vec()
        }
        // The draws 0 and 1, and the sessions, give both orders of two peers.
        Step::Draw => vec![
            Fact::Drawn(0),
            Fact::Drawn(1),
            Fact::Session(0),
            Fact::Session(1),
        ],
        Step::Overflowed
        | Step::Hold(_)
        | Step::TakeBack(_)
        | Step::LetGo(_)
        | Step::Declined(..) => vec![Fact::Yes],
        _ => vec![Fact::Yes, Fact::No],
    }
}

fn follow(dispatch: Dispatch<'static>, fact: Fact, path: Path, all: &mut Vec<Path>) {
    let mut after = dispatch;
    let step = after.next(fact);
    assert!(path.steps.len() < 24, "it ends: {path:?}");
    if let Step::Done(decision) = step {
        assert_eq!(after.next(Fact::Yes), step, "it stays ended");
        let probe = after.probe();
        all.push(Path {
            decision,
            probe,
            ..path
        });
        return;
    }
    for fact in facts(step) {
        let mut path = path.clone();
        path.steps.push((step, fact));
        follow(after, fact, path, all);
    }
}

/// All ways of all requests of all rules.
pub fn paths() -> Vec<Path> {
    let mut all = Vec::new();
    for (rule, peers) in rules() {
        for origin in [Origin::Own, Origin::Guest, Origin::Returned] {
            for detects in [None, Some(false), Some(true)] {
                for (enforce, is_counted) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let detection = detects.map(|overflow| Detection {
                        overflow,
                        ..Detection::default()
                    });
                    let dispatch = Dispatch::new(rule, peers, detection.as_ref(), origin, enforce);
                    let path = Path {
                        rule,
                        peers,
                        detects,
                        origin,
                        enforce,
                        is_counted,
                        steps: Vec::new(),
                        decision: Decision::Reject,
                        probe: None,
                    };
                    follow(dispatch, is_counted.into(), path, &mut all);
                }
            }
        }
    }
    assert!(all.len() > 1000, "{}", all.len());
    all
}

impl Path {
    pub fn asks(&self, of: impl Fn(Step) -> bool) -> bool {
        self.steps.iter().any(|(step, _)| of(*step))
    }

    pub fn admission(&self) -> Option<Admission> {
        self.steps.iter().find_map(|step| match step {
            (Step::Room(_), Fact::Admission(admission)) => Some(*admission),
            _ => None,
        })
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.steps.iter().find_map(|step| match step {
            (Step::Health, Fact::Verdict(verdict)) => Some(*verdict),
            _ => None,
        })
    }

    /// The peers that did not take it, with their reasons.
    pub fn declined(&self) -> Vec<(PeerId, Declined)> {
        let declined = self.steps.iter().filter_map(|(step, _)| match step {
            Step::Declined(peer, why) => Some((*peer, *why)),
            _ => None,
        });
        declined.collect()
    }

    /// The open peers.
    pub fn open(&self) -> Vec<PeerId> {
        let peers = (0..).zip(self.peers).filter(|(_, peer)| peer.open);
        peers.map(|(nth, _)| PeerId::new(nth)).collect()
    }

    pub fn held(&self) -> Vec<DestinationId> {
        let held = self.steps.iter().filter_map(|(step, _)| match step {
            Step::Hold(at) => Some(*at),
            _ => None,
        });
        held.collect()
    }

    /// Where its count is at the end, whoever added it.
    pub fn counted(&self) -> Vec<DestinationId> {
        let mut counted: Vec<DestinationId> = Vec::new();
        for step in &self.steps {
            match step {
                (Step::Count(at), Fact::Yes) => counted.push(*at),
                (Step::Room(_), Fact::Admission(Admission::Admitted)) => {
                    counted.push(DestinationId::HOME);
                }
                (Step::PeerRoom(peer, _), Fact::Admission(Admission::Admitted)) => {
                    counted.push((*peer).into());
                }
                (Step::TakeBack(peer), _) => {
                    let last = counted.pop();
                    assert_eq!(
                        last,
                        Some((*peer).into()),
                        "what was counted is taken back: {self:?}"
                    );
                }
                _ => {}
            }
        }
        counted
    }

    /// Whether it is one of those that may be spilled, if that was asked.
    pub fn may_spill(&self) -> Option<bool> {
        let mut asked = self.steps.iter().filter_map(|step| match step {
            (Step::MaySpill, fact) => Some(*fact != Fact::No),
            _ => None,
        });
        let first = asked.next();
        assert_eq!(asked.next(), None, "it is asked once: {self:?}");
        first
    }

    pub fn may_leave(&self) -> bool {
        self.asks(|step| matches!(step, Step::Way(..) | Step::Rewrite(_)))
    }

    /// It really goes to this peer.
    pub fn left(&self) -> Option<PeerId> {
        self.steps.iter().find_map(|step| match step {
            (Step::Rewrite(peer), Fact::Yes) => Some(*peer),
            _ => None,
        })
    }

    /// Where it was claimed as a probe and not let go.
    pub fn claimed(&self) -> Option<DestinationId> {
        self.steps.iter().fold(None, |claimed, step| match step {
            (Step::Health, Fact::Verdict(Probe)) => Some(DestinationId::HOME),
            (Step::PeerHealth(peer), Fact::Verdict(Probe)) => Some((*peer).into()),
            (Step::LetGo(peer), _) => {
                assert_eq!(claimed, Some((*peer).into()), "{self:?}");
                None
            }
            _ => claimed,
        })
    }
}
