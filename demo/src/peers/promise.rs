//! The promises of the run, and the first of them that was broken.

use super::plan::{CONSECUTIVE, Plan, Stage};
use super::{Request, Seen};

/// Why the run is not what was promised, in one line. `None` if it is.
pub(super) fn broken(plan: &Plan, requests: &[Request], seen: &Seen) -> Option<String> {
    failures(plan, requests, seen)
        .or_else(|| limits(plan, seen))
        .or_else(|| shares(plan, requests))
        .or_else(|| order(plan, requests))
        .or_else(|| counts(plan, requests, seen))
}

/// The requests of all phases of this kind.
fn of<'a>(
    plan: &'a Plan,
    requests: &'a [Request],
    stage: Stage,
) -> impl Iterator<Item = &'a Request> + Clone {
    requests
        .iter()
        .filter(move |request| plan.stages.get(request.phase) == Some(&stage))
}

/// Only the peer that is killed fails requests: those in flight, those up to the threshold, and its probes.
fn failures(plan: &Plan, requests: &[Request], seen: &Seen) -> Option<String> {
    let failed = || requests.iter().filter(|request| !request.is_ok());
    let killed = |request: &&Request| {
        request.to == Some(1) && plan.stages.get(request.phase) == Some(&Stage::Killed)
    };
    let others = failed().filter(|request| !killed(request)).count();
    if others > 0 {
        return Some(format!(
            "{others} requests failed that were not sent to {} while it was dead",
            plan.killed()
        ));
    }
    let limit = plan.peers.first().and_then(|peer| peer.limit).unwrap_or(0);
    let most = u64::from(limit + CONSECUTIVE) + seen.ejections.saturating_sub(1);
    let n = failed().count() as u64;
    (n > most).then(|| {
        format!(
            "{n} requests failed when {} was killed, and at most {most} should: its limit, the {CONSECUTIVE} errors that eject it, and its probes",
            plan.killed()
        )
    })
}

/// No destination had more in flight than its limit.
fn limits(plan: &Plan, seen: &Seen) -> Option<String> {
    let peers = plan.peers.iter().map(|peer| peer.limit);
    let limits = [Some(plan.limit)].into_iter().chain(peers);
    let all = plan.names().zip(limits).zip(&seen.most_in_flight);
    let mut above = all.filter_map(|((name, limit), &most)| {
        let limit = limit?;
        (most > limit.into())
            .then(|| format!("{name} had {most} requests in flight, and the limit is {limit}"))
    });
    above.next()
}

/// While no limit is reached, the peers of priority 0 get the surplus by their weights. The share of each may differ by four
/// standard deviations, which a correct filter exceeds once in 16,000 runs.
fn shares(plan: &Plan, requests: &[Request]) -> Option<String> {
    let surplus = of(plan, requests, Stage::Surplus).filter(|request| request.to != Some(0));
    let all = surplus.clone().count() as f64;
    let first = || plan.peers.iter().filter(|peer| peer.priority == 0);
    let weights: u32 = first().map(|peer| peer.weight).sum();
    let mut wrong = first().enumerate().filter_map(|(nth, peer)| {
        let got = surplus
            .clone()
            .filter(|request| request.to == Some(nth + 1));
        let (got, due) = (
            got.count() as f64 / all,
            f64::from(peer.weight) / f64::from(weights),
        );
        let tolerance = 4.0 * (due * (1.0 - due) / all).sqrt();
        ((got - due).abs() > tolerance || all == 0.0).then(|| {
            format!(
                "{} got {:.0} % of the surplus, and {:.0} ± {:.0} % were expected by its weight",
                peer.name,
                got * 100.0,
                due * 100.0,
                tolerance * 100.0
            )
        })
    });
    wrong.next()
}

/// Home takes what it has room for, and the last peer only what the others have no room for.
fn order(plan: &Plan, requests: &[Request]) -> Option<String> {
    let last = plan.peers.len();
    let at = |stage, to: usize| {
        let requests = of(plan, requests, stage);
        requests.filter(|request| request.to == Some(to)).count()
    };
    let away = of(plan, requests, Stage::Calm).filter(|request| request.to != Some(0));
    let away = away.count();
    if away > 0 {
        return Some(format!(
            "{away} requests left home while it had room for all"
        ));
    }
    let name = plan.peers.last().map_or("", |peer| peer.name);
    // With two peers the only one of priority 0 has room for all of the surplus too.
    let early = at(Stage::Surplus, last);
    if early > 0 {
        return Some(format!(
            "{early} requests went to {name} while a peer of a lower priority value had room"
        ));
    }
    for (stage, to, what) in [
        (Stage::Full, last, "although the others were full"),
        (Stage::Killed, last, "although the others were full or dead"),
        (Stage::Back, 1, "although it was back"),
    ] {
        if at(stage, to) == 0 {
            let name = plan.names().nth(to).unwrap_or_default();
            return Some(format!("no request went to {name} {what}"));
        }
    }
    None
}

/// The filter's metrics agree with what the clients saw, and every count of requests in flight is 0 at the end.
fn counts(plan: &Plan, requests: &[Request], seen: &Seen) -> Option<String> {
    if seen.left != 0 {
        return Some(format!(
            "{} requests are counted in flight, and none is",
            seen.left
        ));
    }
    let mut all = plan.names().zip(&seen.decided).enumerate();
    let wrong = all.find_map(|(to, (name, &decided))| {
        let saw = requests.iter().filter(|request| request.to == Some(to));
        let saw = saw.count() as u64;
        (saw != decided).then(|| {
            format!("the clients saw {saw} requests sent to {name}, and the filter's metrics say {decided}")
        })
    });
    wrong.or_else(|| {
        (seen.ejections == 0).then(|| format!("{} was killed and not ejected", plan.killed()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use clap::Parser;
    use std::time::Duration;

    fn plan() -> Plan {
        Plan::of(&Options::parse_from(["demo", "--peers", "3"]))
    }

    /// Requests of each phase, to these destinations; 503 if `ok` is false.
    fn sent(phases: &[(usize, &[(usize, usize)])]) -> Vec<Request> {
        let of = |&(phase, to): &(usize, &[(usize, usize)])| {
            let each = to.iter().flat_map(move |&(to, n)| vec![to; n]);
            let request = move |to| Request {
                sent: Duration::ZERO,
                phase,
                to: Some(to),
                status: 200,
            };
            each.map(request).collect::<Vec<_>>()
        };
        phases.iter().flat_map(of).collect()
    }

    fn run() -> Vec<Request> {
        let mut requests = sent(&[
            (0, &[(0, 10)]),
            (1, &[(0, 10), (1, 20), (2, 10)]),
            (2, &[(0, 10), (1, 80), (2, 40), (3, 40)]),
            (3, &[(0, 10), (1, 9), (2, 40), (3, 120)]),
            (4, &[(0, 10), (1, 70), (2, 40), (3, 50)]),
            (5, &[(0, 10)]),
        ]);
        for request in requests
            .iter_mut()
            .filter(|r| r.phase == 3 && r.to == Some(1))
        {
            request.status = 503;
        }
        requests
    }

    fn seen(requests: &[Request]) -> Seen {
        let to = |to| requests.iter().filter(|r| r.to == Some(to)).count() as u64;
        Seen {
            most_in_flight: vec![1, 8, 4, 12],
            decided: (0..4).map(to).collect(),
            ejections: 2,
            left: 0,
        }
    }

    fn said(requests: &[Request], change: impl FnOnce(&mut Seen)) -> Option<String> {
        let mut seen = seen(requests);
        change(&mut seen);
        broken(&plan(), requests, &seen)
    }

    #[test]
    fn a_run_as_promised_breaks_nothing() {
        assert_eq!(said(&run(), |_| {}), None);
    }

    #[test]
    fn what_the_metrics_contradict_is_named() {
        for (change, expected) in [
            (
                (|seen| seen.most_in_flight[2] = 5) as fn(&mut Seen),
                "eks had 5 requests in flight",
            ),
            (
                |seen| seen.most_in_flight[0] = 2,
                "iotcloudserve had 2 requests in flight",
            ),
            (|seen| seen.left = 1, "1 requests are counted in flight"),
            (
                |seen| seen.decided[3] += 1,
                "sent to aks, and the filter's metrics say",
            ),
            (|seen| seen.ejections = 0, "gke was killed and not ejected"),
        ] {
            let said = said(&run(), change).unwrap();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_request_that_goes_where_it_must_not_is_named() {
        let more = |phase, to, n, status| {
            let mut requests = run();
            let more = sent(&[(phase, &[(to, n)])]);
            requests.extend(more.into_iter().map(|one| Request { status, ..one }));
            requests
        };
        for (requests, expected) in [
            (
                more(4, 1, 1, 503),
                "1 requests failed that were not sent to gke",
            ),
            (
                more(3, 2, 1, 0),
                "1 requests failed that were not sent to gke",
            ),
            (
                more(3, 1, 4, 503),
                "13 requests failed when gke was killed, and at most 12",
            ),
            (more(5, 1, 1, 200), "1 requests left home while it had room"),
            (more(1, 3, 1, 200), "1 requests went to aks while a peer"),
            (more(1, 2, 30, 200), "gke got 33 % of the surplus"),
        ] {
            let said = said(&requests, |_| {}).unwrap();
            assert!(said.contains(expected), "{said}");
        }
        let without = |phase, to| {
            let requests = run().into_iter();
            let kept = requests.filter(|r| r.phase != phase || r.to != Some(to));
            kept.collect::<Vec<_>>()
        };
        for (requests, expected) in [
            (
                without(2, 3),
                "no request went to aks although the others were full",
            ),
            (without(4, 1), "no request went to gke although it was back"),
        ] {
            let said = said(&requests, |_| {}).unwrap();
            assert!(said.contains(expected), "{said}");
        }
    }
}
