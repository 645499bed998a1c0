//! One configuration in one VM: its services with their counts, and what happens to a configuration that is refused.

use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::callback;
use super::host::{self, Kind, Level};
use super::request::Request;
use super::running::{self, Standing};
use super::service::Service;
use super::slot;
use super::trap;
use super::worker;
use crate::config::{self, Config, Fault, Mode, Role, Routing};
use crate::names::{self, metric};
use crate::policy::roster::STALE;
use crate::policy::{Ledger, Ticket};

/// Between two sweeps for streams whose client does not read, and between two heartbeats.
pub(super) const TICK: Duration = Duration::from_millis(200);
// With the tick that finds a VM dead and the one before its first, a count is right again within three seconds.
const _: () = assert!(TICK.as_millis() * (STALE as u128 + 2) <= 3000);
/// Until the first tick, at which a configuration is known to run.
const FIRST_TICK: Duration = Duration::from_millis(1);
/// A configuration at work.
pub struct Plugin {
    pub cluster: String,
    pub mode: Mode,
    pub debug_header: bool,
    pub trust_domains: Vec<String>,
    /// A forged `x-peer-spillover-to` could lead a request to a peer.
    pub strips_to: bool,
    pub(super) services: Vec<Service>,
    /// Hosts in order, for a search; empty where `*` serves all.
    by_host: Vec<(String, usize)>,
    pub(super) ledger: RefCell<Ledger>,
    /// Services that requests came to.
    pub(super) used: RefCell<Vec<usize>>,
    /// Whose turn is next of those.
    pub(super) turn: Cell<usize>,
    /// Ticks since this configuration runs in this VM: the only clock that requests need.
    pub(super) ticks: Cell<u32>,
}

impl Plugin {
    fn new(config: Config, name: &str, default_routing: Routing) -> Result<Plugin, Fault> {
        let mut services = Vec::with_capacity(config.services.len());
        for (index, service) in config.services.into_iter().enumerate() {
            services.push(Service::new(
                service,
                index,
                name,
                config.role,
                default_routing,
            )?);
        }
        let mut by_host: Vec<(String, usize)> = services
            .iter()
            .map(|service| (service.host().to_owned(), service.index))
            .filter(|(host, _)| host != "*")
            .collect();
        by_host.sort_unstable();
        // Not a server's: it leads nothing anywhere, and what it did not set is not its own to remove.
        let strips_to = config.role == Role::Client
            && services
                .iter()
                .any(|s| s.routing == Routing::Header && s.mode == Mode::Enforce);
        let plugin = Plugin {
            cluster: config.cluster,
            mode: config.mode,
            debug_header: config.debug_header,
            trust_domains: config.trust_domains,
            strips_to,
            used: RefCell::default(),
            turn: Cell::default(),
            services,
            by_host,
            ledger: RefCell::default(),
            ticks: Cell::default(),
        };
        // It may be over before a request comes.
        for service in plugin.services.iter().filter(|s| s.is_ejected()) {
            plugin.uses(service);
        }
        Ok(plugin)
    }

    /// The service that serves whatever the proxy serves, if this configuration is so.
    pub fn star(&self) -> Option<&Service> {
        if self.by_host.is_empty() {
            self.services.first()
        } else {
            None
        }
    }

    /// Now, in ticks.
    pub fn now(&self) -> u32 {
        self.ticks.get()
    }

    /// The service of this index.
    pub fn service(&self, index: usize) -> Option<&Service> {
        self.services.get(index)
    }

    /// The service of this host, whatever its case.
    pub fn by_host(&self, host: &str) -> Option<&Service> {
        let host = host.to_ascii_lowercase();
        let at = self
            .by_host
            .binary_search_by(|(other, _)| other.as_str().cmp(&host))
            .ok()?;
        self.by_host
            .get(at)
            .and_then(|(_, index)| self.services.get(*index))
    }

    /// The service whose peer has this host.
    pub fn by_peer_host(&self, host: &str) -> Option<&Service> {
        self.services
            .iter()
            .find(|service| service.peer.as_ref().is_some_and(|peer| peer.host == host))
    }

    /// Notes that a request came to a service: one that none came to costs nothing in a tick.
    pub fn uses(&self, service: &Service) {
        if !service.used.replace(true) {
            self.is_used(service.index);
        }
    }

    #[cold]
    #[inline(never)]
    fn is_used(&self, index: usize) {
        if let Ok(mut used) = self.used.try_borrow_mut() {
            used.push(index);
        }
    }

    /// Books a slot that the service's count already includes.
    pub fn hold(&self, service: &Service, stream: u32) -> Option<Ticket> {
        self.ledger
            .try_borrow_mut()
            .ok()
            .map(|mut ledger| ledger.hold(service.index, stream))
    }

    /// Notes that the answer to a request has begun: from now on a sweep looks at it, if there is a limit.
    pub fn answered(&self, service: &Service, ticket: Option<&Ticket>) {
        if let Some(ticket) = ticket.filter(|_| service.rule.limit.is_some())
            && let Ok(mut ledger) = self.ledger.try_borrow_mut()
        {
            ledger.answered(ticket);
        }
    }

    /// Gives a slot back, if no sweep did. The last thing that a callback does.
    pub fn release(&self, ticket: Ticket) {
        let service = self
            .ledger
            .try_borrow_mut()
            .ok()
            .and_then(|mut ledger| ledger.release(ticket));
        if let Some(service) = service.and_then(|index| self.services.get(index)) {
            service.count_out_last();
        }
    }
}

/// The root context.
pub struct Root {
    id: u32,
    plugin: RefCell<Option<Rc<Plugin>>>,
    /// Set by what happens to the other root contexts of the plugin.
    standing: Rc<Cell<Standing>>,
    /// The plugin's name, where its configuration was refused.
    refused: Option<String>,
    ticks_fast: bool,
    /// One for each stream that it has, and one of its own.
    streams: Rc<()>,
    /// It has stopped its ticks.
    rests: Cell<bool>,
}

impl Root {
    pub fn new(id: u32) -> Self {
        worker::came();
        Root {
            id,
            plugin: RefCell::default(),
            standing: Rc::new(Cell::new(Standing::Before)),
            refused: None,
            ticks_fast: false,
            streams: Rc::default(),
            rests: Cell::default(),
        }
    }

    fn load(&mut self, bytes: &[u8], name: &str) -> Result<(), Fault> {
        let config = config::parse(bytes)?;
        let gateway = host::property(host::NODE_ID)
            .is_some_and(|id| !id.starts_with("sidecar~") && id.contains('~'));
        // On a gateway or a waypoint a peer's authority would have to be public.
        let default_routing = if gateway {
            Routing::Header
        } else {
            Routing::Authority
        };
        let (warnings, role, mode) = (config.warnings.clone(), config.role, config.mode);
        let cluster = config.cluster.clone();
        let all_off = config
            .services
            .iter()
            .all(|service| service.mode == Mode::Off);
        let plugin = Plugin::new(config, name, default_routing)?;
        if !warnings.is_empty() {
            host::log(
                Level::Warn,
                &format!("peer-spillover: {}", warnings.join("; ")),
            );
        }
        let plugin = (!all_off).then(|| Rc::new(plugin));
        let standing = &self.standing;
        running::start(
            self.id,
            standing,
            name,
            role,
            mode,
            &cluster,
            plugin.clone(),
        );
        self.plugin = RefCell::new(plugin);
        self.refused = None;
        Ok(())
    }

    /// **Invariant: a refused configuration costs no request.** Where a good one runs, this goes on with it; a cold proxy
    /// leaves every request alone. To Envoy it is refused in one case only, an upgrade with a bad configuration, where the
    /// module before cannot be gone on with: Envoy then keeps that. It remembers a refusal, and would not ask again when
    /// the same configuration comes back in other circumstances, and a proxy left without one answers 500 to everything.
    fn refuse(&mut self, fault: &Fault, name: &str) -> bool {
        if let Some(counter) = host::metric(
            Kind::Counter,
            &metric(&[("plugin", name)], "config_rejected"),
        ) {
            host::add(counter, 1);
        }
        let runs = running::anywhere(name);
        self.refused = Some(name.to_owned());
        let goes_on = self.go_on();
        let then = if goes_on || runs {
            "the configuration before stays in force"
        } else {
            "every request passes untouched"
        };
        host::log(
            Level::Error,
            &format!("peer-spillover: configuration rejected, {then}: {fault}"),
        );
        goes_on || !runs || running::same_module(name)
    }

    /// Where this was refused, goes on with what runs of its plugin in this VM, if anything does.
    fn go_on(&self) -> bool {
        let found = self
            .refused
            .as_ref()
            .and_then(|name| running::take_over(self.id, &self.standing, name));
        if let (Some(found), Ok(mut plugin)) = (found, self.plugin.try_borrow_mut()) {
            *plugin = found;
            return true;
        }
        false
    }

    /// Envoy went back to this root context, which it does without a word: when its configuration comes back, and a
    /// stream has kept it alive.
    #[cold]
    fn come_back(&self) {
        if self.rests.replace(false) {
            host::set_tick_period(TICK);
        }
        if self.refused.is_some() {
            self.go_on();
        } else {
            running::again(self.id);
        }
    }

    /// Stops its ticks, where all its work is another root context's now and no stream is left to it. Envoy
    /// keeps it for as long as a listener drains, and may go back to it.
    #[cold]
    fn rest(&mut self) {
        if !running::rest(self.id) {
            return;
        }
        self.rests.set(true);
        host::stop_ticks();
        worker::rests(self.id);
    }

    fn tick(&mut self) {
        if self.ticks_fast {
            self.ticks_fast = false;
            host::set_tick_period(TICK);
        }
        worker::tick(self.id);
        let standing = self.standing.get();
        let current = standing == Standing::Current;
        if current {
            running::beat(self.id);
        }
        if standing != Standing::Shared
            && let Some(plugin) = self.plugin.get_mut()
        {
            plugin.tick(self.id, current);
        }
        if !current && Rc::strong_count(&self.streams) == 1 {
            self.rest();
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        callback::begins();
        running::stop(self.id);
        // A VM without a root context is never called again: it stays inside, and the others find it.
        if worker::left(self.id) {
            callback::ends();
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        callback::begins();
        trap::at("configure");
        let name = names::label_value(&host::property(host::PLUGIN_NAME).unwrap_or_default());
        slot::prepare();
        // Also where nothing runs yet, since it may go on with what comes later.
        self.ticks_fast = true;
        host::set_tick_period(FIRST_TICK);
        let accepted = match self.load(&host::configuration(size), &name) {
            Ok(()) => true,
            Err(fault) => self.refuse(&fault, &name),
        };
        callback::ends();
        accepted
    }

    fn on_tick(&mut self) {
        callback::tick_begins();
        trap::at("tick");
        self.tick();
        callback::ends();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        callback::stream_begins();
        trap::at("context");
        if self.standing.get() != Standing::Current {
            self.come_back();
        }
        let plugin = self.plugin.try_borrow();
        let plugin = plugin.map_or(None, |plugin| plugin.clone());
        let streams = Rc::clone(&self.streams);
        Some(Box::new(Request::new(id, plugin, streams)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
