//! Whether a service's host was written wrong: it is none that requests come for, and they come for one that is like it.

use super::time::Millis;

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

/// From when a configuration runs until a host that is alike is looked for.
const MINUTE: Millis = Millis::seconds(60);

/// What there is to look at in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Which services are written so near to the host of this place.
    At(usize, Near),
    /// That no service is used at all.
    Whole,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    short: usize,
    alike: usize,
    whole: bool,
}

impl Looks {
    /// What is next, `running` after the configuration began to run, where requests came for so many other hosts, at least one: a short form of each at once, and
    /// after a minute one that is alike, and in the end all services together.
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

/// How `written` is like `came`; `None` if it is not, or the same.
#[inline(never)]
pub fn near(written: &str, came: &str) -> Option<Near> {
    let rest = came.strip_prefix(written);
    if rest.is_some_and(|rest| rest.starts_with('.')) {
        return Some(Near::Short);
    }
    // Not those that are numbered.
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
    fn numbered_names_are_not_alike() {
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
        // A letter is another one.
        let slip = near(&full("order-1"), &full("orders-2"));
        assert_eq!(slip, Some(Near::Alike));
    }

    /// Times are in ticks here, of which there are five in a second.
    const MINUTE: u32 = 300;

    /// What there is to look at in each tick that has something, for so many hosts in each tick.
    fn looks(ticks: u32, hosts: impl Fn(u32) -> usize) -> Vec<(u32, Look)> {
        let mut looks = Looks::default();
        let with = (0..ticks).filter(|now| hosts(*now) > 0);
        with.filter_map(|now| Some((now, looks.next(hosts(now), Millis(u64::from(now) * 200))?)))
            .collect()
    }

    #[test]
    fn that_nothing_comes_is_said_once_after_a_minute() {
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
        // The first request comes later than that.
        let late = [
            (700, Look::At(0, Short)),
            (701, Look::At(0, Alike)),
            (702, Look::Whole),
        ];
        assert_eq!(looks(5 * MINUTE, |now| usize::from(now >= 700)), late);
    }

    #[test]
    fn what_comes_later_is_looked_at_too() {
        use Near::{Alike, Short};
        let seen = looks(5 * MINUTE, |now| if now < 400 { 1 } else { 2 });
        let after = [(400, Look::At(1, Short)), (401, Look::At(1, Alike))];
        assert_eq!(seen[3..], after);
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
