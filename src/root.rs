//! A root context: one configuration that Envoy gives to this VM, and what happens if that is refused.

use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::notice;
use super::plugin::Plugin;
use super::request::Request;
use super::service::Service;
use super::tick::TICK;
use super::trap;
use crate::hostcalls::{self, Kind, Level};
use crate::recovery;
use crate::succession::left;
use crate::succession::{self, Sides, Standing};
use config::{self, Faults, Role, Routing};
use policy::left::Left;
use policy::names::{self, metric};

/// The time until the first tick. A configuration that gets a tick is known to run.
const FIRST_TICK: Duration = Duration::from_millis(1);
/// The filter finds out on which side of the proxy requests arrive from the first request of a root context, and then from one
/// of so many. That costs 12k instructions, which is less than a hundredth of a percent of all of them.
const ALL_SEEN: u32 = 16;
const ONE_SEEN_OF: u32 = 1024;

/// The root context.
pub struct Root {
    id: u32,
    plugin: RefCell<Option<Rc<Plugin>>>,
    /// Set by what happens to the other root contexts of the plugin.
    standing: Rc<Cell<Standing>>,
    /// Its configuration was refused. This is the role that the configuration names, if any.
    refused: Option<Option<Role>>,
    /// The sides of the proxy from which requests have come. If the configuration was refused, the sides of the one that is
    /// used instead.
    sides: Cell<Sides>,
    requests: Cell<u32>,
    ticks_fast: bool,
    /// One reference for each stream of this root context, and one of its own.
    streams: Rc<()>,
    /// Whether it has stopped its ticks.
    rests: Cell<bool>,
    left: Left,
}

impl Root {
    pub fn new(id: u32) -> Self {
        recovery::root_begins();
        Root {
            id,
            plugin: RefCell::default(),
            standing: Rc::new(Cell::new(Standing::Before)),
            refused: None,
            sides: Cell::default(),
            requests: Cell::default(),
            ticks_fast: false,
            streams: Rc::default(),
            rests: Cell::default(),
            left: Left::default(),
        }
    }

    #[inline(never)]
    fn load(&mut self, bytes: &[u8], name: &str) -> Result<(), Faults> {
        let mut config = config::parse(bytes)?;
        let node = hostcalls::property(hostcalls::NODE_ID).unwrap_or_default();
        let gateway = !node.starts_with("sidecar~") && node.contains('~');
        // On a gateway or a waypoint, `:authority` would have to be a public host of the peer.
        let default_routing = if gateway {
            Routing::Header
        } else {
            Routing::Authority
        };
        let mut warnings = core::mem::take(&mut config.warnings);
        warnings.extend(config::hosts::short(&config, &node));
        let digest = succession::digest(bytes);
        let plugin = Plugin::new(config, digest, name, default_routing, first_use)?;
        if !warnings.is_empty() {
            notice::once(name, Level::Warn, &warnings);
        }
        succession::each(name, plugin.role, &mut |before| {
            plugin.go_on(before);
            before.forget_strangers(Some(&plugin));
        });
        let plugin = Rc::new(plugin);
        succession::start(self.id, &self.standing, &plugin);
        self.plugin = RefCell::new(Some(plugin));
        self.refused = None;
        self.sides.set(0);
        Ok(())
    }

    /// **Invariant: a refused configuration costs no request.** If a good configuration runs, this root context uses that one.
    /// A proxy without one leaves every request as it is. Only in one case the filter tells Envoy that it refuses a
    /// configuration: in an upgrade with a bad configuration, in which it cannot use that of the module before. Envoy then
    /// keeps the module before. Envoy remembers a refusal. It would not ask again if the same configuration came back in other
    /// circumstances, and a proxy without a configuration answers 500 to every request.
    ///
    /// **Invariant: a refused configuration is replaced only by one that ran in the same role on the same side of the proxy.**
    /// Another role, or the configuration of the other side, would change requests in a way that nobody asked for.
    #[inline(never)]
    fn refuse(&mut self, faults: &Faults, name: &str, role: Option<Role>) -> bool {
        if let Some(counter) = hostcalls::metric(
            Kind::Counter,
            &metric(&[("plugin", name)], "config_rejected"),
        ) {
            hostcalls::add(counter, 1);
        }
        let runs = succession::anywhere(name, role);
        self.refused = Some(role);
        // The first request tells the side.
        let goes_on = succession::refused(self.id, &self.standing, name, role);
        let then = if goes_on || runs {
            "the configuration before stays in force"
        } else {
            "every request passes untouched"
        };
        let line = |fault: String| ["configuration rejected, ", then, ": ", &fault].concat();
        let lines: Vec<String> = faults.lines().map(line).collect();
        notice::once(name, Level::Error, &lines);
        goes_on || !runs || succession::same_module(name)
    }

    /// Notes to which side of the proxy a request came. If the configuration was refused, the one that runs there is used from
    /// now on.
    fn see_side(&self) {
        let side = 1 << hostcalls::number(hostcalls::LISTENER_DIRECTION).min(2);
        let known = self.sides.get() & side != 0;
        if let Some(role) = self.refused {
            if !known || self.standing.get() != Standing::Current {
                let found = succession::take_over(self.id, role, side);
                let (sides, at_work) = found.unzip();
                self.sides.set(sides.unwrap_or_default());
                if let Ok(mut plugin) = self.plugin.try_borrow_mut() {
                    *plugin = at_work;
                }
            }
        } else if !known {
            self.sides.set(self.sides.get() | side);
            succession::on_sides(self.id, self.sides.get());
        }
    }

    /// Stops its ticks if another root context has taken over all its work and it has no streams. Envoy keeps it as long as a
    /// listener drains, and may use it again.
    #[cold]
    fn rest(&mut self) {
        if !succession::rest(self.id) {
            return;
        }
        self.rests.set(true);
        hostcalls::stop_ticks();
        recovery::root_rests(self.id);
    }

    fn tick(&mut self) {
        if self.ticks_fast {
            self.ticks_fast = false;
            hostcalls::set_tick_period(TICK);
            if self.refused.is_some() {
                succession::refusal_stands(self.id);
            }
        }
        notice::tick();
        recovery::tick(self.id);
        let standing = self.standing.get();
        let current = standing == Standing::Current;
        if current {
            succession::beat(self.id);
        }
        if standing != Standing::Shared
            && let Some(plugin) = self.plugin.get_mut()
        {
            if current {
                left::tick(&mut self.left, self.id, plugin);
            }
            plugin.tick(self.id, current);
        }
        if !current && Rc::strong_count(&self.streams) == 1 {
            self.rest();
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        recovery::begins();
        succession::stop(self.id);
        if let Some(plugin) = self.plugin.get_mut() {
            let mut last = true;
            succession::each(&plugin.name, plugin.role, &mut |_| last = false);
            if last && !succession::is_said(&plugin.name, plugin.role) {
                left::end(plugin);
                plugin.forget_strangers(None);
            }
        }
        // A VM without a root context is never called again. It stays marked as inside, and the other VMs find it.
        if recovery::root_ends(self.id) {
            recovery::ends();
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        recovery::begins();
        trap::at("configure");
        let name =
            names::label_value(&hostcalls::property(hostcalls::PLUGIN_NAME).unwrap_or_default());
        recovery::prepare();
        // Also if nothing runs yet, since a later configuration may be used instead.
        self.ticks_fast = true;
        hostcalls::set_tick_period(FIRST_TICK);
        let bytes = hostcalls::configuration(size);
        let accepted = match self.load(&bytes, &name) {
            Ok(()) => true,
            Err(faults) => self.refuse(&faults, &name, config::role(&bytes)),
        };
        recovery::ends();
        accepted
    }

    fn on_tick(&mut self) {
        recovery::tick_begins();
        trap::at("tick");
        self.tick();
        recovery::ends();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        recovery::stream_begins();
        trap::at("context");
        let nth = self.requests.get();
        self.requests.set(nth.wrapping_add(1));
        if self.refused.is_some() || nth < ALL_SEEN || nth.is_multiple_of(ONE_SEEN_OF) {
            self.see_side();
        }
        if self.standing.get() != Standing::Current && self.refused.is_none() {
            // Envoy uses this root context again without a call that says so: its configuration came back while a stream still
            // kept it.
            succession::again(self.id);
        }
        if self.rests.replace(false) {
            hostcalls::set_tick_period(TICK);
        }
        let plugin = self.plugin.try_borrow();
        let plugin = plugin.map_or(None, |plugin| plugin.clone());
        let plugin = plugin.filter(|plugin| !plugin.off);
        let streams = Rc::clone(&self.streams);
        Some(Box::new(Request::new(id, plugin, streams)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A service of `plugin` is used for the first time. All root contexts that have it go on with its counts, since the request may
/// be of a listener that drains. So whichever root context is the current one, now or later, ticks for it.
fn first_use(plugin: &Plugin, service: &Service) {
    service.is_counted();
    succession::each(&plugin.name, plugin.role, &mut |other| {
        if let Some(its) = other.by_name(service.host()) {
            its.go_on(service);
            if its.is_counted() {
                other.visits(its);
            }
        }
    });
}
