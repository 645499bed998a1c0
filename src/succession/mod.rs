//! The root contexts of this VM: which one of a plugin is the current one, which of them tick, and with which configuration a
//! root context goes on whose own was refused.

mod announcement;
mod instance;
pub mod left;
pub mod sign;

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::hostcalls::{self, Kind};
use crate::plugin::Plugin;
use crate::succession::sign::Sign;
use crate::tick::TICK;
pub use announcement::{anywhere, is_said, same_module};
use announcement::{build, heartbeat, workers};
use config::Role;
use instance::{Instance, Work};
use policy::names::metric;
use policy::notice;

/// The id that stands for no root context.
const NO_ROOT: u32 = 0;

/// Ticks between two heartbeats. That is a second; a heartbeat is valid for five.
const BEAT_AFTER: u8 = 5;

/// The place of a root context among those of its plugin in this VM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It gets the requests. It announces that it runs, and a root context whose configuration is refused goes on with its
    /// configuration.
    Current,
    /// A newer root context has the same services, and does all the work for them.
    Shared,
    /// A newer root context took its place, or it has no configuration. It has only its own streams, if any.
    Before,
}

/// The directions of the listeners that a root context serves, as far as they are known, with a bit for each. Envoy tells the
/// direction only to requests. Listeners with the same configuration share a root context.
pub type Sides = u8;

thread_local! {
    /// Counts the changes: a root context becomes the current one, turns out to serve another side, or ends.
    static CHANGES: Cell<u32> = const { Cell::new(0) };
    /// One instance for each root context that lives in this VM. The current one of a plugin comes after the others of that
    /// plugin. All are kept, because Envoy goes back to an old root context, without any callback, if its configuration comes
    /// back while a stream or a draining listener keeps it alive. So there is one for each configuration of the last ten
    /// minutes (Envoy's default drain time) if configurations come with the listener.
    static RUNNING: RefCell<Vec<Instance>> = const { RefCell::new(Vec::new()) };
}

/// Makes the root context `root`, which has a good configuration, the current one of `plugin`. It announces that from its next
/// tick on.
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
        let count = sign::count(&metric(labels, name))?;
        let mut known = None;
        change(|instances| {
            let works = instances
                .iter()
                .filter_map(|instance| instance.work.as_ref());
            let mut signs = works.flat_map(|work| work.gauges.iter().flatten());
            known = signs.find(|sign| sign.is_of(&count)).cloned();
        });
        Some(known.unwrap_or_else(|| Sign::new(count)))
    };
    let work = Work {
        role,
        gauges: [sign(&info, "info"), sign(&info[..2], "configured")],
        heartbeat: hostcalls::metric(Kind::Gauge, &heartbeat(plugin, role)),
        workers: hostcalls::metric(Kind::Gauge, &workers(plugin, role)),
        at_work: Rc::clone(at_work),
    };
    let instance = Instance::new(root, plugin, Some(work), standing);
    change(|instances| lead(instances, instance));
}

/// Remembers the root context `root`, whose configuration was refused. Returns whether this VM may have a configuration with
/// which it could go on.
pub fn refused(root: u32, standing: &Rc<Cell<Standing>>, plugin: &str, role: Option<Role>) -> bool {
    let mut found = false;
    let count = sign::count(&metric(&[("plugin", plugin)], "config_refused"));
    change(|instances| {
        found = instances.iter().any(|other| other.runs(plugin, role));
        instances.retain(|other| other.root != root);
        let mut instance = Instance::new(root, plugin, None, standing);
        instance.refused = true;
        instance.refusal = count.map(|count| (count, role));
        // It is put first, so the current one stays current until a request comes to this one.
        instances.insert(0, instance);
    });
    found
}

/// Makes the root context `root`, whose configuration was refused, the current one, with the configuration that another one of
/// its plugin in this VM has. That one must have the same role, if the refused configuration says one, and the side of the
/// request. Returns the sides of that one. Returns `None` if there is no such configuration; then `root` may go on with one
/// that comes later.
pub fn take_over(root: u32, role: Option<Role>, side: Sides) -> Option<(Sides, Rc<Plugin>)> {
    let mut found = None;
    change(|instances| {
        let of = instances.iter().find(|instance| instance.root == root);
        let Some(plugin) = of.map(|instance| instance.plugin.clone()) else {
            return;
        };
        // One that ended without a request in this VM was replaced by this one. One that lives and has had no request may
        // belong to another listener.
        let ours = |other: &&Instance| {
            other.sides & side != 0 || (other.sides == 0 && other.root == NO_ROOT)
        };
        let others = instances.iter().rev().filter(|other| other.root != root);
        let mut others = others
            .filter(|other| other.runs(&plugin, role))
            .filter(ours);
        let Some(newest) = others.next() else { return };
        let (sides, work) = (newest.sides | side, newest.work.clone());
        let role_of = |instance: &Instance| instance.work.as_ref().map(|work| work.role);
        let one = role_of(newest);
        if role.is_none() && others.any(|other| role_of(other) != one) {
            return;
        }
        let Some(before) = instances.extract_if(.., |r| r.root == root).next() else {
            return;
        };
        found = work.as_ref().map(|work| (sides, work.at_work.clone()));
        let mut instance = Instance::new(root, &plugin, work, &before.standing);
        (instance.sides, instance.refused) = (sides, true);
        instance.refusal = before.refusal.clone();
        // It retracts what it announced before for another side, but only after it has announced this.
        if before.announced {
            instance.announce();
        }
        lead(instances, instance);
    });
    found
}

/// Remembers the sides of the listeners that `root` serves.
pub fn on_sides(root: u32, sides: Sides) {
    changed();
    change(|instances| {
        let of = instances
            .iter_mut()
            .filter(|instance| instance.root == root);
        of.for_each(|instance| instance.sides = sides);
    });
}

/// The root context `root`, whose configuration was refused, lives. From now on the metrics show the refusal.
pub fn refusal_stands(root: u32) {
    change(|instances| {
        if let Some(instance) = instances.iter_mut().find(|instance| instance.root == root)
            && instance.show_refusal(true)
        {
            announcement::refused(&instance.plugin);
        }
    });
}

/// Makes `root` the current one again, because a request came to it. It ticks.
pub fn again(root: u32) {
    change(|instances| {
        if let Some(mut instance) = take(instances, root) {
            instance.rests = false;
            lead(instances, instance);
        }
    });
}

/// Shows once in [`BEAT_AFTER`] ticks that `root` is alive, if it is a current one. This is called at each tick. The first call
/// announces that it runs; this is not done earlier, because a VM in which Envoy only tries a configuration has no ticks, and
/// is not told when it ends.
pub fn beat(root: u32) {
    change(|instances| {
        let mut current = instances
            .iter_mut()
            .filter(|instance| instance.root == root);
        if let Some(instance) =
            current.find(|instance| instance.standing.get() == Standing::Current)
        {
            instance.silent = instance.silent.saturating_add(1);
            if !instance.announced || instance.silent >= BEAT_AFTER {
                instance.announce();
            }
        }
    });
}

/// Returns whether `root`, which is not the current one, may stop its ticks. It may not if no other root context ticks, because
/// the other VMs declare a VM dead that does not tick.
pub fn rest(root: u32) -> bool {
    let mut found = false;
    change(|instances| {
        found = ticking(instances).is_some_and(|other| other != root);
        if found && let Some(instance) = instances.iter_mut().find(|instance| instance.root == root)
        {
            instance.rests = true;
        }
    });
    found
}

/// The root context that must go on ticking: the current one of a plugin, or else the newest.
fn ticking(instances: &[Instance]) -> Option<u32> {
    let (mut one, mut is_current) = (None, false);
    for instance in instances.iter().filter(|instance| instance.root != NO_ROOT) {
        let current = instance.standing.get() == Standing::Current;
        if current || !is_current {
            (one, is_current) = (Some(instance.root), current);
        }
    }
    one
}

/// Takes the instance of `root` out.
#[inline(never)]
fn take(instances: &mut Vec<Instance>, root: u32) -> Option<Instance> {
    instances
        .extract_if(.., |instance| instance.root == root)
        .next()
}

/// Retracts what `root` announced. If it was the current one, the newest other one of its plugin becomes the current one.
pub fn stop(root: u32) {
    change(|instances| {
        end(instances, root);
        let next = ticking(instances);
        let wakes = |instance: &&mut Instance| {
            let current = instance.standing.get() == Standing::Current;
            instance.rests && (current || Some(instance.root) == next)
        };
        for instance in instances.iter_mut().filter(wakes) {
            instance.rests = false;
            if hostcalls::set_effective_context(instance.root) {
                hostcalls::set_tick_period(TICK);
            }
        }
    });
}

fn end(instances: &mut Vec<Instance>, root: u32) {
    let found = take(instances, root);
    let Some(mut gone) = found else { return };
    changed();
    let (plugin, side) = (gone.plugin.clone(), gone.sides);
    let mut others = instances.iter().filter(|other| other.plugin == plugin);
    if gone.shows_refusal && others.clone().all(|other| !other.refused) {
        // The configuration that was in force before the refusal has been in force all the time.
        let work = others.rfind(|other| other.announced);
        if let Some(work) = work.and_then(|other| other.work.as_ref()) {
            announcement::begins(&work.at_work);
        }
    }
    let lives = |instance: &Instance| instance.plugin == plugin && instance.root != NO_ROOT;
    if !instances.iter().any(lives) {
        instances.retain(|instance| instance.plugin != plugin);
    } else if gone.standing.get() != Standing::Current {
        // Another one does its work.
    } else if instances.iter().any(|other| other.may_want(&plugin, side)) {
        // If Envoy goes back to that one, the last good configuration is the one that ends here. That one goes on with it at
        // its next request.
        gone.root = NO_ROOT;
        instances.push(gone);
    } else if let Some(other) = instances
        .iter_mut()
        .rfind(|r| r.root != NO_ROOT && r.is_of(&plugin, side))
    {
        if other.was_announced {
            other.announce();
        }
        rank(instances, &plugin, side);
    }
}

/// Puts `instance` before all others of its plugin and side.
fn lead(instances: &mut Vec<Instance>, mut instance: Instance) {
    let (plugin, side) = (instance.plugin.clone(), instance.sides);
    let others = |other: &&mut Instance| other.is_of(&plugin, side);
    // If one of the others is announced, this VM is not one in which Envoy only tries a configuration. So `instance` is
    // announced at once, before the others are retracted: at no moment may it look as if nothing ran.
    if instances
        .iter_mut()
        .filter(others)
        .any(|other| other.announced)
    {
        instance.announce();
    }
    let role = instance.work.as_ref().map(|work| work.role);
    let digest = instance.work.as_ref().map_or(0, |work| work.at_work.digest);
    for other in instances.iter_mut().filter(others) {
        other.retract(digest);
        let same =
            |(_, refused): &(_, Option<Role>)| refused.is_none_or(|refused| role == Some(refused));
        if !instance.refused && other.refusal.as_ref().is_some_and(same) {
            other.show_refusal(false);
        }
    }
    if instance.refused {
        instance.show_refusal(true);
    }
    // A root context whose configuration was refused may still need the configuration of an ended one of another side.
    let past = |other: &Instance| other.root == NO_ROOT && !instance.refused;
    instances.retain(|other| {
        !other.is_of(&plugin, side) || !(other.root == instance.root || past(other))
    });
    instances.push(instance);
    rank(instances, &plugin, side);
}

/// A digest of a configuration and this module.
pub fn digest(configuration: &[u8]) -> u64 {
    notice::hash(configuration) ^ notice::hash(build().as_bytes())
}

/// The number of changes in this VM so far. It is at least 1 if anything runs.
pub fn changes() -> u32 {
    CHANGES.try_with(Cell::get).unwrap_or(0)
}

fn changed() {
    let _ = CHANGES.try_with(|changes| changes.set(changes.get().wrapping_add(1)));
}

/// Whether a root context of this VM other than `root`, which runs `at_work`, may serve requests of the service `host` for the
/// same plugin and role. It may if it has that service and is not known to be replaced. It is known to be replaced if it is not
/// the current one and has served the same side as `root`.
pub fn may_serve_elsewhere(root: u32, at_work: &Plugin, host: &str) -> bool {
    let mut found = false;
    change(|instances| {
        let own = instances.iter().find(|instance| instance.root == root);
        let sides = own.map_or(0, |instance| instance.sides);
        let of = |instance: &&Instance| instance.root != root && instance.root != NO_ROOT;
        found = instances.iter().filter(of).any(|other| {
            let current = other.standing.get() == Standing::Current;
            let replaced = !current && other.sides & sides != 0;
            let runs = other.at_work(&at_work.name, Some(at_work.role));
            let runs = runs.filter(|_| !replaced);
            runs.is_some_and(|runs| runs.by_name(host).is_some())
        });
    });
    found
}

/// Calls `with` with each configuration that runs in this VM for a plugin in this role, the newest first. The plugin may have
/// another role in another listener.
#[inline(never)]
pub fn each(plugin: &str, role: Role, with: &mut dyn FnMut(&Plugin)) {
    change(|instances| {
        for other in instances.iter().rev() {
            if let Some(at_work) = other.at_work(plugin, Some(role)) {
                with(at_work);
            }
        }
    });
}

/// Tells each instance of `plugin` on this side its standing.
fn rank(instances: &[Instance], plugin: &str, side: Sides) {
    changed();
    let mut of = instances
        .iter()
        .rev()
        .filter(|instance| instance.root != NO_ROOT && instance.is_of(plugin, side))
        .filter_map(|instance| Some((instance, instance.work.as_ref()?)));
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

/// Changes the list of instances. It is never borrowed twice at once. If it were, the change would be lost, but no request
/// would be harmed.
fn change(with: impl FnOnce(&mut Vec<Instance>)) {
    let _ = RUNNING.try_with(|running| {
        running
            .try_borrow_mut()
            .map(|mut instances| with(&mut instances))
    });
}
