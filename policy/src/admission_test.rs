use super::*;

/// Runs one request alone against `count` to its end.
fn alone(limit: u32, expect_room: bool, count: &mut i64) -> Admission {
    let mut admit = Admit::new(limit, expect_room);
    let mut seen = 0;
    loop {
        match admit.step(seen) {
            Step::Read => seen = *count,
            Step::Add(n) => *count += n,
            Step::Done(admission) => return admission,
        }
    }
}

#[test]
fn alone_the_first_limit_requests_get_in_and_the_next_does_not() {
    for expect_room in [false, true] {
        let mut count = 0;
        for n in 1..=4 {
            assert_eq!(alone(4, expect_room, &mut count), Admission::Admitted);
            assert_eq!(count, n);
        }
        assert_eq!(alone(4, expect_room, &mut count), Admission::Full);
        assert_eq!(count, 4, "a refused request leaves no trace");
    }
}

#[test]
fn a_count_that_others_drove_beyond_the_limit_admits_nobody() {
    let mut count = 9;
    assert_eq!(alone(4, true, &mut count), Admission::Full);
    assert_eq!(count, 9);
}

#[test]
fn a_lost_race_ends_and_is_told_apart() {
    let mut admit = Admit::new(1, false);
    let (mut seen, mut adds) = (0, 0);
    // Seen from here the slot is always free when looked at, and always taken once added: the worst neighbour.
    for step in 0..1000 {
        match admit.step(seen) {
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

/// All orders of the steps of `workers` requests on one count, depth first. `spent` bounds the races that are followed.
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
        match admit.step(*seen) {
            Step::Read => *seen = count,
            Step::Add(n) => next += n,
            Step::Done(admission) => *end = Some(admission),
        }
        explore(requests, next, limit, budget - 1, ends);
        requests[i] = before;
    }
}

#[test]
fn never_more_admitted_than_the_limit_in_any_order_of_three_workers() {
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

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Many requests of several workers in a random order, released at random: a virtual clock of single steps.
        #[test]
        fn the_count_is_exact_whatever_the_order(
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
                match admit.step(seen) {
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
