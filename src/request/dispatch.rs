//! Carries out what [`policy::dispatch`] decides of a request, step by step.

use proxy_wasm::types::Action;

use super::{AUTHORITY, Request, judge, surplus};
use crate::health::owner;
use crate::hostcalls::{self, Map};
use crate::peer::Peer;
use crate::plugin::Plugin;
use crate::service::Service;
use config::{Mode, Routing};
use policy::destination::DestinationId;
use policy::dispatch::{Dispatch, Fact, Step};
use policy::ejection::Ended;
use policy::names::{self, HomeReason, SpillReason};
use policy::{Decision, Origin, Outcome, response};

impl Request {
    /// Decides about a request of this service and origin, and does what the decision says. `cluster` is the cluster of its route
    /// if that was read, and `had_to` says whether it had the header that routes to a peer.
    pub(super) fn carry_out(
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
                Step::Draw => surplus::draw(service.spill.as_deref()),
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
            // Envoy did not take the answer, so the request goes home, and is in flight there.
            if service.count_in(DestinationId::HOME) {
                self.hold(plugin, service, DestinationId::HOME);
            }
        }
        Action::Continue
    }

    /// Holds the request, which the count of this destination includes.
    fn hold(&mut self, plugin: &Plugin, service: &Service, at: DestinationId) {
        self.ticket = plugin.hold(service, at, self.id);
        if self.ticket.is_none() {
            service.count_out(at, 1);
        }
    }

    /// Whether anything leads to this peer. `why` is the reason for which the request leaves.
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
        // The header had led the request to the peer's cluster, so its answer says nothing of the way.
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
    // A header of the client's, if nothing had to look for it before. It is not meant for the peer.
    if peer.routing == Routing::Authority && hostcalls::header(Map::Request, names::TO).is_some() {
        hostcalls::remove_header(Map::Request, names::TO);
    }
    true
}
