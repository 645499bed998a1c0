//! The log lines and metrics about spilled requests for which no route leads to the peer: what is wrong, what to do about it,
//! and when it is over.
//!
//! The gauge `misrouted` tells all workers which kinds of misroute stand. It is read only if a request is sent to a peer.

use core::hint::black_box;

use super::Peer;
use crate::hostcalls::{self, Metric};
use crate::metrics::{Subject, count};
use crate::notice::{self, Outcome, Text};
use config::Routing;
use policy::names::keys;
use policy::notice::{Notice, hash};
use policy::response;
use policy::route;
use policy::time::Millis;

/// The time without a misroute of a kind after which a request that arrives ends that kind. Only a request that was sent can
/// be found lost. A stopped route is tried again after ten seconds at the latest ([`policy::route`]), so by then all workers
/// know.
const SETTLE: Millis = Millis::seconds(15);

/// A kind of misroute. Each has a bit of the gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misroute {
    /// No cluster of the peer's host is known.
    NoCluster = 1,
    /// The route does not exist, or leads to a cluster that does not exist.
    NoRoute = 2,
    /// The peer's cluster has no healthy host.
    Empty = 4,
    /// The route leads home, or to a cluster that stands for none.
    Elsewhere = 8,
    /// The peer answers none of the requests that are sent to it. Home answers them, or they get no answer.
    Unreached = 16,
}

/// The bits of all kinds.
const ALL: u64 = 31;

/// All kinds. It is not a constant, because the compiler would unroll each loop over it.
#[inline(never)]
fn all() -> impl Iterator<Item = Misroute> {
    const KINDS: [Misroute; 5] = [
        Misroute::NoCluster,
        Misroute::NoRoute,
        Misroute::Empty,
        Misroute::Elsewhere,
        Misroute::Unreached,
    ];
    black_box(&KINDS[..]).iter().copied()
}

/// The lines. `%0` is the service, `%1` its peer, `%2` the peer's host, `%3` what is wrong, `%4` home's cluster, `%5` the cluster
/// where the request ended, `%6` the peer's subset, and `%7` the cluster of that.
const NOTHING: &str = "service %0: nothing leads to peer %1 at %2 (%3); ";
const EXPECTED: &str = "its cluster is %7; ";
const NO_SUBSET: &str =
    "its requests stay home. The DestinationRule of %2 must have it, and be seen here (exportTo)";
const NO_CLUSTER: &str = "its requests stay home. This proxy sees no ServiceEntry for %2 on the port of %4: apply one, or let it be seen here (exportTo, Sidecar)";
const UNREACHED: &str = "service %0: peer %1 at %2 answered none of the last 5 requests that were sent to it: %3. Its gateway cannot be reached, receiver is not applied there, the clusters trust different roots, or the DestinationRule of %5 is missing, not exported to this proxy, or has another sni than the service's. In /clusters of this proxy, see cx_connect_fail and health_flags of %5; and the metric outcomes";
const EMPTY: &str = "its requests stay home. Cluster %5 has no healthy endpoint: it has none, or outlierDetection of its DestinationRule has ejected all. See istioctl proxy-config endpoint";
const NO_ROUTE: &str = "such requests from %4 stay home. The VirtualService of %2 has no route for them, or the ServiceEntry lacks that port";
const NO_ROUTE_BY_HEADER: &str = "such requests from %4 stay home. The route that matches x-peer-spillover-to: %1 in the VirtualService of %0 must be one for this port and have the destination {host: %2";
const NO_MATCH: &str = "such requests stay home. The VirtualService of %0 has no match on x-peer-spillover-to before the route of home. Add there: {match: [{headers: {x-peer-spillover-to: {exact: %1}}}], headers: {request: {remove: [x-peer-spillover-to]}}, route: [{destination: {host: %2";

impl Misroute {
    /// What is wrong, in a log line and in the key of the notice.
    fn word(self) -> &'static str {
        match self {
            Misroute::NoCluster => keys::NO_CLUSTER,
            Misroute::NoRoute => keys::NO_ROUTE,
            Misroute::Empty => keys::EMPTY,
            Misroute::Elsewhere => keys::ELSEWHERE,
            Misroute::Unreached => keys::UNREACHED,
        }
    }

    #[inline(never)]
    fn key(self, of: Subject<'_>) -> String {
        notice::key(&of.pairs(), self.word())
    }

    /// A hash of the requests that the kind is about: those from the cluster `home`, or those of one selector among them.
    fn of(self, home: &str, selector: u64) -> u64 {
        let home = hash(home.as_bytes());
        match self {
            Misroute::NoRoute | Misroute::Elsewhere => home ^ selector,
            _ => home,
        }
    }
}

impl Peer {
    /// Counts a request from the cluster `home` that could not be spilled, or that ended in `cluster`, and logs a condition that
    /// begins.  `kind` is `None` if the request was not sent because others were lost, since nobody knows how it would have ended.
    #[inline(never)]
    pub(super) fn misrouted(
        &self,
        kind: Option<Misroute>,
        (home, selector): (&str, u64),
        cluster: &str,
    ) {
        let Some(used) = self.used() else { return };
        count(&used.misroutes, || {
            self.service.metric(&[("peer", self.name())], "misroutes")
        });
        let Some(kind) = kind else { return };
        let by_header = self.routing == Routing::Header;
        let (at, subset) = self.config.host_and_subset();
        let expected = route::peer_cluster(home, subset, "", at).unwrap_or_default();
        let (text, close) = match kind {
            Misroute::NoCluster if !subset.is_empty() => (NO_SUBSET, ""),
            Misroute::NoCluster => (NO_CLUSTER, ""),
            Misroute::Empty => (EMPTY, ""),
            Misroute::Elsewhere if by_header && cluster == home => (NO_MATCH, "}}]}"),
            _ if by_header => (NO_ROUTE_BY_HEADER, "}"),
            _ => (NO_ROUTE, ""),
        };
        let of = match (subset, close) {
            ("", _) | (_, "") => "",
            _ => ", subset: %6",
        };
        let end = match kind {
            Misroute::Elsewhere => cluster,
            _ => kind.word(),
        };
        let before = match (subset, &*expected) {
            ("", _) | (_, "") => "",
            _ => EXPECTED,
        };
        let host = &self.service.host;
        let with = [host, self.name(), at, end, home, cluster, subset, &expected];
        let text = [NOTHING, before, text, of, close].concat();
        self.begins(kind, kind.of(home, selector), (&text, &with));
    }

    /// The bits of the kinds that stand.
    #[inline(never)]
    pub(super) fn misroutes(&self) -> u64 {
        let gauge = self.misroutes_standing();
        gauge.and_then(hostcalls::read).unwrap_or(0)
    }

    /// The gauge of the kinds that stand.
    fn misroutes_standing(&self) -> Option<Metric> {
        self.used()?.misrouted
    }

    /// A spilled request from the cluster `home` has arrived in a cluster of the peer, which ends kinds of misroute.
    #[cold]
    #[inline(never)]
    pub(super) fn arrived(&self, home: &str, selector: u64) {
        let stands = self.misroutes();
        for kind in all() {
            if kind == Misroute::Unreached || stands & kind as u64 == 0 {
                continue;
            }
            let text = "service %0: a route leads to peer %1 at %2 again; it was: %3";
            let with = [&self.service.host, self.name(), self.host(), kind.word()];
            self.ends(kind, kind.of(home, selector), (text, &with));
        }
    }

    /// The peer did not answer a spilled request. `details` is how Envoy describes where the answer came from.
    pub fn not_reached(&self, details: &str) {
        if !self.saw(false) {
            return;
        }
        // An upstream has answered, which is home.
        let what = if response::came_from_home(details) {
            "home did"
        } else {
            details
        };
        let cluster = hostcalls::property(hostcalls::CLUSTER).unwrap_or_default();
        let host = &self.service.host;
        let with = [host, self.name(), self.host(), what, "", &cluster];
        let kind = Misroute::Unreached;
        self.begins(kind, 0, (UNREACHED, &with));
    }

    /// The peer answered a spilled request.
    pub fn reached(&self) {
        self.saw(true);
        let kind = Misroute::Unreached;
        if self.misroutes() & kind as u64 != 0 {
            let text = "service %0: peer %1 at %2 answers again";
            let with = [&*self.service.host, self.name(), self.host()];
            self.ends(kind, 0, (text, &with));
        }
    }

    /// Notes whether the peer answered a spilled request. Returns true if it has not answered many in a row.
    fn saw(&self, reached: bool) -> bool {
        self.used().is_some_and(|used| {
            let (row, many) = used.unreached.get().and(reached);
            used.unreached.set(row);
            many
        })
    }

    /// Corrects the gauge, by one kind in each turn of the peer. A VM may die between its changes of a notice and of the gauge, and any
    /// module of the proxy can write both. Two looks at a kind in a row must find the same fault, since another VM may be
    /// between the two changes. The gauge is set and not added to, so it is right however many VMs correct it.
    #[inline(never)]
    pub fn look_after_misroutes(&self) {
        let Some(used) = self.used() else { return };
        let Some(gauge) = used.misrouted else { return };
        let (turn, wrong) = used.looks.get();
        let next = turn.saturating_add(1);
        let Some(kind) = all().nth(turn) else {
            used.looks.set((0, wrong));
            return;
        };
        let (bit, shown) = (kind as u64, self.misroutes());
        let notice =
            hostcalls::recall_bytes(&kind.key(self.misroute_subject())).unwrap_or_default();
        let others = shown & (ALL & !bit);
        let right = if Notice::from_bytes(&notice).stands {
            others | bit
        } else {
            others
        };
        let wrong_now = if right == shown { 0 } else { bit };
        if wrong & wrong_now != 0 {
            hostcalls::record(gauge, right);
        }
        used.looks.set((next, wrong & !bit | wrong_now & !wrong));
    }

    #[inline(never)]
    fn begins(&self, kind: Misroute, of: u64, text: Text) {
        self.stands(
            kind,
            notice::begins(&kind.key(self.misroute_subject()), of, text),
        );
    }

    #[inline(never)]
    fn ends(&self, kind: Misroute, of: u64, text: Text) {
        self.stands(
            kind,
            notice::ends(&kind.key(self.misroute_subject()), of, SETTLE, text),
        );
    }

    #[inline(never)]
    fn stands(&self, kind: Misroute, Outcome { moved, .. }: Outcome) {
        if let Some(gauge) = self.misroutes_standing()
            && moved != 0
        {
            hostcalls::add(gauge, moved.saturating_mul(kind as i64));
            if moved > 0 {
                hostcalls::remember(&peer_key(self.misroute_subject()), self.at());
                // It puts the peer into the index, by which a configuration without it ends what stands here.
                if !self.sole {
                    self.in_flight();
                }
            }
        }
    }
}

/// The key of where the peer is whose misroutes stand.
fn peer_key(of: Subject<'_>) -> String {
    of.own(keys::MISROUTED_PEER)
}

/// Forgets the kinds that stand for `of`, whose gauge this is, unless they are about the peer that is there.
#[inline(never)]
pub fn forget(of: Subject<'_>, gauge: Metric, peer: Option<&str>) {
    if hostcalls::read(gauge).is_none_or(|stands| stands == 0) {
        return;
    }
    if let Some(peer) = peer
        && hostcalls::recall(&peer_key(of)).is_none_or(|at| at == peer)
    {
        return;
    }
    for kind in all() {
        let moved = notice::forget(&kind.key(of)).moved;
        hostcalls::add(gauge, moved.saturating_mul(kind as i64));
    }
}
