//! One request: what must be read of it, what the policy decides, and how that is carried out.

mod judge;
mod spilled;
mod surplus;

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::arrival;
use super::peer::{Left, Peer};
use super::plugin::Plugin;
use super::service::Service;
use super::trap;
use crate::health::owner;
use crate::hostcalls::{self, Map};
use crate::recovery;
use config::{Mode, Role, Routing};
use policy::destination::DestinationId;
use policy::dispatch::{Dispatch, Fact, Step};
use policy::ejection::Ended;
use policy::names::{self, HomeReason, SpillReason};
use policy::outcome::Answerer;
use policy::response::{self, Assess};
use policy::{Decision, Origin, Outcome, Ticket, origin};

const AUTHORITY: &str = ":authority";
const GRPC_STATUS: &str = "grpc-status";

/// The context of a request.
pub struct Request {
    id: u32,
    plugin: Option<Rc<Plugin>>,
    ticket: Option<Ticket>,
    /// Service and decision.
    said: Option<(usize, Decision)>,
    /// Where the request was sent to the peer: from where.
    left: Option<Left>,
    /// Where the request was sent to the peer: what is known of its answer.
    outcome: Option<Outcome>,
    /// Its answer is known to be complete.
    complete: bool,
    /// It is known to be complete, having no body.
    whole: bool,
    /// Where the request went home: what its answer says of home.
    assess: Assess,
    /// Its root context has it.
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
        // An instance before us in this proxy has decided: the headers are its own.
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
        // Whoever sent it: it named a peer to the sender's proxy. Here it would choose a way past the count, and, in a guest,
        // lead it on and on. Nearly all requests are known to lead home without it, and do not pay for a look.
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
            // What is only observed is left on its way to the peer, and is not home's.
            Some(service) if mode == Mode::Enforce || (mode == Mode::Observe && !led_away) => {
                self.carry_out(plugin, service, origin, cluster, to)
            }
            _ => Action::Continue,
        }
    }

    fn carry_out(
        &mut self,
        plugin: &Plugin,
        service: &Service,
        origin: Origin,
        mut cluster: Option<String>,
        had_to: bool,
    ) -> Action {
        plugin.uses(service);
        let enforce = service.mode == Mode::Enforce;
        let detection = service.detection.as_ref();
        let mut dispatch = Dispatch::new(
            service.rule,
            &service.candidates,
            detection,
            origin,
            enforce,
        );
        let mut fact = Fact::from(service.is_counted());
        let decision = loop {
            fact = match dispatch.next(fact) {
                Step::Health => match service.health() {
                    Some(health) => Fact::Verdict(health.verdict(self.id, self.whole)),
                    None => Fact::No,
                },
                Step::Room(limit) => Fact::Admission(service.admit(limit)),
                Step::Overflowed => overflowed(service),
                Step::Way(to, why) => {
                    let peer = service.peer(to.into());
                    self.way(plugin, peer, &mut cluster, why).into()
                }
                Step::Rewrite(to) => {
                    let peer = service.peer(to.into());
                    self.rewrite(plugin, peer, had_to).into()
                }
                Step::MaySpill => surplus::may_spill(service.spill.as_deref()),
                Step::Draw => surplus::draw(service.spill.as_deref(), plugin),
                Step::PeerHealth(to) => match service.health_at(to.into()) {
                    Some(health) => Fact::Verdict(health.verdict(self.id, self.whole)),
                    None => Fact::No,
                },
                Step::PeerRoom(to, limit) => Fact::Admission(service.admit_at(to, limit)),
                Step::TakeBack(to) => {
                    service.count_out(to.into(), 1);
                    Fact::Yes
                }
                Step::LetGo(to) => {
                    if let Some(health) = service.health_at(to.into()) {
                        health.probe_ended(owner(self.id), Ended::Nothing);
                    }
                    Fact::Yes
                }
                Step::Declined(to, why) => {
                    self.left = None;
                    if let Some(peer) = service.peer(to.into()) {
                        peer.did_not_take(why);
                    }
                    Fact::Yes
                }
                Step::Count(at) => service.count_in(at).into(),
                Step::Hold(at) => {
                    self.hold(plugin, service, at);
                    Fact::Yes
                }
                Step::Done(decision) => break decision,
            };
        };
        self.said = Some((service.index, decision));
        let goes = match decision {
            Decision::Home(_) => service.health(),
            _ if self.outcome.is_some() => service.health_at(self.sent_to()),
            _ => None,
        };
        if let Some(health) = goes {
            let probe = dispatch.probe().is_some();
            if health.sampled(|sampling, _| self.assess.sent(probe, self.whole, sampling)) {
                judge::assess(&mut self.assess, health, self.id);
            }
        }
        service.decided(decision);
        if !enforce {
            return Action::Continue;
        }
        if decision != Decision::Home(HomeReason::Room) {
            hostcalls::set_property(names::LOG_FIELD, &self.line(service, decision));
        }
        if decision == Decision::Reject {
            if hostcalls::reply(503, "peer_spillover_full", "no room, here or at a peer\n") {
                return Action::Pause;
            }
            // It goes home all the same, and is in flight there.
            if service.count_in(DestinationId::HOME) {
                self.hold(plugin, service, DestinationId::HOME);
            }
        }
        Action::Continue
    }
}

impl Request {
    /// Holds the request, which the count of this destination includes.
    fn hold(&mut self, plugin: &Plugin, service: &Service, at: DestinationId) {
        self.ticket = plugin.hold(service, at, self.id);
        if self.ticket.is_none() {
            service.count_out(at, 1);
        }
    }

    /// Whether anything leads to this peer, for a request that leaves for this reason.
    #[cold]
    #[inline(never)]
    fn way(
        &mut self,
        plugin: &Plugin,
        peer: Option<&Peer>,
        cluster: &mut Option<String>,
        why: SpillReason,
    ) -> bool {
        let home = cluster
            .get_or_insert_with(|| hostcalls::property(hostcalls::CLUSTER).unwrap_or_default());
        let way = |peer: &Peer| peer.way(home.clone(), plugin.now(), why, self.whole);
        self.left = peer.and_then(way);
        self.left.is_some()
    }

    /// Rewrites the request for the peer. `had_to` says whether it had the header that routes to a peer.
    #[cold]
    #[inline(never)]
    fn rewrite(&mut self, plugin: &Plugin, peer: Option<&Peer>, had_to: bool) -> bool {
        let rewritten = peer.is_some_and(|peer| rewrite(plugin, peer));
        if rewritten {
            self.outcome = Some(Outcome::UNANSWERED);
        }
        // The header had named the peer's cluster, so its answer tells nothing of the way there.
        if !rewritten || had_to {
            self.left = None;
        }
        rewritten
    }
}

#[cold]
#[inline(never)]
fn overflowed(service: &Service) -> Fact {
    if let Some(health) = service.health() {
        health.overflowed(response::BROKEN);
    }
    Fact::Yes
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        recovery::begins();
        trap::read();
        trap::at("request-headers");
        self.whole = end_of_stream;
        // Taken out, since to count one more that refers to it is dearer.
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
    /// What there is to do with the beginning of an answer. Nothing is shown of the callback where there is nothing to do:
    /// most answers are not looked at.
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
            // Where we left it at home, one behind us may have spilled it, and has said so.
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
    /// The service that it is for, once that is decided.
    fn service(&self) -> Option<&Service> {
        self.said
            .and_then(|(index, _)| self.plugin.as_ref()?.service(index))
    }

    /// Where it was sent.
    fn sent_to(&self) -> DestinationId {
        let spilled = self.said.filter(|_| self.outcome.is_some());
        let to = spilled.and_then(|(_, decision)| decision.to());
        to.unwrap_or(DestinationId::HOME)
    }

    /// What is said of its decision, and of its answer if that came home: in the access log and the debug header.
    fn line(&self, service: &Service, decision: Decision) -> String {
        let (destination, reason) = service.said(decision);
        let mut line = format!("{destination}; reason={reason}");
        if self.outcome.is_some_and(|o| o.who == Answerer::Home) {
            line.push_str("; ");
            line.push_str(names::RETURNED);
        }
        line
    }

    /// Whether it holds a slot, and there is more to be lost with it: other requests of its service in this VM, or errors.
    fn has_more_to_lose(&self) -> bool {
        self.ticket.is_some()
            && self.service().is_some_and(|service| {
                service.health().is_some() || service.holds_many(self.sent_to())
            })
    }
}

/// **Invariant: a ticket is released once, whatever path ended the request**: Envoy deletes the context after an answer,
/// an abort, a reset and a timeout alike.
impl Drop for Request {
    fn drop(&mut self) {
        // The other VMs need not know of it where there is nothing to look at, and nothing else of this VM to be lost.
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

/// Rewrites the request so that its route leads to the peer. If the host refuses a part, nothing is changed.
fn rewrite(plugin: &Plugin, peer: &Peer) -> bool {
    let (name, value) = match peer.routing {
        Routing::Authority => (AUTHORITY, peer.host()),
        Routing::Header => (names::TO, peer.name()),
    };
    if !hostcalls::set_header(Map::Request, names::MARKER, &plugin.cluster) {
        return false;
    }
    if !hostcalls::set_header(Map::Request, name, value) {
        hostcalls::remove_header(Map::Request, names::MARKER);
        return false;
    }
    // A client's own, where nobody had to look for it before: it is no business of the peer's.
    if peer.routing == Routing::Authority && hostcalls::header(Map::Request, names::TO).is_some() {
        hostcalls::remove_header(Map::Request, names::TO);
    }
    true
}
