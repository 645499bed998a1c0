//! All ways through the machine: every rule, every origin, and every fact that may come of a step.

use super::super::*;
use crate::ejection::Verdict::{Away, Back, Home, Overdue, Probe};

/// One way through the machine: the steps before the decision, each with what came of it.
#[derive(Clone, Debug)]
pub struct Path {
    pub rule: Rule,
    /// `overflow`, if errors are detected.
    pub detects: Option<bool>,
    pub origin: Origin,
    pub enforce: bool,
    /// Envoy counts the requests of the service.
    pub is_counted: bool,
    pub steps: Vec<(Step, Fact)>,
    pub decision: Decision,
    pub probe: bool,
}

const RULES: u8 = 16;

pub fn rules() -> impl Iterator<Item = Rule> {
    (0..RULES).map(|bits| Rule {
        limit: (bits & 1 != 0).then_some(1),
        evacuate: bits & 2 != 0,
        peer_open: bits & 4 != 0,
        reject_when_full: bits & 8 != 0,
    })
}

fn facts(step: Step) -> Vec<Fact> {
    match step {
        Step::Health => {
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
        Step::Room(_) => {
            let all = [
                Admission::Admitted,
                Admission::Full,
                Admission::Contended,
                Admission::Refused,
            ];
            all.map(Fact::Admission).to_vec()
        }
        Step::Overflowed | Step::Hold(_) => vec![Fact::Yes],
        _ => vec![Fact::Yes, Fact::No],
    }
}

fn follow(dispatch: Dispatch, fact: Fact, path: Path, all: &mut Vec<Path>) {
    let mut after = dispatch;
    let step = after.next(fact);
    assert!(path.steps.len() < 12, "it ends: {path:?}");
    if let Step::Done(decision) = step {
        assert_eq!(after.next(Fact::Yes), step, "it stays ended");
        let probe = after.is_probe();
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
    for rule in rules() {
        for origin in [Origin::Own, Origin::Guest, Origin::Returned] {
            for detects in [None, Some(false), Some(true)] {
                for (enforce, is_counted) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let detection = detects.map(|overflow| Detection {
                        overflow,
                        ..Detection::default()
                    });
                    let dispatch = Dispatch::new(rule, detection.as_ref(), origin, enforce);
                    let path = Path {
                        rule,
                        detects,
                        origin,
                        enforce,
                        is_counted,
                        steps: Vec::new(),
                        decision: Decision::Reject,
                        probe: false,
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
    pub fn has(&self, step: Step, fact: Fact) -> bool {
        self.steps.contains(&(step, fact))
    }

    pub fn asks(&self, of: impl Fn(Step) -> bool) -> bool {
        self.steps.iter().any(|(step, _)| of(*step))
    }

    pub fn admission(&self) -> Option<Admission> {
        self.steps.iter().find_map(|(_, fact)| match fact {
            Fact::Admission(admission) => Some(*admission),
            _ => None,
        })
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.steps.iter().find_map(|(_, fact)| match fact {
            Fact::Verdict(verdict) => Some(*verdict),
            _ => None,
        })
    }

    pub fn held(&self) -> Vec<DestinationId> {
        let held = self.steps.iter().filter_map(|(step, _)| match step {
            Step::Hold(at) => Some(*at),
            _ => None,
        });
        held.collect()
    }

    /// Where its count is, whoever added it.
    pub fn counted(&self) -> Vec<DestinationId> {
        let counted = self.steps.iter().filter_map(|step| match step {
            (Step::Count(at), Fact::Yes) => Some(*at),
            (Step::Room(_), Fact::Admission(Admission::Admitted)) => Some(DestinationId::HOME),
            _ => None,
        });
        counted.collect()
    }

    pub fn may_leave(&self) -> bool {
        self.asks(|step| matches!(step, Step::Way(..) | Step::Rewrite(_)))
    }

    /// It really goes to the peer.
    pub fn has_left(&self) -> bool {
        self.has(Step::Rewrite(PeerId::FIRST), Fact::Yes)
    }
}
