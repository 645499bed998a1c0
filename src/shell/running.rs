//! Whether a good configuration runs, seen from a VM that was just given a bad one.

use core::cell::RefCell;
use core::mem;
use std::rc::Rc;

use super::host::{self, Kind, Metric};
use super::plugin::Plugin;
use crate::config::{Mode, Role};
use crate::names::metric;

/// Seconds after the last heartbeat in which a configuration counts as running. Longer than any pause of a healthy
/// main thread; as a clock difference in either direction, since a hot restart adds the gauges of two processes.
const ALIVE: u64 = 5;

struct Entry {
    plugin: String,
    role: Role,
    root: u32,
    gauges: [Option<Metric>; 2],
    heartbeat: Option<Metric>,
    said: bool,
    at_work: Option<Rc<Plugin>>,
}

thread_local! {
    /// What runs in this VM: one entry a plugin, whatever Envoy does with old root contexts. Those of its main thread
    /// outlive the configuration that they were made for (measured: one more with every update, never deleted), and must
    /// not go on saying that they run.
    static RUNNING: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Says from its next tick on that the root context `root` runs a good configuration of `plugin`, instead of any other here.
pub fn start(
    root: u32,
    plugin: &str,
    role: Role,
    mode: Mode,
    cluster: &str,
    at_work: Option<Rc<Plugin>>,
) {
    let info = [
        ("plugin", plugin),
        ("role", role.word()),
        ("version", env!("CARGO_PKG_VERSION")),
        ("mode", mode.word()),
        ("cluster", cluster),
    ];
    let gauges = [metric(&info, "info"), configured(plugin, role)];
    let gauges = gauges.map(|name| host::metric(Kind::Gauge, &name));
    let heartbeat = host::metric(Kind::Gauge, &heartbeat(plugin, role));
    let mut entry = Entry {
        plugin: plugin.to_owned(),
        role,
        root,
        gauges,
        heartbeat,
        said: false,
        at_work,
    };
    change(|entries| {
        // What takes the place of one that has said so is in a VM that stays, and says so at once, before the other takes
        // it back: there must be no moment in which nothing seems to run.
        let (old, mut others): (Vec<Entry>, Vec<Entry>) = mem::take(entries)
            .into_iter()
            .partition(|other| other.plugin == entry.plugin);
        if old.iter().any(|other| other.said) {
            entry.say();
        }
        others.push(entry);
        *entries = others;
    });
}

/// Lets the root context `root` go on with what runs of `plugin` in this VM. Nothing where nothing does.
pub fn take_over(root: u32, plugin: &str) -> Option<Option<Rc<Plugin>>> {
    let mut found = None;
    change(|entries| {
        if let Some(entry) = entries.iter_mut().find(|entry| entry.plugin == plugin) {
            entry.root = root;
            found = Some(entry.at_work.clone());
        }
    });
    found
}

/// Shows that `root` is alive, if it still runs. Called at each tick; the first says that it runs at all, since the VM in
/// which Envoy only tries a configuration has none, and is never told that it ends.
pub fn beat(root: u32) {
    change(|entries| {
        let Some(entry) = entries.iter_mut().find(|entry| entry.root == root) else {
            return;
        };
        entry.say();
    });
}

/// Says no more that `root` runs anything.
pub fn stop(root: u32) {
    change(|entries| entries.retain(|entry| entry.root != root));
}

/// Whether one runs in any VM of this proxy: it said so, took nothing back, and was alive a moment ago. Both are asked
/// for: a VM that is gone may never have taken back what it said, and its heart stops.
pub fn anywhere(plugin: &str) -> bool {
    // What was refused need not tell its role, and to ask for the gauges of a role makes them: they would say for ever
    // that one has stopped which never ran. So the role is that of the last one that ran.
    let server = host::recall(&role_key(plugin)).is_some_and(|role| role == Role::Server.word());
    let role = if server { Role::Server } else { Role::Client };
    let read = |name: &str| {
        host::metric(Kind::Gauge, name)
            .and_then(host::read)
            .unwrap_or(0)
    };
    read(&configured(plugin, role)) > 0
        && read(&heartbeat(plugin, role)).abs_diff(host::now()) <= ALIVE
}

/// The entries are never borrowed twice at once; if it were, an entry would be missed, and no request harmed.
fn change(with: impl FnOnce(&mut Vec<Entry>)) {
    let _ = RUNNING.try_with(|running| {
        running
            .try_borrow_mut()
            .map(|mut entries| with(&mut entries))
    });
}

impl Entry {
    /// Says that it runs, once, and that it is alive.
    fn say(&mut self) {
        if !self.said {
            self.said = true;
            host::remember(&role_key(&self.plugin), self.role.word());
            host::remember(&build_key(&self.plugin), BUILD);
            for gauge in self.gauges.iter().flatten() {
                host::add(*gauge, 1);
            }
        }
        if let Some(gauge) = self.heartbeat {
            host::record(gauge, host::now());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        for gauge in self.gauges.iter().flatten().filter(|_| self.said) {
            host::add(*gauge, -1);
        }
    }
}

/// The shared key of the role that a plugin last ran in.
fn role_key(plugin: &str) -> String {
    metric(&[("plugin", plugin)], "role")
}

fn configured(plugin: &str, role: Role) -> String {
    metric(&[("plugin", plugin), ("role", role.word())], "configured")
}

fn heartbeat(plugin: &str, role: Role) -> String {
    metric(&[("plugin", plugin), ("role", role.word())], "heartbeat")
}

/// What the module is.
const BUILD: &str = env!("CARGO_PKG_VERSION");

fn build_key(plugin: &str) -> String {
    metric(&[("plugin", plugin)], "build")
}

/// Whether what last ran of `plugin` was this module: then the VMs in which it runs go on with it by themselves.
pub fn same_module(plugin: &str) -> bool {
    host::recall(&build_key(plugin)).is_some_and(|build| build == BUILD)
}
