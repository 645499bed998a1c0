//! Writes log lines about conditions that begin and end. [`policy::notice`] decides when. All VMs of the proxy share what is
//! known of a condition, under a key of its own.

use core::cell::{Cell, RefCell};

use crate::hostcalls::{self, Level};
use policy::names::{keys, metric};
use policy::notice::{self, Change, Line, Notice};
use policy::time::{Instant, Millis};

/// The most lines that a VM keeps for later.
const MOST_LATER: usize = 64;
/// The number of configurations of a plugin for which the filter remembers what it has written. Two whose hashes have the same
/// remainder replace each other.
const TEXTS: u64 = 64;

/// The text of a line, and the values of `%0`, `%1` and so on in it.
pub type Text<'a> = (&'a str, &'a [&'a str]);

/// No line.
pub const SILENT: Text = ("", &[]);

/// The result of a change.
#[derive(Clone, Copy, Default)]
pub struct Outcome {
    /// Whether the line was written.
    pub written: bool,
    /// 1 if the condition began, -1 if it ended, and otherwise 0.
    pub moved: i64,
}

/// A line that was kept back.
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

/// The key of a condition of this kind, for what these labels name. It ends with the version of the data under it.
#[inline(never)]
pub fn key(labels: &[(&str, &str)], kind: &str) -> String {
    let mut key = metric(labels, kind);
    key.push_str(keys::NOTICE);
    key
}

/// The condition under `key` was seen.
#[inline(never)]
pub fn begins(key: &str, of: u64, text: Text) -> Outcome {
    change(key, text, &|notice, now| notice.begins(of, now))
}

/// Something was seen that ends the condition, as in [`Notice::ends`].
#[inline(never)]
pub fn ends(key: &str, of: u64, settle: Millis, text: Text) -> Outcome {
    change(key, text, &|notice, now| notice.ends(of, settle, now))
}

/// The condition is about something that does not exist any more.
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

/// Writes the lines that were kept back and are still true. It costs nothing if there are none.
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

/// Writes these lines about a configuration of `plugin`, unless a VM of the proxy has written the same within the last minute,
/// or, for a refused configuration, since the last refusal ended.
#[inline(never)]
pub fn once(plugin: &str, level: Level, lines: &[String]) {
    let mut whole = match level {
        Level::Error => hostcalls::recall_bytes(&since_key(plugin)).unwrap_or_default(),
        _ => Vec::new(),
    };
    lines.iter().for_each(|line| whole.extend(line.as_bytes()));
    let (now, hash) = (hostcalls::monotonic(), notice::hash(&whole));
    let first = hostcalls::exchange_bytes(&hashed_key(plugin, keys::TEXT, hash), &mut |last| {
        notice::once(last, hash, now)
    });
    for line in lines.iter().filter(|_| first) {
        write(level, ("%0", &[line]));
    }
}

/// Lines about configurations of `plugin` will be written again if the same configurations come again.
pub fn anew(plugin: &str) {
    hostcalls::remember_bytes(&since_key(plugin), &hostcalls::monotonic().0.to_le_bytes());
}

fn since_key(plugin: &str) -> String {
    key(&[("plugin", plugin)], keys::TEXTS)
}

/// The key of a thing with this hash, of which a plugin can have many.
pub fn hashed_key(plugin: &str, kind: &str, hash: u64) -> String {
    let slot = (hash % TEXTS).to_string();
    key(&[("plugin", plugin), ("slot", &slot)], kind)
}
