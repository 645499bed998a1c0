//! What the VMs of a process tell each other about which configurations run, by gauges and shared data.

use core::hint::black_box;

use crate::hostcalls::{self, Kind, Level};
use crate::notice;
use crate::plugin::Plugin;
use config::Role;
use policy::names::{keys, metric};

/// A configuration counts as running for so many seconds after its last heartbeat. That is longer than any pause of a healthy
/// main thread. It is compared with the difference of the clocks in either direction, because a hot restart adds the gauges of
/// two processes.
const ALIVE: u64 = 5;

/// Whether any VM announces that it runs `plugin` in this role.
pub fn is_said(plugin: &str, role: Role) -> bool {
    let gauge = hostcalls::metric(Kind::Gauge, &configured(plugin, role));
    gauge.and_then(hostcalls::read).is_some_and(|vms| vms != 0)
}

/// Whether a configuration runs in any VM of this proxy: it is announced, and its last heartbeat is recent. Both are needed,
/// because a VM that died has never retracted what it announced.
pub fn anywhere(plugin: &str, role: Option<Role>) -> bool {
    // A refused configuration need not say its role. To read the gauges of a role defines them, and then they would show for
    // ever that a configuration has stopped which never ran. So the role is that of the last configuration that ran.
    let last = hostcalls::recall(&role_key(plugin));
    let last = last.and_then(|last| Role::ALL.into_iter().find(|role| role.word() == last));
    let Some(role) = last.filter(|last| role.is_none_or(|role| role == *last)) else {
        return false;
    };
    let read = |name: &str| {
        hostcalls::metric(Kind::Gauge, name)
            .and_then(hostcalls::read)
            .unwrap_or(0)
    };
    read(&configured(plugin, role)) > 0
        && read(&heartbeat(plugin, role)).abs_diff(hostcalls::now()) <= ALIVE
}

/// The key in shared data of the role in which a plugin last ran.
pub(super) fn role_key(plugin: &str) -> String {
    metric(&[("plugin", plugin)], keys::ROLE)
}

pub(super) fn configured(plugin: &str, role: Role) -> String {
    metric(&[("plugin", plugin), ("role", role.word())], "configured")
}

pub(super) fn workers(plugin: &str, role: Role) -> String {
    metric(&[("plugin", plugin), ("role", role.word())], "workers")
}

pub(super) fn heartbeat(plugin: &str, role: Role) -> String {
    metric(&[("plugin", plugin), ("role", role.word())], "heartbeat")
}

/// The digest of the module. `cargo filter` replaces this text, which it knows (`xtask/src/filter.rs`). Envoy gives a module
/// with other bytes another VM, whatever version it says.
#[used]
static BUILD: [u8; 64] = *b"peer-spillover: cargo filter puts the digest of the module here.";

pub fn build() -> String {
    // The compiler must not use the value that it sees here, because it is not the final one.
    String::from_utf8_lossy(black_box(&BUILD)).into_owned()
}

pub(super) fn build_key(plugin: &str) -> String {
    metric(&[("plugin", plugin)], keys::BUILD)
}

/// Whether the last configuration of `plugin` that began to run did so in this module. Then the VMs in which it runs go on with
/// it by themselves.
pub fn same_module(plugin: &str) -> bool {
    hostcalls::recall(&build_key(plugin)).is_some_and(|last| last == build())
}

/// The most services that the log line about a configuration names.
const NAMED: usize = 3;

/// A VM begins to run a configuration. The log gets a line if no other VM runs it yet, or if a configuration was refused
/// before. In the second case the line has a level that Istio shows by default.
#[cold]
#[inline(never)]
pub(super) fn begins(plugin: &Plugin) {
    let refused = exchange(&refused_key(&plugin.name), b"1", b"");
    let digest = plugin.digest.to_le_bytes();
    let known = hostcalls::recall_bytes(&in_force_key(plugin)).unwrap_or_default();
    let came = known != digest && exchange(&in_force_key(plugin), &known, &digest);
    if !refused && !came {
        return;
    }
    if refused {
        notice::anew(&plugin.name);
    }
    let (level, after) = if refused {
        (Level::Warn, " in place of the refused one")
    } else {
        (Level::Info, "")
    };
    let services = plugin.services();
    let mut named = String::new();
    for service in services.iter().filter(|_| services.len() <= NAMED) {
        let limit = service
            .rule
            .limit
            .map_or("none".to_owned(), |limit| limit.to_string());
        named.push_str(&[", ", service.host(), " with limit ", &limit].concat());
        let mode = if service.rule.evacuate {
            "evacuate"
        } else {
            service.mode.word()
        };
        if mode != plugin.mode.word() {
            named.push_str(&[", mode ", mode].concat());
        }
    }
    let (build, n) = (build(), services.len().to_string());
    let build = build.get(..12).unwrap_or_default();
    let (version, role, mode) = (
        env!("CARGO_PKG_VERSION"),
        plugin.role.word(),
        plugin.mode.word(),
    );
    let text = "configuration in force%0: version %1, build %2, role %3, mode %4, services: %5%6";
    notice::write(
        level,
        (text, &[after, version, build, role, mode, &n, &named]),
    );
}

/// No root context of this VM runs this configuration any more.
#[inline(never)]
pub(super) fn ends(plugin: &Plugin) {
    exchange(&in_force_key(plugin), &plugin.digest.to_le_bytes(), b"");
}

/// A configuration was refused. The next one that comes into force ends that.
pub(super) fn refused(plugin: &str) {
    hostcalls::remember(&refused_key(plugin), "1");
}

/// Changes a value in shared data from one to another. Returns false if the value is not the first one, or another VM was
/// faster.
fn exchange(key: &str, from: &[u8], to: &[u8]) -> bool {
    hostcalls::exchange_bytes(key, &mut |is| (is == from).then(|| to.to_vec()))
}

fn refused_key(plugin: &str) -> String {
    notice::key(&[("plugin", plugin)], keys::REFUSED)
}

fn in_force_key(plugin: &Plugin) -> String {
    notice::hashed_key(&plugin.name, keys::IN_FORCE, plugin.digest)
}
