use super::*;

fn peer(priority: u32, weight: u32, name: u64) -> Candidate {
    Candidate {
        priority,
        weight,
        hash: draw::mix(name),
        open: true,
        limit: None,
        detects: false,
    }
}

/// All peers in the order in which one request asks them.
fn by_chance(peers: &[Candidate], draws: &mut Draws) -> Vec<usize> {
    let mut select = Select::default();
    std::iter::from_fn(|| Some(select.next(peers, By::Chance(draws))?.index())).collect()
}

fn by_session(peers: &[Candidate], session: u64) -> Vec<usize> {
    let mut select = Select::default();
    std::iter::from_fn(|| Some(select.next(peers, By::Session(session))?.index())).collect()
}

/// Of so many requests, the percentage for each peer of these weights, if `first` tells who takes a request.
fn shares(weights: &[u32], mut first: impl FnMut(&[Candidate], u64) -> usize) -> Vec<f64> {
    let peers: Vec<_> = weights
        .iter()
        .zip(1..)
        .map(|(w, n)| peer(0, *w, n))
        .collect();
    let mut taken = vec![0.0; weights.len()];
    for request in 0..10_000 {
        taken[first(&peers, request)] += 0.01;
    }
    taken
}

/// That no share is more than two points away from its weight's.
fn assert_by_weight(weights: &[u32], shares: &[f64]) {
    let total: u32 = weights.iter().sum();
    for (weight, share) in weights.iter().zip(shares) {
        let expected = 100.0 * f64::from(*weight) / f64::from(total);
        assert!((share - expected).abs() <= 2.0, "{weights:?}: {shares:?}");
    }
}

const WEIGHTS: [&[u32]; 5] = [
    &[1],
    &[1, 1],
    &[1, 3],
    &[90, 9, 1],
    &[5, 1, 1, 1, 2, 7, 1, 1, 1, 1, 3, 1, 1, 1, 1, 9],
];

#[test]
fn by_chance_each_peer_of_a_priority_gets_its_part_by_weight() {
    for weights in WEIGHTS {
        let mut draws = Draws::new(7);
        let shares = shares(weights, |peers, _| by_chance(peers, &mut draws)[0]);
        assert_by_weight(weights, &shares);
    }
}

#[test]
fn sessions_are_spread_by_weight_too() {
    for weights in WEIGHTS {
        let shares = shares(weights, |peers, session| by_session(peers, session)[0]);
        assert_by_weight(weights, &shares);
    }
}

#[test]
fn what_a_full_peer_does_not_take_goes_to_the_others_by_their_weights() {
    let weights = [2, 6, 1, 1];
    let mut draws = Draws::new(3);
    let taken = shares(&weights, |peers, _| {
        let order = by_chance(peers, &mut draws);
        order
            .into_iter()
            .find(|nth| *nth != 1)
            .expect("there are others")
    });
    assert_by_weight(&[2, 0, 1, 1], &taken);
}

#[test]
fn a_session_moves_only_if_its_peer_leaves() {
    let peers: Vec<_> = (1..=16).map(|n| peer(0, n as u32, n)).collect();
    for gone in 0..peers.len() {
        let mut rest = peers.clone();
        rest.remove(gone);
        for session in 0..2_000 {
            let before = by_session(&peers, session);
            let after = peers_of(&rest, by_session(&rest, session));
            let expected: Vec<_> = before.into_iter().filter(|nth| *nth != gone).collect();
            assert_eq!(
                after,
                peers_of(&peers, expected),
                "the order of the others is the same"
            );
        }
    }
}

fn peers_of(peers: &[Candidate], order: Vec<usize>) -> Vec<u64> {
    order.into_iter().map(|nth| peers[nth].hash).collect()
}

#[test]
fn a_session_stays_if_the_peers_are_written_in_another_order() {
    let peers: Vec<_> = (1..=9)
        .map(|n| peer(n as u32 % 2, 1 + n as u32 % 3, n))
        .collect();
    let turned: Vec<_> = peers.iter().rev().copied().collect();
    for session in 0..2_000 {
        let of = |peers: &[Candidate]| peers_of(peers, by_session(peers, session));
        assert_eq!(of(&peers), of(&turned));
    }
}

#[test]
fn the_wait_is_the_logarithm_of_a_number_between_0_and_1() {
    for key in 0..1_000u64 {
        let number = (draw::mix(key) | 1) as f64 / 2f64.powi(64);
        let wait = wait(key) as f64 / 2f64.powi(32);
        assert!((wait + number.log2()).abs() < 1e-6, "{key}");
    }
}

#[test]
fn a_peer_that_is_not_open_is_not_asked() {
    let mut peers: Vec<_> = (1..=4).map(|n| peer(n as u32 % 2, 1, n)).collect();
    peers[1].open = false;
    peers[2].open = false;
    let select = Select::default();
    assert!(!select.is_a_choice(&peers), "one of each priority");
    for order in [by_chance(&peers, &mut Draws::new(1)), by_session(&peers, 1)] {
        assert_eq!(order, [3, 0]);
    }
    peers[1].open = true;
    assert!(select.is_a_choice(&peers));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_peer_is_asked_once_and_those_of_a_lower_priority_value_first(
            peers in prop::collection::vec((0..4u32, 1..1_000u32), 0..=MOST_PEERS),
            seed: u64,
        ) {
            let peers: Vec<_> = peers.iter().zip(0..).map(|((p, w), n)| peer(*p, *w, n)).collect();
            for order in [by_chance(&peers, &mut Draws::new(seed)), by_session(&peers, seed)] {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                prop_assert!(sorted.into_iter().eq(0..peers.len()));
                prop_assert!(order.is_sorted_by_key(|nth| peers[*nth].priority));
            }
        }
    }
}
