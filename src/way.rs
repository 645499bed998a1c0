//! The way to a service's peer: what is looked at before a request is spilled, and learned from its answer.

use super::misroute::Misroute;
use super::service::Service;
use crate::hostcalls::{self, Map};
use config::{Peer, Routing};
use policy::names::{SpillReason, metric};
use policy::risk::Turn;
use policy::route::{self, End, Trial};
use policy::time::Instant;

/// A request that was sent to the peer.
pub struct Left {
    /// Its cluster before.
    pub(super) home: String,
    /// What selects its route; 0 where that was not asked for, since all was well.
    selector: u64,
    /// No cluster of the peer was known.
    at_risk: bool,
}

impl Service {
    /// The way of a request whose cluster is `home` to the peer, if it may be sent there now. `None` is a misroute, and
    /// counted. A request that is `bodiless` may be sent at risk.
    pub fn way(
        &self,
        home: String,
        now: Instant,
        why: SpillReason,
        bodiless: bool,
    ) -> Option<Left> {
        let peer = self.peer.as_ref()?;
        let mut routes = self.routes.try_borrow_mut().ok()?;
        let (mut selector, mut at_risk) = (0, false);
        let mut trial = routes.trial(&home, selector, now);
        if trial == Trial::Look {
            routes.looked(&home, self.look(&home, peer), now);
            trial = routes.trial(&home, selector, now);
            at_risk = trial == Trial::NoCluster
                && self.may_risk(
                    &home,
                    peer,
                    why == SpillReason::Ejected,
                    bodiless && is_read(),
                );
        }
        if trial == Trial::Select {
            selector = self.selector();
            trial = routes.trial(&home, selector, now);
        }
        if trial == Trial::Go || at_risk {
            // The route may rewrite what it is made of.
            if selector == 0 && self.misroutes() != 0 {
                selector = self.selector();
            }
            return Some(Left {
                home,
                selector,
                at_risk,
            });
        }
        let kind = (trial == Trial::NoCluster).then_some(Misroute::NoCluster);
        self.misrouted(peer, kind, (&home, selector), "");
        None
    }

    /// Learns from a spilled request's answer, which came from `cluster`, where it went.
    pub fn answered(&self, left: &Left, cluster: &str, now: Instant) {
        let (Some(peer), Ok(mut routes)) = (&self.peer, self.routes.try_borrow_mut()) else {
            return;
        };
        let Left {
            home,
            selector,
            at_risk,
        } = left;
        let end = route::end(
            home,
            cluster,
            hostcalls::number(hostcalls::RESPONSE_FLAGS),
            || hostcalls::has_property(hostcalls::UPSTREAM_ADDRESS),
            || hostcalls::property(hostcalls::ROUTE).is_some_and(|name| name == route::BLOCKED),
        );
        let Some(end) = end else {
            return;
        };
        let selector = match selector {
            0 if end != End::Arrived => self.selector(),
            selector => *selector,
        };
        if routes.answered(home, selector, cluster, end, *at_risk, now) {
            routes.looked(home, self.look(home, peer), now);
        }
        if end == End::Arrived {
            if *at_risk {
                hostcalls::remember(&self.way_key(home, peer, "cluster"), cluster);
            }
            if selector != 0 {
                self.arrived(peer, home, selector);
            }
            return;
        }
        let kind = match end {
            End::Empty => Misroute::Empty,
            // That there is none is known, and this was sent to see.
            _ if *at_risk => Misroute::NoCluster,
            _ if cluster.is_empty() => Misroute::NoRoute,
            _ => Misroute::Elsewhere,
        };
        self.misrouted(peer, Some(kind), (home, selector), cluster);
    }

    /// What selects this request's route.
    #[inline(never)]
    pub(super) fn selector(&self) -> u64 {
        let names = match self.routing {
            Routing::Authority => &[":method", ":path"][..],
            // The host is the client's own.
            Routing::Header => &[":method", ":path", ":authority"],
        };
        let value = |name: &&str| hostcalls::header(Map::Request, name).unwrap_or_default();
        route::selector(names.iter().map(value))
    }

    /// Whether a cluster of the peer exists, by the names that Istio gives it or by the one where a request at risk
    /// arrived; `None` if that cannot be told.
    #[inline(never)]
    fn look(&self, home: &str, peer: &Peer) -> Option<bool> {
        let exists = route::peer_exists(home, &peer.host, hostcalls::knows_cluster)?;
        if exists {
            return Some(true);
        }
        let learned = hostcalls::recall(&self.way_key(home, peer, "cluster"));
        learned.map_or(Some(false), |name| hostcalls::knows_cluster(&name))
    }

    /// Whether it is this request's turn to be sent though no cluster of the peer is known.
    #[inline(never)]
    fn may_risk(&self, home: &str, peer: &Peer, ejected: bool, read: bool) -> bool {
        let (key, now) = (self.way_key(home, peer, "turn.2"), hostcalls::monotonic());
        let known = hostcalls::recall_bytes(&key).and_then(Turn::from_bytes);
        let turn = known.unwrap_or(Turn::first(now));
        let taken = turn.take(now, ejected, read);
        if taken.is_some() || known.is_none() {
            // Two workers may do so at once, which costs a request.
            hostcalls::remember_bytes(&key, &taken.unwrap_or(turn).to_bytes());
        }
        taken.is_some()
    }

    /// The key of what the workers share about the way to the peer from one of home's clusters.
    #[inline(never)]
    fn way_key(&self, home: &str, peer: &Peer, what: &str) -> String {
        let key = metric(&self.labels.pairs(), &peer.host);
        [&key, " ", home, " ", what].concat()
    }
}

/// GET or HEAD.
fn is_read() -> bool {
    hostcalls::header(Map::Request, ":method")
        .is_some_and(|method| method == "GET" || method == "HEAD")
}
