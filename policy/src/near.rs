//! Whether the host of a service was probably misspelled in the configuration: no requests come for it, but some come for a
//! similar host.

use super::time::Millis;

/// How a configured host is similar to a host for which requests came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// It is a short form, such as `a` or `a.istio` for `a.istio.svc.cluster.local`.
    Short,
    /// Its first label is the same, or one or two letters differ.
    Alike,
}

/// The most letters that may differ.
const EDITS: u8 = 2;
/// The least number of letters of a first label for which differing letters count as a spelling mistake.
const LONG_ENOUGH: usize = 4;

/// The time from the start of a configuration until it is searched for similar hosts.
const MINUTE: Millis = Millis::seconds(60);

/// A comparison for one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Which services have a host that is similar in this way to the host with this index, of those for which requests
    /// came.
    At(usize, Near),
    /// Whether no service at all has had a request.
    Whole,
}

/// The comparisons that were made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    short: usize,
    alike: usize,
    whole: bool,
}

impl Looks {
    /// The next comparison, or `None` if there is nothing to compare now. `hosts` is the number of unknown hosts for which
    /// requests came, at least 1, and `running` is the time since the configuration began to run. Each host is compared
    /// with short forms at once, and with similar hosts after a minute. After that, all services are checked together once.
    pub fn next(&mut self, hosts: usize, running: Millis) -> Option<Look> {
        let (kind, at) = if self.short < hosts {
            (Near::Short, &mut self.short)
        } else if running < MINUTE {
            return None;
        } else if self.alike < hosts {
            (Near::Alike, &mut self.alike)
        } else {
            let first = !core::mem::replace(&mut self.whole, true);
            return first.then_some(Look::Whole);
        };
        let n = *at;
        *at = n.saturating_add(1);
        Some(Look::At(n, kind))
    }
}

/// How the configured host `written` is similar to the host `came` of a request. `None` if it is not similar, or the same.
#[inline(never)]
pub fn near(written: &str, came: &str) -> Option<Near> {
    let rest = came.strip_prefix(written);
    if rest.is_some_and(|rest| rest.starts_with('.')) {
        return Some(Near::Short);
    }
    // Names that differ only in their numbers are different services.
    if letters(written).eq(letters(came)) {
        return None;
    }
    let (first, other) = (label(written), label(came));
    let like = first == other
        || (first.len().min(other.len()) >= LONG_ENOUGH
            && within(written.as_bytes(), came.as_bytes(), EDITS));
    like.then_some(Near::Alike)
}

fn letters(host: &str) -> impl Iterator<Item = u8> {
    host.bytes().filter(|byte| !byte.is_ascii_digit())
}

fn label(host: &str) -> &[u8] {
    host.as_bytes()
        .split(|byte| *byte == b'.')
        .next()
        .unwrap_or_default()
}

/// Whether `edits` letters that are added, removed or changed, or fewer, make one text from the other.
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
    fn a_short_form_ends_at_a_dot() {
        for short in ["reviews", "reviews.istio", "reviews.istio.svc"] {
            assert_eq!(near(short, FULL), Some(Near::Short), "{short}");
        }
        for other in ["review", "r", "istio", "svc.cluster.local", "", FULL] {
            assert_ne!(near(other, FULL), Some(Near::Short), "{other}");
        }
    }

    #[test]
    fn a_host_with_another_namespace_or_domain_or_a_spelling_mistake_is_similar() {
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
    fn the_host_of_another_service_is_not_similar() {
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
    fn names_that_differ_only_in_their_numbers_are_not_similar() {
        let full = |name: &str| format!("{name}.shop.svc.cluster.local");
        for (a, b) in [
            ("orders-1", "orders-2"),
            ("orders", "orders2"),
            ("v9-orders", "v10-orders"),
        ] {
            assert_eq!(near(&full(a), &full(b)), None, "{a} {b}");
            assert_eq!(near(&full(b), &full(a)), None, "{a} {b}");
        }
        let tenants = ["a.t1.svc.cluster.local", "a.t2.svc.cluster.local"];
        assert_eq!(near(tenants[0], tenants[1]), None);
        // A letter differs in addition.
        let slip = near(&full("order-1"), &full("orders-2"));
        assert_eq!(slip, Some(Near::Alike));
    }

    /// In these tests the times are in ticks. A second has five.
    const MINUTE: u32 = 300;

    /// The ticks that have a comparison, with the comparison. `hosts` gives the number of hosts at each tick.
    fn looks(ticks: u32, hosts: impl Fn(u32) -> usize) -> Vec<(u32, Look)> {
        let mut looks = Looks::default();
        let with = (0..ticks).filter(|now| hosts(*now) > 0);
        with.filter_map(|now| Some((now, looks.next(hosts(now), Millis(u64::from(now) * 200))?)))
            .collect()
    }

    #[test]
    fn short_forms_are_compared_at_once_and_everything_else_once_after_a_minute() {
        use Near::{Alike, Short};
        let all = [
            (0, Look::At(0, Short)),
            (1, Look::At(1, Short)),
            (MINUTE, Look::At(0, Alike)),
            (MINUTE + 1, Look::At(1, Alike)),
            (MINUTE + 2, Look::Whole),
        ];
        assert_eq!(looks(5 * MINUTE, |_| 2), all);
        assert_eq!(looks(MINUTE, |_| 2), all[..2]);
        // The first request comes after that time.
        let late = [
            (700, Look::At(0, Short)),
            (701, Look::At(0, Alike)),
            (702, Look::Whole),
        ];
        assert_eq!(looks(5 * MINUTE, |now| usize::from(now >= 700)), late);
    }

    #[test]
    fn a_host_that_comes_later_is_compared_too() {
        use Near::{Alike, Short};
        let seen = looks(5 * MINUTE, |now| if now < 400 { 1 } else { 2 });
        let after = [(400, Look::At(1, Short)), (401, Look::At(1, Alike))];
        assert_eq!(seen[3..], after);
    }

    #[test]
    fn the_number_of_differing_letters_is_the_same_in_both_directions() {
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
