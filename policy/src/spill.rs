//! Which requests of a service may be spilled (`spill.match`), and to which session a request belongs (`spill.consistentHash`).
//!
//! The words and their meaning are those of a VirtualService's `match`, as Istio translates them for Envoy
//! (`pilot/pkg/networking/core/route/route.go`) and Envoy compares them; `tests/which_spill.rs` compares the two. Texts are
//! compared as bytes, since a client can send any.
//!
//! **Invariant: the session of a value is the same in every worker, proxy and version**: a fixed hash without a seed.

use crate::notice;

/// The name by which the path of a request is read.
pub const PATH: &str = ":path";
/// The name by which the method of a request is read.
pub const METHOD: &str = ":method";

/// The most entries of `match`.
pub const MOST_ENTRIES: usize = 64;

/// What a service's configuration says about spilling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spill {
    /// The number of entries of `match`, at most [`MOST_ENTRIES`]. A request may be spilled if all conditions of one of them hold.
    /// If there is no entry, every request may be.
    pub entries: u32,
    /// The conditions of all entries.
    pub conditions: Vec<Condition>,
    /// What tells the session of a request. `None` if there are no sessions.
    pub session: Option<Session>,
}

/// A condition on one header of a request, its method or its path. It holds if it does for one of several values of the header, as
/// in Envoy since 1.39.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The index of its entry.
    pub entry: u32,
    /// The name of the header, [`METHOD`] or [`PATH`].
    pub name: String,
    /// How its value is compared with `text`.
    pub test: Test,
    /// What its value is compared with.
    pub text: String,
    /// Whether the condition holds if the comparison fails. A header that is absent counts as empty then.
    pub not: bool,
}

/// How a value is compared with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// There is a value, whatever the text.
    Present,
    /// It is the text.
    Exact,
    /// It begins with the text.
    Prefix,
}

/// What tells the session of a request: the value of a header or of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The name of the header or of the cookie.
    pub name: String,
    /// Whether it is a cookie.
    pub is_cookie: bool,
}

impl Spill {
    /// Whether a request with these headers may be spilled.
    pub fn may(&self, headers: Headers<'_>) -> bool {
        // The entries of which a condition does not hold.
        let mut failed = 0u64;
        for condition in &self.conditions {
            let entry = 1u64.wrapping_shl(condition.entry);
            if failed & entry == 0 && !condition.holds(headers) {
                failed |= entry;
            }
        }
        failed == 0 || failed.count_ones() < self.entries
    }
}

impl Condition {
    fn holds(&self, headers: Headers<'_>) -> bool {
        let is = |value: &[u8]| match self.test {
            Test::Present => true,
            Test::Exact => value == self.text.as_bytes(),
            Test::Prefix => value.starts_with(self.text.as_bytes()),
        };
        let mut absent = true;
        let found = headers.any(&self.name, &mut |value| {
            absent = false;
            // Envoy compares a path without query and fragment.
            let query = |byte: &u8| self.name == PATH && b"?#".contains(byte);
            is(value.split(query).next().unwrap_or_default())
        });
        let empty = || self.not && self.test != Test::Present && is(b"");
        (found || absent && empty()) != self.not
    }
}

impl Session {
    /// The hash of the session of a request with these headers. `None` if they do not tell a session.
    pub fn of(&self, headers: Headers<'_>) -> Option<u64> {
        let header = if self.is_cookie { "cookie" } else { &self.name };
        let mut hash = None;
        headers.any(header, &mut |value| {
            let session = if self.is_cookie {
                cookie(value, &self.name)
            } else {
                Some(value)
            };
            let session = session.filter(|session| !session.is_empty());
            hash = session.map(notice::hash);
            hash.is_some()
        });
        hash
    }
}

/// The headers of a request as Proxy-Wasm encodes them: their number, the lengths of each name and value, and then the names and
/// values, each with a NUL at its end. What is not so has no headers.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [u8]);

impl Headers<'_> {
    /// Whether `is` is true for a value of the header of this name, in upper or lower case. It is called for one value after
    /// another, up to the first for which it is.
    #[inline(never)]
    fn any(self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let (words, _) = self.0.as_chunks();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word) as usize);
        let count = words.next().unwrap_or(0);
        let texts = count.wrapping_mul(8).wrapping_add(4);
        let mut rest = self.0.get(texts..).unwrap_or_default();
        let mut text = || {
            let (text, after) = rest.split_at_checked(words.next()?)?;
            rest = after.get(1..)?;
            Some(text)
        };
        for _ in 0..count {
            let (Some(key), Some(value)) = (text(), text()) else {
                break;
            };
            if key.eq_ignore_ascii_case(name.as_bytes()) && is(value) {
                return true;
            }
        }
        false
    }
}

/// The value of the first cookie of this name.
fn cookie<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut cookies = header.split(|byte| *byte == b';');
    cookies.find_map(|cookie| {
        let value = cookie.trim_ascii_start().strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

#[cfg(test)]
#[path = "spill_test.rs"]
mod tests;
