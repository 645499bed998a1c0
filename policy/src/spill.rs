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
    /// The conditions of all entries. Those of the same name that follow each other share what is read.
    pub conditions: Vec<Condition>,
    /// What tells the session of a request. `None` if there are no sessions.
    pub session: Option<Session>,
}

/// A condition on one header of a request, its method or its path.
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
    /// Whether a request may be spilled. `read` returns the value of a header: its values joined by commas if it has several.
    pub fn may(&self, read: &mut dyn FnMut(&str) -> Option<Vec<u8>>) -> bool {
        // The entries of which a condition does not hold, and what was read last.
        let (mut failed, mut name, mut value) = (0u64, "", None);
        for condition in &self.conditions {
            let entry = 1u64.wrapping_shl(condition.entry);
            if failed & entry != 0 {
                continue;
            }
            if condition.name != name {
                name = &condition.name;
                value = read(name);
            }
            if !condition.holds(value.as_deref()) {
                failed |= entry;
            }
        }
        failed == 0 || failed.count_ones() < self.entries
    }
}

impl Condition {
    /// Whether it holds for this value, which is `None` if the request has none.
    fn holds(&self, value: Option<&[u8]>) -> bool {
        let (text, mut of) = (self.text.as_bytes(), value.unwrap_or_default());
        if self.name == PATH {
            // Envoy compares it without query and fragment.
            let end = of.iter().position(|byte| b"?#".contains(byte));
            of = end.and_then(|end| of.get(..end)).unwrap_or(of);
        }
        let is_so = match self.test {
            Test::Present => value.is_some(),
            _ if value.is_none() && !self.not => false,
            Test::Exact => of == text,
            Test::Prefix => of.starts_with(text),
        };
        is_so != self.not
    }
}

impl Session {
    /// The name of the header that tells the session.
    pub fn header(&self) -> &str {
        if self.is_cookie { "cookie" } else { &self.name }
    }

    /// The hash of the session of a request whose header has this value. `None` if it does not tell a session.
    pub fn of(&self, value: &[u8]) -> Option<u64> {
        let session = if self.is_cookie {
            cookie(value, &self.name)?
        } else {
            value
        };
        (!session.is_empty()).then(|| notice::hash(session))
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
