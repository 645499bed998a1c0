//! Insertion into a sorted list, for binary search.

/// Inserts `next` into `order`, which contains indices sorted by their names. `name` gives the name of an index. Returns
/// false, and inserts nothing, if another index has the same name. The standard library's sort would make the module 7 kB
/// larger.
pub fn insert<'a>(order: &mut Vec<usize>, next: usize, name: impl Fn(usize) -> &'a str) -> bool {
    let place = order.binary_search_by(|other| name(*other).cmp(name(next)));
    place.map_err(|place| order.insert(place, next)).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_inserted_in_the_order_of_the_names_unless_its_name_is_known() {
        let names = ["c", "a", "b", "a"];
        let mut order = Vec::new();
        for (next, new) in [(0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(insert(&mut order, next, |n| names[n]), new);
        }
        assert_eq!(order, [1, 2, 0]);
    }
}
