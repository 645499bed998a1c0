//! One configuration in one VM: its services with their counts.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use super::arrival;
use super::service::Service;
use super::strangers::Strangers;
use crate::hostcalls::{self, Metric};
use crate::metrics::{self, Labels};
use config::{Config, Fault, Mode, Role, Routing};
use policy::destination::{Destination, DestinationId};
use policy::names::metric;
use policy::time::Instant;
use policy::{Ledger, Ticket, sorted};

/// A configuration at work.
pub struct Plugin {
    pub name: Rc<str>,
    pub role: Role,
    /// All services have `mode: off`.
    pub(super) off: bool,
    pub cluster: String,
    pub mode: Mode,
    pub debug_header: bool,
    pub trust_domains: Vec<String>,
    /// `x-peer-spillover-to` is looked for in each request, not only where it may have led the request away.
    pub looks_for_to: bool,
    /// The counter of requests with headers that nobody vouches for.
    forged: Cell<Option<Metric>>,
    pub(super) services: Vec<Service>,
    /// Home and the peers of each service: what the ledger holds requests of.
    destinations: Vec<Destination>,
    /// Indices of services in the order of their hosts, for a search; empty where `*` serves all.
    by_host: Vec<usize>,
    pub(super) ledger: RefCell<Ledger>,
    /// Services that requests came to.
    pub(super) used: RefCell<Vec<usize>>,
    /// Whose turn is next of those.
    pub(super) turn: Cell<usize>,
    /// When this configuration began to run in this VM.
    pub(super) since: Instant,
    /// When the last tick was: requests need no clock that is more exact, and to read one costs a hostcall.
    pub(super) clock: Cell<Instant>,
    /// Called with each service when its first request comes.
    on_first_use: fn(&Plugin, &Service),
    /// What it is, with the module: a hash.
    pub digest: u64,
    /// What requests came for that are for no service.
    pub(super) strangers: Strangers,
    pub(super) last: arrival::Last,
}

impl Plugin {
    pub(super) fn new(
        config: Config,
        digest: u64,
        name: &str,
        default_routing: Routing,
        on_first_use: fn(&Plugin, &Service),
    ) -> Result<Plugin, Fault> {
        let (name, role) = (Rc::from(name), config.role);
        metrics::keeps_gauges(&name, role)?;
        let mut destinations = Vec::new();
        let services = config.services.into_iter().enumerate();
        let services: Vec<Service> = services
            .map(|(index, service)| {
                let place = (index, destinations.len());
                let service = Service::new(service, place, &name, role, default_routing);
                let ids = service.destinations();
                destinations.extend(ids.map(|id| Destination { service: index, id }));
                service
            })
            .collect();
        let host = |index: usize| services.get(index).map_or("", Service::host);
        let mut by_host: Vec<usize> = Vec::with_capacity(services.len());
        for index in (0..services.len()).filter(|index| host(*index) != "*") {
            sorted::insert(&mut by_host, index, host);
        }
        // Where a route by that header is the way to a peer. A server pays for it where nobody counts instructions.
        let by_header = |s: &Service| s.peers.iter().any(|peer| peer.routing == Routing::Header);
        let looks_for_to = services
            .iter()
            .any(|s| s.mode == Mode::Enforce && (role == Role::Server || by_header(s)));
        let off = match role {
            Role::Edge => config.mode == Mode::Off,
            Role::Client | Role::Server => services.iter().all(|s| s.mode == Mode::Off),
        };
        let since = hostcalls::monotonic();
        Ok(Plugin {
            off,
            name,
            role,
            cluster: config.cluster,
            mode: config.mode,
            debug_header: config.debug_header,
            trust_domains: config.trust_domains,
            looks_for_to,
            forged: Cell::default(),
            used: RefCell::default(),
            turn: Cell::default(),
            services,
            destinations,
            by_host,
            ledger: RefCell::default(),
            since,
            clock: Cell::new(since),
            on_first_use,
            digest,
            strangers: Strangers::of(role),
            last: arrival::Last::default(),
        })
    }

    /// The service that serves whatever the proxy serves, if this configuration is so.
    pub fn star(&self) -> Option<&Service> {
        if self.by_host.is_empty() {
            self.services.first()
        } else {
            None
        }
    }

    /// Now, as of the last tick.
    pub fn now(&self) -> Instant {
        self.clock.get()
    }

    /// All services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of this index.
    pub fn service(&self, index: usize) -> Option<&Service> {
        self.services.get(index)
    }

    /// The service of this host, whatever its case.
    #[inline(never)]
    pub fn by_host(&self, host: &str) -> Option<&Service> {
        let lower;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        let of = |index: &usize| self.services.get(*index);
        let at = self
            .by_host
            .binary_search_by(|index| of(index).map_or("", Service::host).cmp(host))
            .ok()?;
        self.by_host.get(at).and_then(of)
    }

    /// The service of this name in the configuration, a host or `*`.
    pub fn by_name(&self, name: &str) -> Option<&Service> {
        if name == "*" {
            self.star()
        } else {
            self.by_host(name)
        }
    }

    /// The host of the service, and the name of the peer, whose count in the index has this name, if it is of this plugin and
    /// role. There is no peer if the count is that of home.
    #[inline(never)]
    pub fn destination_of<'a>(&self, name: &'a str) -> Option<(&'a str, Option<&'a str>)> {
        let of = [("plugin", &*self.name), ("role", self.role.word())];
        let rest = name.strip_prefix(&*metric(&of, "service=.="))?;
        // No value of a label has a semicolon. To search for a text would make the module 9,000 bytes larger.
        let (host, rest) = rest.split_once(';')?;
        if rest == ".;in_flight" {
            return Some((host, None));
        }
        let peer = rest.strip_prefix(".;peer=.=")?;
        Some((host, Some(peer.strip_suffix(";.;peer_in_flight")?)))
    }

    /// The labels of a service.
    pub fn labels(&self, host: &str) -> Labels {
        Labels {
            plugin: Rc::clone(&self.name),
            role: self.role,
            host: host.to_owned(),
        }
    }

    /// Goes on with what services have in the configuration `before`, of the same plugin and role, that were used there.
    #[inline(never)]
    pub(super) fn go_on(&self, before: &Plugin) {
        for service in &before.services {
            if service.is_used()
                && let Some(now) = self.by_name(service.host())
            {
                now.go_on(service);
                // What errors have begun may be over before a request comes.
                self.visits(now);
            }
        }
    }

    /// The service that has a peer with this host. There is at most one.
    pub fn by_peer_host(&self, host: &str) -> Option<&Service> {
        let has = |service: &&Service| service.peers.iter().any(|peer| peer.host() == host);
        self.services.iter().find(has)
    }

    /// Notes that a request came to a service: one that none came to costs nothing in a tick.
    pub fn uses(&self, service: &Service) {
        if !service.visited.get() {
            self.is_used(service);
        }
    }

    #[cold]
    #[inline(never)]
    fn is_used(&self, service: &Service) {
        self.visits(service);
        (self.on_first_use)(self, service);
    }

    /// Has a service visited in the ticks.
    #[inline(never)]
    pub(super) fn visits(&self, service: &Service) {
        if !service.visited.get()
            && let Ok(mut used) = self.used.try_borrow_mut()
        {
            service.visited.set(true);
            used.push(service.index);
            if used.len() >= self.services.len() {
                self.strangers.close();
            }
        }
    }

    /// Counts a request with headers of the filter's that nobody vouches for.
    #[inline(never)]
    pub fn forged(&self) {
        metrics::count(&self.forged, || {
            let labels = [("plugin", &*self.name), ("role", self.role.word())];
            metric(&labels, "forged_headers")
        });
    }

    /// A destination of the configuration, by its index among all of them, and its service.
    pub(super) fn destination(&self, index: usize) -> Option<(&Service, DestinationId)> {
        let destination = self.destinations.get(index)?;
        Some((self.services.get(destination.service)?, destination.id))
    }

    /// Books a request that the count of this destination already includes.
    pub fn hold(&self, service: &Service, to: DestinationId, stream: u32) -> Option<Ticket> {
        let destination = service.first.saturating_add(to.index());
        self.ledger
            .try_borrow_mut()
            .ok()
            .map(|mut ledger| ledger.hold(destination, stream))
    }

    /// Notes that the answer to a request has begun: from now on a sweep looks at it, if anything depends on the count.
    pub fn answered(&self, service: &Service, to: DestinationId, ticket: Option<&Ticket>) {
        let matters = to != DestinationId::HOME || service.rule.limit.is_some();
        if let Some(ticket) = ticket.filter(|_| matters)
            && let Ok(mut ledger) = self.ledger.try_borrow_mut()
        {
            ledger.answered(ticket);
        }
    }

    /// Takes a request off its count, if no sweep did. The last thing that a callback does.
    pub fn release(&self, ticket: Ticket) {
        let destination = self
            .ledger
            .try_borrow_mut()
            .ok()
            .and_then(|mut ledger| ledger.release(ticket));
        if let Some((service, to)) = destination.and_then(|index| self.destination(index)) {
            service.count_out_last(to);
        }
    }
}
