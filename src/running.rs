//! The root contexts of this VM: which one of a plugin is the current one, which of them tick, and what one goes on with whose
//! configuration was refused.

mod record;
mod said;

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use super::host::{self, Kind};
use super::plugin::Plugin;
use super::sign::{self, Sign};
use super::tick::TICK;
use config::Role;
use policy::names::metric;
use policy::notice;
use record::{Record, Work};
pub use said::{anywhere, is_said, same_module};
use said::{build, heartbeat, workers};

/// The id of no root context.
const NO_ROOT: u32 = 0;

/// Ticks between two heartbeats: a second, of the five in which one counts.
const BEAT_AFTER: u8 = 5;

/// How a root context stands among those of its plugin in this VM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that requests come to: it says that it runs, and what is refused goes on with it.
    Current,
    /// Another came after it, which has the same services: that one does all the work for them.
    Shared,
    /// Another came after it, or nothing runs: only its own streams are left to it, if any.
    Before,
}

/// The directions of the listeners that a root context serves, as far as they are known: a bit for each. Envoy tells them
/// to requests alone, and gives listeners whose configuration is the same one root context.
pub type Sides = u8;

thread_local! {
    /// Counts the changes of what runs: a root context becomes the current one, is known to serve another side, or ends.
    static CHANGES: Cell<u32> = const { Cell::new(0) };
    /// What runs in this VM: one record for each root context that lives, the current one of a plugin after its others.
    /// All are kept, since Envoy goes back to an old one without a word where its configuration comes back and a stream
    /// has kept it alive, or a listener that drains. So many live at once: one of each configuration of the last ten minutes,
    /// by Envoy's default, where configurations come with the listener.
    static RUNNING: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
}

/// Makes the root context `root` the current one of `plugin`, with a good configuration. It says so from its next tick on.
pub fn start(root: u32, standing: &Rc<Cell<Standing>>, at_work: &Rc<Plugin>) {
    let (plugin, role) = (&*at_work.name, at_work.role);
    let info = [
        ("plugin", plugin),
        ("role", role.word()),
        ("version", env!("CARGO_PKG_VERSION")),
        ("mode", at_work.mode.word()),
        ("cluster", &at_work.cluster),
    ];
    let sign = |labels: &[(&str, &str)], name: &str| {
        let account = sign::account(&metric(labels, name))?;
        let mut known = None;
        change(|records| {
            let works = records.iter().filter_map(|record| record.work.as_ref());
            let mut signs = works.flat_map(|work| work.gauges.iter().flatten());
            known = signs.find(|sign| sign.is_of(&account)).cloned();
        });
        Some(known.unwrap_or_else(|| Sign::new(account)))
    };
    let work = Work {
        role,
        gauges: [sign(&info, "info"), sign(&info[..2], "configured")],
        heartbeat: host::metric(Kind::Gauge, &heartbeat(plugin, role)),
        workers: host::metric(Kind::Gauge, &workers(plugin, role)),
        at_work: Rc::clone(at_work),
    };
    let record = Record::new(root, plugin, Some(work), standing);
    change(|records| lead(records, record));
}

/// Remembers the root context `root`, whose configuration was refused. Whether anything may run in this VM that it could go
/// on with.
pub fn refused(root: u32, standing: &Rc<Cell<Standing>>, plugin: &str, role: Option<Role>) -> bool {
    let mut found = false;
    let account = sign::account(&metric(&[("plugin", plugin)], "config_refused"));
    change(|records| {
        found = records.iter().any(|other| other.runs(plugin, role));
        records.retain(|other| other.root != root);
        let mut record = Record::new(root, plugin, None, standing);
        record.refused = true;
        record.refusal = account.map(|account| (account, role));
        // Behind what runs, which stays the current one until a request comes to this.
        records.insert(0, record);
    });
    found
}

/// Makes the root context `root`, whose configuration was refused, the current one, with what runs of its plugin in this VM,
/// in the same role (where the refused configuration says one) and on the side of its request. The sides that this has;
/// nothing where nothing runs: then it may go on with what comes later.
pub fn take_over(root: u32, role: Option<Role>, side: Sides) -> Option<(Sides, Rc<Plugin>)> {
    let mut found = None;
    change(|records| {
        let of = records.iter().find(|record| record.root == root);
        let Some(plugin) = of.map(|record| record.plugin.clone()) else {
            return;
        };
        // What ended without a request in this VM was replaced by this; what lives without one may be another listener's.
        let ours = |other: &&Record| {
            other.sides & side != 0 || (other.sides == 0 && other.root == NO_ROOT)
        };
        let others = records.iter().rev().filter(|other| other.root != root);
        let mut others = others
            .filter(|other| other.runs(&plugin, role))
            .filter(ours);
        let Some(newest) = others.next() else { return };
        let (sides, work) = (newest.sides | side, newest.work.clone());
        let role_of = |record: &Record| record.work.as_ref().map(|work| work.role);
        let one = role_of(newest);
        if role.is_none() && others.any(|other| role_of(other) != one) {
            return;
        }
        let Some(before) = records.extract_if(.., |r| r.root == root).next() else {
            return;
        };
        found = work.as_ref().map(|work| (sides, work.at_work.clone()));
        let mut record = Record::new(root, &plugin, work, &before.standing);
        (record.sides, record.refused) = (sides, true);
        record.refusal = before.refusal.clone();
        // What it went on with before, for another side, it says no more, but not before it says this.
        if before.says {
            record.say();
        }
        lead(records, record);
    });
    found
}

/// Remembers the sides of the listeners of `root`.
pub fn on_sides(root: u32, sides: Sides) {
    changed();
    change(|records| {
        let of = records.iter_mut().filter(|record| record.root == root);
        of.for_each(|record| record.sides = sides);
    });
}

/// The root context `root`, whose configuration was refused, lives: from now on that shows.
pub fn refusal_stands(root: u32) {
    change(|records| {
        if let Some(record) = records.iter_mut().find(|record| record.root == root)
            && record.show_refusal(true)
        {
            said::refused(&record.plugin);
        }
    });
}

/// Makes `root` the current one again: a request came to it, and it ticks.
pub fn again(root: u32) {
    change(|records| {
        if let Some(mut record) = take(records, root) {
            record.rests = false;
            lead(records, record);
        }
    });
}

/// Shows that `root` is alive, if it is a current one, once in [`BEAT_AFTER`] ticks. Called at each tick; the first says that it
/// runs at all, since the VM in which Envoy only tries a configuration has none, and is never told that it ends.
pub fn beat(root: u32) {
    change(|records| {
        let mut current = records.iter_mut().filter(|record| record.root == root);
        if let Some(record) = current.find(|record| record.standing.get() == Standing::Current) {
            record.silent = record.silent.saturating_add(1);
            if !record.says || record.silent >= BEAT_AFTER {
                record.say();
            }
        }
    });
}

/// Whether `root`, which is not the current one, may stop its ticks. Not where no other root context ticks, since a VM that does
/// not tick is dead to the others.
pub fn rest(root: u32) -> bool {
    let mut found = false;
    change(|records| {
        found = ticking(records).is_some_and(|other| other != root);
        if found && let Some(record) = records.iter_mut().find(|record| record.root == root) {
            record.rests = true;
        }
    });
    found
}

/// The root context that ticks whatever the others do: the current one of a plugin, or the newest.
fn ticking(records: &[Record]) -> Option<u32> {
    let (mut one, mut is_current) = (None, false);
    for record in records.iter().filter(|record| record.root != NO_ROOT) {
        let current = record.standing.get() == Standing::Current;
        if current || !is_current {
            (one, is_current) = (Some(record.root), current);
        }
    }
    one
}

/// The record of `root`, taken out.
#[inline(never)]
fn take(records: &mut Vec<Record>, root: u32) -> Option<Record> {
    records.extract_if(.., |record| record.root == root).next()
}

/// Says no more that `root` runs anything. If it was the current one, that is the newest other of its plugin now.
pub fn stop(root: u32) {
    change(|records| {
        end(records, root);
        let next = ticking(records);
        let wakes = |record: &&mut Record| {
            let current = record.standing.get() == Standing::Current;
            record.rests && (current || Some(record.root) == next)
        };
        for record in records.iter_mut().filter(wakes) {
            record.rests = false;
            if host::set_effective_context(record.root) {
                host::set_tick_period(TICK);
            }
        }
    });
}

fn end(records: &mut Vec<Record>, root: u32) {
    let found = take(records, root);
    let Some(mut gone) = found else { return };
    changed();
    let (plugin, side) = (gone.plugin.clone(), gone.sides);
    let mut others = records.iter().filter(|other| other.plugin == plugin);
    if gone.shows_refusal && others.clone().all(|other| !other.refused) {
        // What it was refused in the place of was in force all the time.
        let work = others.rfind(|other| other.says);
        if let Some(work) = work.and_then(|other| other.work.as_ref()) {
            said::announce(&work.at_work);
        }
    }
    let lives = |record: &Record| record.plugin == plugin && record.root != NO_ROOT;
    if !records.iter().any(lives) {
        records.retain(|record| record.plugin != plugin);
    } else if gone.standing.get() != Standing::Current {
        // Another does its work.
    } else if records.iter().any(|other| other.may_want(&plugin, side)) {
        // If Envoy goes to that one, the good one before is what ends here: it takes it over with its next request.
        gone.root = NO_ROOT;
        records.push(gone);
    } else if let Some(other) = records
        .iter_mut()
        .rfind(|r| r.root != NO_ROOT && r.is_of(&plugin, side))
    {
        if other.said {
            other.say();
        }
        rank(records, &plugin, side);
    }
}

/// Puts `record` before all others of its plugin and side.
fn lead(records: &mut Vec<Record>, mut record: Record) {
    let (plugin, side) = (record.plugin.clone(), record.sides);
    let others = |other: &&mut Record| other.is_of(&plugin, side);
    // What takes the place of one that says so is in a VM that stays, and says so at once, before the other takes it
    // back: there must be no moment in which nothing seems to run.
    if records.iter_mut().filter(others).any(|other| other.says) {
        record.say();
    }
    let role = record.work.as_ref().map(|work| work.role);
    let digest = record.work.as_ref().map_or(0, |work| work.at_work.digest);
    for other in records.iter_mut().filter(others) {
        other.retract(digest);
        let same =
            |(_, refused): &(_, Option<Role>)| refused.is_none_or(|refused| role == Some(refused));
        if !record.refused && other.refusal.as_ref().is_some_and(same) {
            other.show_refusal(false);
        }
    }
    if record.refused {
        record.show_refusal(true);
    }
    // One that was refused may still need what ran on another side.
    let past = |other: &Record| other.root == NO_ROOT && !record.refused;
    records
        .retain(|other| !other.is_of(&plugin, side) || !(other.root == record.root || past(other)));
    records.push(record);
    rank(records, &plugin, side);
}

/// What tells a configuration, with this module, from others.
pub fn digest(configuration: &[u8]) -> u64 {
    notice::hash(configuration) ^ notice::hash(build().as_bytes())
}

/// How often what runs in this VM has changed; at least 1 where anything does.
pub fn changes() -> u32 {
    CHANGES.try_with(Cell::get).unwrap_or(0)
}

fn changed() {
    let _ = CHANGES.try_with(|changes| changes.set(changes.get().wrapping_add(1)));
}

/// Whether a root context of this VM other than `root`, which runs `at_work`, may serve requests of the service `host` for
/// the same plugin and role: it has that service, and is not known to be replaced. It is known of one that is not the
/// current one and that has served the same side as `root`.
pub fn may_serve_elsewhere(root: u32, at_work: &Plugin, host: &str) -> bool {
    let mut found = false;
    change(|records| {
        let own = records.iter().find(|record| record.root == root);
        let sides = own.map_or(0, |record| record.sides);
        let of = |record: &&Record| record.root != root && record.root != NO_ROOT;
        found = records.iter().filter(of).any(|other| {
            let current = other.standing.get() == Standing::Current;
            let replaced = !current && other.sides & sides != 0;
            let runs = other.runs(&at_work.name, Some(at_work.role)) && !replaced;
            let work = other.work.as_ref().filter(|_| runs);
            work.is_some_and(|work| work.at_work.by_name(host).is_some())
        });
    });
    found
}

/// What the newest root context of `plugin` in this role runs in this VM: a plugin has another role in another listener.
pub fn current(plugin: &str, role: Role) -> Option<Rc<Plugin>> {
    let mut found = None;
    change(|records| {
        let work = records
            .iter()
            .rev()
            .find(|other| other.runs(plugin, Some(role)));
        let work = work.and_then(|other| other.work.as_ref());
        found = work.map(|work| Rc::clone(&work.at_work));
    });
    found
}

/// Tells each record of `plugin` on this side how it stands.
fn rank(records: &[Record], plugin: &str, side: Sides) {
    changed();
    let mut of = records
        .iter()
        .rev()
        .filter(|record| record.root != NO_ROOT && record.is_of(plugin, side))
        .filter_map(|record| Some((record, record.work.as_ref()?)));
    let Some((current, work)) = of.next() else {
        return;
    };
    current.standing.set(Standing::Current);
    for (other, its) in of {
        let standing = if Rc::ptr_eq(&its.at_work, &work.at_work) {
            Standing::Shared
        } else {
            Standing::Before
        };
        other.standing.set(standing);
    }
}

/// The records are never borrowed twice at once; if they were, a change would be missed, and no request harmed.
fn change(with: impl FnOnce(&mut Vec<Record>)) {
    let _ = RUNNING.try_with(|running| {
        running
            .try_borrow_mut()
            .map(|mut records| with(&mut records))
    });
}
