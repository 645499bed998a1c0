//! Writes the lines about conditions that begin and end: [`policy::notice`] says when. What is known of a condition is
//! shared by all VMs of the proxy, under a key of its own.

use core::cell::{Cell, RefCell};

use crate::hostcalls::{self, Level};
use policy::names::metric;
use policy::notice::{self, Change, Line, Notice};
use policy::time::{Instant, Millis};

/// Lines that a VM keeps for later, at the most.
const MOST_LATER: usize = 64;
/// Configurations of a plugin of which what was written is remembered. Two whose hashes are the same here push each other out.
const TEXTS: u64 = 64;

/// The text of a line, and what stands in it for `%0`, `%1` and so on.
pub type Text<'a> = (&'a str, &'a [&'a str]);

/// That there is no line.
pub const SILENT: Text = ("", &[]);

/// What came of a change.
#[derive(Clone, Copy, Default)]
pub struct Outcome {
    /// The line was written.
    pub written: bool,
    /// 1 if the condition began, -1 if it ended, 0 if neither.
    pub moved: i64,
}

/// A line that was kept from being written.
struct Later {
    key: String,
    at: Instant,
    stands: bool,
    text: String,
}

thread_local! {
    static LATER: RefCell<Vec<Later>> = const { RefCell::new(Vec::new()) };
    /// Whether there are any.
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// The key of a condition of this kind, of whatever these labels name. It ends in the version of what is written there.
#[inline(never)]
pub fn key(labels: &[(&str, &str)], kind: &str) -> String {
    let mut key = metric(labels, kind);
    key.push_str(".notice.1");
    key
}

/// The condition under `key` was seen.
#[inline(never)]
pub fn begins(key: &str, of: u64, text: Text) -> Outcome {
    change(key, text, &|notice, now| notice.begins(of, now))
}

/// Something was seen that ends it, as in [`Notice::ends`].
#[inline(never)]
pub fn ends(key: &str, of: u64, settle: Millis, text: Text) -> Outcome {
    change(key, text, &|notice, now| notice.ends(of, settle, now))
}

/// It is of something that is not there any more.
#[inline(never)]
pub fn forget(key: &str) -> Outcome {
    change(key, SILENT, &|notice, _| {
        Some((notice.forgotten()?, Line::Nothing))
    })
}

/// Changes what is known of a condition.
#[inline(never)]
pub fn change(key: &str, text: Text, to: &dyn Fn(&Notice, Instant) -> Change) -> Outcome {
    let now = hostcalls::monotonic();
    let mut changed = (Notice::default(), Notice::default(), Line::Nothing);
    let written = hostcalls::exchange_bytes(key, &mut |bytes| {
        let before = Notice::from_bytes(bytes);
        let (after, line) = to(&before, now)?;
        changed = (before, after, line);
        Some(after.to_bytes())
    });
    if !written {
        return Outcome::default();
    }
    let (before, after, line) = changed;
    match line {
        Line::Write => write(Level::Warn, text),
        Line::Later(at) => keep(Later {
            key: key.to_owned(),
            at,
            stands: after.stands,
            text: fill(text),
        }),
        Line::Nothing => {}
    }
    Outcome {
        written: line == Line::Write,
        moved: i64::from(after.stands).saturating_sub(before.stands.into()),
    }
}

/// Writes what was kept for later and is still true. Costs nothing where there is nothing.
pub fn tick() {
    if WAITS.get() {
        write_later();
    }
}

#[cold]
#[inline(never)]
fn write_later() {
    let now = hostcalls::monotonic();
    let _ = LATER.try_with(|later| {
        let Ok(mut later) = later.try_borrow_mut() else {
            return;
        };
        later.retain(|one| {
            if one.at > now {
                return true;
            }
            let due = hostcalls::exchange_bytes(&one.key, &mut |bytes| {
                let after = Notice::from_bytes(bytes).due(one.stands, now)?;
                Some(after.to_bytes())
            });
            if due {
                log::warn!("{}", one.text);
            }
            false
        });
        WAITS.set(!later.is_empty());
    });
}

#[cold]
#[inline(never)]
fn keep(one: Later) {
    if one.text.is_empty() {
        return;
    }
    let _ = LATER.try_with(|later| {
        let Ok(mut later) = later.try_borrow_mut() else {
            return;
        };
        later.retain(|other| other.key != one.key || other.stands != one.stands);
        if later.len() < MOST_LATER {
            later.push(one);
        }
        WAITS.set(true);
    });
}

/// Writes a line.
#[inline(never)]
pub fn write(level: Level, text: Text) {
    let line = fill(text);
    if !line.is_empty() {
        log::log!(level, "{line}");
    }
}

#[inline(never)]
fn fill((text, with): Text) -> String {
    let mut out = String::new();
    if !text.is_empty() {
        out.push_str("peer-spillover: ");
    }
    let mut parts = text.split('%');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digit = part.bytes().next().unwrap_or_default().wrapping_sub(b'0');
        out.push_str(with.get(usize::from(digit)).copied().unwrap_or_default());
        out.push_str(part.get(1..).unwrap_or_default());
    }
    out
}

/// Writes these lines about a configuration of `plugin`, if no VM of the proxy has written the same within a minute; of a
/// refused one, since the last refused one ended.
#[inline(never)]
pub fn once(plugin: &str, level: Level, lines: &[String]) {
    let mut whole = match level {
        Level::Error => hostcalls::recall_bytes(&since_key(plugin)).unwrap_or_default(),
        _ => Vec::new(),
    };
    lines.iter().for_each(|line| whole.extend(line.as_bytes()));
    let (now, hash) = (hostcalls::monotonic(), notice::hash(&whole));
    let first = hostcalls::exchange_bytes(&hashed_key(plugin, "text", hash), &mut |last| {
        notice::once(last, hash, now)
    });
    for line in lines.iter().filter(|_| first) {
        write(level, ("%0", &[line]));
    }
}

/// What was written of configurations of `plugin` is written again if it comes again.
pub fn anew(plugin: &str) {
    hostcalls::remember_bytes(&since_key(plugin), &hostcalls::monotonic().0.to_le_bytes());
}

fn since_key(plugin: &str) -> String {
    key(&[("plugin", plugin)], "texts")
}

/// The key of something that has this hash, of which a plugin has many.
pub fn hashed_key(plugin: &str, kind: &str, hash: u64) -> String {
    let slot = (hash % TEXTS).to_string();
    key(&[("plugin", plugin), ("slot", &slot)], kind)
}
