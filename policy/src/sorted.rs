//! A list in order, for a binary search.

/// Inserts `next` into indices that are in the order of their names. False where another has its name. A sort would make
/// the module 7 kB larger.
pub fn insert<'a>(order: &mut Vec<usize>, next: usize, name: impl Fn(usize) -> &'a str) -> bool {
    let place = order.binary_search_by(|other| name(*other).cmp(name(next)));
    place.map_err(|place| order.insert(place, next)).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_inserted_in_the_order_of_their_names_once() {
        let names = ["c", "a", "b", "a"];
        let mut order = Vec::new();
        for (next, new) in [(0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(insert(&mut order, next, |n| names[n]), new);
        }
        assert_eq!(order, [1, 2, 0]);
    }
}
