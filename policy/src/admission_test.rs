use super::*;

/// Carries out all steps of one request on `count`, without other requests.
fn alone(limit: u32, expect_room: bool, count: &mut i64) -> Admission {
    let mut admit = Admit::new(limit, expect_room);
    let mut seen = 0;
    loop {
        match admit.step(Some(seen)) {
            Step::Read => seen = *count,
            Step::Add(n) => *count += n,
            Step::Done(admission) => return admission,
        }
    }
}

#[test]
fn without_competition_as_many_requests_as_the_limit_are_admitted() {
    for expect_room in [false, true] {
        let mut count = 0;
        for n in 1..=4 {
            assert_eq!(alone(4, expect_room, &mut count), Admission::Admitted);
            assert_eq!(count, n);
        }
        assert_eq!(alone(4, expect_room, &mut count), Admission::Full);
        assert_eq!(count, 4, "a refused request does not change the count");
    }
}

#[test]
fn a_count_above_the_limit_admits_no_request() {
    let mut count = 9;
    assert_eq!(alone(4, true, &mut count), Admission::Full);
    assert_eq!(count, 9);
}

#[test]
fn a_request_that_always_loses_ends_as_contended_after_all_attempts() {
    let mut admit = Admit::new(1, false);
    let (mut seen, mut adds) = (0, 0);
    // In the worst case, the place is free each time it reads the count before it adds, and taken each time it reads
    // afterwards.
    for step in 0..1000 {
        match admit.step(Some(seen)) {
            Step::Read => seen = if admit.holds() { 2 } else { 0 },
            Step::Add(n) => adds += n,
            Step::Done(admission) => {
                assert_eq!(admission, Admission::Contended);
                assert_eq!(adds, 0);
                assert_eq!(step, u32::from(TRIES) * 4);
                return;
            }
        }
    }
    unreachable!("it never ended");
}

/// Explores all orders of the steps of `requests` on one count, depth first, and checks each state. `budget` is the number
/// of further steps. `ends` counts the states in which all requests have their outcome.
fn explore(
    requests: &mut [(Admit, i64, Option<Admission>)],
    count: i64,
    limit: i64,
    budget: u32,
    ends: &mut u64,
) {
    let admitted = requests
        .iter()
        .filter(|(_, _, end)| *end == Some(Admission::Admitted))
        .count() as i64;
    assert!(admitted <= limit, "more admitted than the limit");
    let held = requests.iter().filter(|(admit, ..)| admit.holds()).count() as i64;
    assert_eq!(
        count, held,
        "the count is the sum of what the requests hold"
    );
    if requests.iter().all(|(_, _, end)| end.is_some()) {
        assert_eq!(count, admitted);
        *ends += 1;
    }
    if budget == 0 {
        return;
    }
    for i in 0..requests.len() {
        let before = requests[i];
        if before.2.is_some() {
            continue;
        }
        let (admit, seen, end) = &mut requests[i];
        let mut next = count;
        match admit.step(Some(*seen)) {
            Step::Read => *seen = count,
            Step::Add(n) => next += n,
            Step::Done(admission) => *end = Some(admission),
        }
        explore(requests, next, limit, budget - 1, ends);
        requests[i] = before;
    }
}

#[test]
fn no_more_requests_are_admitted_than_the_limit_in_any_order_of_three_workers() {
    for limit in [1u32, 2] {
        for expect in 0..8u8 {
            let mut requests: Vec<_> = (0..3)
                .map(|i| (Admit::new(limit, expect & (1 << i) != 0), 0, None))
                .collect();
            let mut ends = 0;
            explore(&mut requests, 0, limit.into(), 14, &mut ends);
            assert!(ends > 0, "no order came to its end");
        }
    }
}

/// Whatever is refused, once: the count is as if the request had not come, and it is not admitted.
#[test]
fn a_request_that_envoy_refuses_to_count_leaves_nothing_in_the_count() {
    for (others, expect_room) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut refusals = 0;
        for refused in 0.. {
            let (mut admit, mut count) = (Admit::new(1, expect_room), others);
            let (mut seen, mut done) = (Some(0), None);
            for n in 0..200 {
                let step = admit.step(seen);
                seen = Some(count).filter(|_| n != refused);
                match step {
                    Step::Add(n) if seen.is_some() => count += n,
                    Step::Add(_) | Step::Read => {}
                    Step::Done(admission) => {
                        done = Some((n, admission));
                        break;
                    }
                }
            }
            let (steps, admission) = done.expect("it ends");
            if steps <= refused {
                break;
            }
            refusals += 1;
            assert_eq!((admission, count), (Admission::Refused, others));
        }
        assert!(refusals > 0);
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The steps of many requests of eight workers run in a random order, and requests end at random moments.
        #[test]
        fn the_count_is_exact_in_any_order_of_the_steps(
            limit in 1u32..6,
            picks in prop::collection::vec((0usize..8, any::<bool>()), 1..2000),
        ) {
            let mut count = 0i64;
            let mut workers: Vec<Option<(Admit, i64)>> = vec![None; 8];
            let mut admitted = [false; 8];
            for (i, expect_room) in picks {
                if admitted[i] {
                    admitted[i] = false;
                    count -= 1;
                    continue;
                }
                let (mut admit, mut seen) = workers[i].take().unwrap_or((Admit::new(limit, expect_room), 0));
                match admit.step(Some(seen)) {
                    Step::Read => seen = count,
                    Step::Add(n) => count += n,
                    Step::Done(Admission::Admitted) => { admitted[i] = true; continue }
                    Step::Done(_) => continue,
                }
                workers[i] = Some((admit, seen));
                let now = admitted.iter().filter(|a| **a).count();
                prop_assert!(now <= limit as usize);
                let held = workers.iter().flatten().filter(|(a, _)| a.holds()).count();
                prop_assert_eq!(count, (now + held) as i64);
            }
        }
    }
}
