//! One request: the callbacks of its stream.

mod dispatch;
mod judge;
mod spilled;
mod surplus;

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::arrival;
use super::peer::Left;
use super::plugin::Plugin;
use super::service::Service;
use super::trap;
use crate::hostcalls::{self, Map};
use crate::recovery;
use config::{Mode, Role};
use policy::destination::DestinationId;
use policy::names::{self, HomeReason};
use policy::outcome::Answerer;
use policy::response::Assess;
use policy::{Decision, Origin, Outcome, Ticket, origin};

const AUTHORITY: &str = ":authority";
const GRPC_STATUS: &str = "grpc-status";

/// The context of a request.
pub struct Request {
    id: u32,
    plugin: Option<Rc<Plugin>>,
    ticket: Option<Ticket>,
    /// The index of its service, and the decision.
    said: Option<(usize, Decision)>,
    /// What is remembered until the answer of a request that was sent to a peer.
    left: Option<Left>,
    /// The outcome of a request that was sent to a peer.
    outcome: Option<Outcome>,
    /// Whether its answer is known to be complete.
    complete: bool,
    /// Whether the request is known to be complete, because it has no body.
    whole: bool,
    /// What the answer says of the destination.
    assess: Assess,
    /// The root context counts its streams by the references to this.
    _of: Rc<()>,
}

impl Request {
    pub fn new(id: u32, plugin: Option<Rc<Plugin>>, of: Rc<()>) -> Self {
        Request {
            id,
            plugin,
            ticket: None,
            said: None,
            left: None,
            outcome: None,
            complete: false,
            whole: false,
            assess: Assess::NOTHING,
            _of: of,
        }
    }

    fn run(&mut self, plugin: &Plugin) -> Action {
        let marker = hostcalls::header(Map::Request, names::MARKER);
        // Another instance of the filter in this proxy has already decided, and set the headers.
        if marker.is_some() && hostcalls::has_property(hostcalls::DECIDED) {
            return Action::Continue;
        }
        if plugin.role == Role::Edge {
            arrival::guard(plugin, marker.is_some());
            return Action::Continue;
        }
        let origin = marker.as_deref().map_or(Origin::Own, |marker| {
            origin::of(marker, &plugin.cluster, arrival::believed(plugin))
        });
        let cluster = plugin
            .star()
            .is_none()
            .then(|| hostcalls::property(hostcalls::CLUSTER).unwrap_or_default());
        let (found, leads_home) = match &cluster {
            None => (plugin.star(), true),
            Some(cluster) => arrival::find(plugin, cluster),
        };
        // This header named a peer to the proxy of the sender. Here it could lead the request past the limit, or a guest on to
        // the next cluster, so it is removed whoever set it. Nearly all requests are known to lead home without it, and it is
        // not looked for in them.
        let to = (plugin.looks_for_to || marker.is_some() || !leads_home)
            && hostcalls::header(Map::Request, names::TO).is_some();
        let led_away = to && found.is_none();
        let service = match &cluster {
            Some(cluster) if led_away => arrival::find_led_away(plugin, cluster),
            _ => found,
        };
        let mode = service.map_or(plugin.mode, |service| service.mode);
        let forged = marker.is_some() && origin == Origin::Own;
        if mode != Mode::Off && (forged || (to && origin == Origin::Own)) {
            plugin.forged();
        }
        if mode == Mode::Enforce {
            arrival::remove(forged, to);
        }
        match service {
            // With `mode: observe`, a request that the header leads to a peer is left alone. It is not home's.
            Some(service) if mode == Mode::Enforce || (mode == Mode::Observe && !led_away) => {
                self.carry_out(plugin, service, origin, cluster, to)
            }
            _ => Action::Continue,
        }
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        recovery::begins();
        trap::read();
        trap::at("request-headers");
        self.whole = end_of_stream;
        // The reference is taken out for the callback, because cloning it would cost more.
        let plugin = self.plugin.take();
        let action = match &plugin {
            Some(plugin) => self.run(plugin),
            None => Action::Continue,
        };
        self.plugin = plugin;
        recovery::ends();
        action
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.answered(end_of_stream);
        trap::at("response-headers");
        recovery::ends();
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        recovery::begins();
        trap::at("response-trailers");
        if self.assess.trailers() {
            self.judge_on();
        }
        if let Some(outcome) = self.outcome {
            self.spilled_trailers(outcome);
        }
        recovery::ends();
        Action::Continue
    }
}

impl Request {
    /// Handles the beginning of an answer. If there is nothing to do, the callback is not marked: most answers are not read.
    fn answered(&mut self, end_of_stream: bool) {
        let (Some(plugin), Some((index, decision))) = (self.plugin.clone(), self.said) else {
            return;
        };
        let Some(service) = plugin.service(index) else {
            return;
        };
        plugin.answered(service, self.sent_to(), self.ticket.as_ref());
        if let (Some(health), Decision::Home(_)) = (service.health(), decision) {
            self.judge(health, end_of_stream);
        }
        if self.outcome.is_some() {
            recovery::begins();
            self.spilled_begun(&plugin, service, end_of_stream);
        }
        if plugin.debug_header && service.mode == Mode::Enforce {
            recovery::begins();
            // If we left the request at home, another instance behind us may have spilled it, and has set the header.
            if decision != Decision::Home(HomeReason::Room)
                || !hostcalls::has_property(hostcalls::DECIDED)
            {
                let said = self.line(service, decision);
                hostcalls::set_header(Map::Response, names::DEBUG, &said);
            }
        }
    }
}

impl Request {
    /// The service of the request, once that is known.
    fn service(&self) -> Option<&Service> {
        self.said
            .and_then(|(index, _)| self.plugin.as_ref()?.service(index))
    }

    /// The destination of the request.
    fn sent_to(&self) -> DestinationId {
        let spilled = self.said.filter(|_| self.outcome.is_some());
        let to = spilled.and_then(|(_, decision)| decision.to());
        to.unwrap_or(DestinationId::HOME)
    }

    /// The text for the access log and the debug header: the decision, and whether home answered a request that was spilled.
    fn line(&self, service: &Service, decision: Decision) -> String {
        let (destination, reason) = service.said(decision);
        let mut line = format!("{destination}; reason={reason}");
        if self.outcome.is_some_and(|o| o.who == Answerer::Home) {
            line.push_str("; ");
            line.push_str(names::RETURNED);
        }
        line
    }

    /// Whether it is counted, and more would be lost with this VM: other requests of its service, or errors.
    fn has_more_to_lose(&self) -> bool {
        self.ticket.is_some()
            && self.service().is_some_and(|service| {
                service.health().is_some() || service.holds_many(self.sent_to())
            })
    }
}

/// **Invariant: a ticket is released once, whatever ended the request.** Envoy deletes the context after an answer, an abort, a
/// reset and a timeout alike.
impl Drop for Request {
    fn drop(&mut self) {
        // The callback is marked only if something is read in it, or if more would be lost with this VM.
        if self.assess.is_open() || self.has_more_to_lose() {
            recovery::begins();
        }
        trap::at("delete");
        if self.assess.ends() {
            self.judge_on();
        }
        if let Some(outcome) = self.outcome {
            self.spilled_ended(outcome);
        }
        if let (Some(plugin), Some(ticket)) = (&self.plugin, self.ticket.take()) {
            plugin.release(ticket);
        }
        recovery::ends();
    }
}
