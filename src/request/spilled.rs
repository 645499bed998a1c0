//! What became of a spilled request: read from its answer, and counted once, at its end. The verdicts are those of
//! [`policy::outcome`].

use super::judge::assess;
use super::{GRPC_STATUS, Request};
use crate::health::Health;
use crate::hostcalls::{self, Map};
use crate::peer::Peer;
use crate::plugin::Plugin;
use crate::service::Service;
use policy::Outcome;
use policy::names;
use policy::outcome::{self, Answerer, Class, Evidence};

impl Request {
    /// The answer to a spilled request begins.
    pub(super) fn spilled_begun(&mut self, plugin: &Plugin, service: &Service, complete: bool) {
        let left = self.left.take();
        let cluster = hostcalls::property(hostcalls::CLUSTER).unwrap_or_default();
        let peer = service.peer(self.sent_to());
        let home = left.as_ref().map_or("", |left| &left.home);
        let own = peer.map_or("", Peer::own);
        let evidence = outcome::evidence(service.host(), own, home, &cluster);
        if let (Some(peer), Some(left)) = (peer, &left) {
            peer.answered(left, evidence == Evidence::Back, &cluster, plugin.now());
        }
        let value = match evidence {
            Evidence::Back => None,
            Evidence::Region => hostcalls::property(hostcalls::UPSTREAM_REGION),
            Evidence::Workload => hostcalls::property(hostcalls::UPSTREAM_WORKLOAD),
        };
        let who = evidence.answerer(&value.unwrap_or_default(), &plugin.cluster);
        let status = hostcalls::header(Map::Response, ":status");
        let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
        let grpc = complete.then(|| hostcalls::header(Map::Response, GRPC_STATUS));
        let details = hostcalls::property(hostcalls::CODE_DETAILS).unwrap_or_default();
        let outcome = Outcome::begun(who, status, grpc.flatten().as_deref(), &details);
        self.outcome = Some(outcome);
        self.complete = complete;
        let flags = match outcome.class {
            Class::None => hostcalls::number(hostcalls::RESPONSE_FLAGS),
            _ => 0,
        };
        match (peer, outcome::reached(evidence, outcome, flags)) {
            (Some(peer), Some(true)) => peer.reached(),
            (Some(peer), Some(false)) => peer.not_reached(&details),
            _ => {}
        }
        if let (Answerer::Home, Some((_, decision))) = (outcome.who, self.said) {
            hostcalls::set_property(names::LOG_FIELD, &self.line(service, decision));
        }
        if let Some(health) = peer.and_then(Peer::health) {
            self.judge_peer(health, evidence, outcome.who, complete);
        }
    }

    /// What the answer to a spilled request says of the peer.
    fn judge_peer(&mut self, health: &Health, evidence: Evidence, who: Answerer, complete: bool) {
        match (evidence, who) {
            (Evidence::Back, _) if !self.assess.strayed() => {}
            (Evidence::Back, _) => assess(&mut self.assess, health, self.id),
            (_, Answerer::Home) => {
                self.assess.came_home();
                assess(&mut self.assess, health, self.id);
            }
            (_, Answerer::Peer) => self.judge(health, complete),
        }
    }

    /// The trailers of an answer to a spilled request.
    pub(super) fn spilled_trailers(&mut self, outcome: Outcome) {
        self.complete = true;
        if let Some(grpc) = hostcalls::header(Map::ResponseTrailers, GRPC_STATUS) {
            self.outcome = Some(outcome.with_trailers(&grpc));
        }
    }

    /// A spilled request ends.
    pub(super) fn spilled_ended(&self, mut outcome: Outcome) {
        if outcome == Outcome::UNANSWERED {
            outcome =
                outcome.left(&hostcalls::property(hostcalls::CODE_DETAILS).unwrap_or_default());
        } else if !self.complete {
            outcome = outcome.ended(hostcalls::number(hostcalls::RESPONSE_FLAGS));
        }
        let service = self.service();
        if let Some(peer) = service.and_then(|service| service.peer(self.sent_to())) {
            peer.came_of_it(outcome);
        }
    }
}
