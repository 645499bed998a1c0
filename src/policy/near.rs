//! Whether a service's host was written wrong: it is none that requests come for, and they come for one that is like it.

/// How a host that was written is like one that requests came for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// It is a short form: `a` or `a.istio` of `a.istio.svc.cluster.local`.
    Short,
    /// Its first label is the same, or one or two letters are different.
    Alike,
}

/// Letters that may be different.
const EDITS: u8 = 2;
/// Letters of a first label from which on different ones are taken for a slip.
const LONG_ENOUGH: usize = 4;

/// How `written` is like `came`; `None` if it is not, or the same.
#[inline(never)]
pub fn near(written: &str, came: &str) -> Option<Near> {
    let rest = came.strip_prefix(written);
    if rest.is_some_and(|rest| rest.starts_with('.')) {
        return Some(Near::Short);
    }
    let (first, other) = (label(written), label(came));
    let like = first == other
        || (first.len().min(other.len()) >= LONG_ENOUGH
            && within(written.as_bytes(), came.as_bytes(), EDITS));
    (like && written != came).then_some(Near::Alike)
}

fn label(host: &str) -> &[u8] {
    host.as_bytes()
        .split(|byte| *byte == b'.')
        .next()
        .unwrap_or_default()
}

/// Whether so many letters that are added, left out or exchanged make one of the other.
fn within(a: &[u8], b: &[u8], edits: u8) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (
        a.get(same..).unwrap_or_default(),
        b.get(same..).unwrap_or_default(),
    );
    if a.is_empty() || b.is_empty() {
        return a.len().max(b.len()) <= usize::from(edits);
    }
    let Some(left) = edits.checked_sub(1) else {
        return false;
    };
    let (less_a, less_b) = (
        a.get(1..).unwrap_or_default(),
        b.get(1..).unwrap_or_default(),
    );
    within(less_a, less_b, left) || within(less_a, b, left) || within(a, less_b, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "reviews.istio.svc.cluster.local";

    #[test]
    fn a_short_form_is_one_at_a_dot_only() {
        for short in ["reviews", "reviews.istio", "reviews.istio.svc"] {
            assert_eq!(near(short, FULL), Some(Near::Short), "{short}");
        }
        for other in ["review", "r", "istio", "svc.cluster.local", "", FULL] {
            assert_ne!(near(other, FULL), Some(Near::Short), "{other}");
        }
    }

    #[test]
    fn another_namespace_or_domain_and_a_slip_are_alike() {
        for slip in [
            "reviews.default.svc.cluster.local",
            "reviews.istio.svc.cluster.locl",
            "reviws.istio.svc.cluster.local",
            "rewiews.isto.svc.cluster.local",
            "ereviews.istio.svc.cluster.local",
        ] {
            assert_eq!(near(slip, FULL), Some(Near::Alike), "{slip}");
        }
    }

    #[test]
    fn other_services_are_not_alike() {
        for other in [
            "ratings.istio.svc.cluster.local",
            "reviws.ist.svc.cluster.loca",
            FULL,
        ] {
            assert_eq!(near(other, FULL), None, "{other}");
        }
        let short = |name: &str| format!("{name}.istio.svc.cluster.local");
        assert_eq!(near(&short("a"), &short("b")), None, "names of one letter");
    }

    #[test]
    fn letters_are_counted_both_ways() {
        for (a, b, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("ab", "ba", 2),
            ("abc", "bcd", 2),
            ("kitten", "sitting", 3),
        ] {
            let [a, b] = [a, b].map(str::as_bytes);
            for (a, b) in [(a, b), (b, a)] {
                assert!(within(a, b, edits));
                assert!(edits == 0 || !within(a, b, edits - 1));
            }
        }
    }
}
