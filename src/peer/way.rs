//! The way to a peer: what is looked at before a request is spilled, and what is learned from its answer.

use super::Peer;
use super::misroute::Misroute;
use crate::hostcalls::{self, Map};
use config::Routing;
use policy::names::{SpillReason, keys};
use policy::risk::Turn;
use policy::route::{self, End, Trial};
use policy::time::Instant;

/// What is remembered of a request that was sent to the peer.
pub struct Left {
    /// Its cluster before it was rewritten.
    pub home: String,
    /// The hash of what selects its route. It is 0 if nothing was read, since no request was lost for some time.
    selector: u64,
    /// Whether it was sent although no cluster of the peer was known.
    at_risk: bool,
}

impl Peer {
    /// Whether a request whose cluster is `home` may be sent to the peer now. `None` if not, which is counted as a misroute. Only
    /// a request that is `bodiless` may be sent at risk at once.
    pub fn way(
        &self,
        home: String,
        now: Instant,
        why: SpillReason,
        bodiless: bool,
    ) -> Option<Left> {
        let mut routes = self.used()?.routes.try_borrow_mut().ok()?;
        let (mut selector, mut at_risk) = (0, false);
        let mut trial = routes.trial(&home, selector, now);
        if trial == Trial::Look {
            routes.looked(&home, self.look(&home), now);
            trial = routes.trial(&home, selector, now);
            at_risk = trial == Trial::NoCluster
                && self.may_risk(&home, why == SpillReason::Ejected, bodiless && is_read());
        }
        if trial == Trial::Select {
            selector = self.selector();
            trial = routes.trial(&home, selector, now);
        }
        if trial == Trial::Go || at_risk {
            // The route may rewrite the headers that the selector is made of.
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
        self.misrouted(kind, (&home, selector), "");
        None
    }

    /// Learns from the answer to a spilled request, which came from `cluster`, whether the request has arrived. `back` says
    /// whether that is a cluster of home.
    pub fn answered(&self, left: &Left, back: bool, cluster: &str, now: Instant) {
        let routes = self.used().map(|used| used.routes.try_borrow_mut());
        let Some(Ok(mut routes)) = routes else {
            return;
        };
        let Left {
            home,
            selector,
            at_risk,
        } = left;
        let end = route::end(
            back,
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
            routes.looked(home, self.look(home), now);
        }
        if end == End::Arrived {
            if *at_risk {
                hostcalls::remember(&self.way_key(home, keys::ARRIVED), cluster);
            }
            if selector != 0 {
                self.arrived(home, selector);
            }
            return;
        }
        let kind = match end {
            End::Empty => Misroute::Empty,
            // It is known that there is no cluster, and the request was sent to find another.
            _ if *at_risk => Misroute::NoCluster,
            _ if cluster.is_empty() => Misroute::NoRoute,
            _ => Misroute::Elsewhere,
        };
        self.misrouted(Some(kind), (home, selector), cluster);
    }

    /// The hash of the headers that select this request's route.
    #[inline(never)]
    pub(super) fn selector(&self) -> u64 {
        let names = match self.routing {
            Routing::Authority => &[":method", ":path"][..],
            // With this routing, `:authority` is the client's own.
            Routing::Header => &[":method", ":path", ":authority"],
        };
        let value = |name: &&str| hostcalls::header(Map::Request, name).unwrap_or_default();
        route::selector(names.iter().map(value))
    }

    /// Whether a cluster of the peer exists, by the names that Istio gives to it or by the name of the cluster where a request
    /// at risk has arrived. `None` if the filter cannot find out.
    #[inline(never)]
    fn look(&self, home: &str) -> Option<bool> {
        let at = self.config.host_and_subset();
        let exists = route::peer_exists(home, at, hostcalls::knows_cluster)?;
        if exists {
            return Some(true);
        }
        let learned = hostcalls::recall(&self.way_key(home, keys::ARRIVED));
        learned.map_or(Some(false), |name| hostcalls::knows_cluster(&name))
    }

    /// Whether this request may be sent although no cluster of the peer is known.
    #[inline(never)]
    fn may_risk(&self, home: &str, ejected: bool, read: bool) -> bool {
        let (key, now) = (self.way_key(home, keys::TURN), hostcalls::monotonic());
        let known = hostcalls::recall_bytes(&key).and_then(Turn::from_bytes);
        let turn = known.unwrap_or(Turn::first(now));
        let taken = turn.take(now, ejected, read);
        if taken.is_some() || known.is_none() {
            // Two workers may take the same turn, which costs one more request at risk.
            hostcalls::remember_bytes(&key, &taken.unwrap_or(turn).to_bytes());
        }
        taken.is_some()
    }

    /// The key of what the workers share about the way from one of home's clusters to the peer.
    #[inline(never)]
    fn way_key(&self, home: &str, what: &str) -> String {
        let key = self.service.metric(&[], self.at());
        [&key, " ", home, " ", what].concat()
    }
}

/// GET or HEAD.
fn is_read() -> bool {
    hostcalls::header(Map::Request, ":method")
        .is_some_and(|method| method == "GET" || method == "HEAD")
}
