//! What is said of spilled requests that nothing leads to the peer: what is wrong, what to do about it, and when it is over.
//!
//! The gauge `misrouted` tells all workers which kinds of misroute stand, and is read where a request is sent to the peer, on no
//! other way.

use core::hint::black_box;

use super::notice::{self, Outcome, Text};
use super::service::Service;
use crate::hostcalls;
use crate::metrics::{Labels, count};
use config::{Peer, Routing};
use policy::names::metric;
use policy::notice::{Notice, hash};
use policy::response;
use policy::time::Millis;

/// How long there is no misroute of a kind until one that arrives ends it. Only what was sent is seen to be lost, and
/// whatever is stopped is tried again at the latest after ten seconds ([`policy::route`]), so all workers know by then.
const SETTLE: Millis = Millis::seconds(15);

/// Kinds of misroute. Each has a bit of the gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misroute {
    /// No cluster of the peer's host is known.
    NoCluster = 1,
    /// Its route does not exist, or leads to a cluster that does not.
    NoRoute = 2,
    /// The peer's cluster has no healthy host.
    Empty = 4,
    /// Its route leads home, or to a cluster that stands for none.
    Elsewhere = 8,
    /// The peer answers nothing that is sent its way: home does, or nobody.
    Unreached = 16,
}

/// The bits of all kinds.
const ALL: u64 = 31;

/// All kinds. Not a constant, of which the compiler would write each loop out.
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

/// What is said of each: `%0` is the service, `%1` its peer, `%2` the peer's host, `%3` what is wrong, `%4` home's cluster, `%5`
/// the one where the request ended.
const NOTHING: &str = "service %0: nothing leads to peer %1 at %2 (%3); ";
const NO_CLUSTER: &str = "its requests stay home. This proxy sees no ServiceEntry for %2 on the port of %4: apply one, or let it be seen here (exportTo, Sidecar)";
const UNREACHED: &str = "service %0: peer %1 at %2 answered none of the last 5 requests that were sent to it: %3. Its gateway cannot be reached, receiver is not applied there, the clusters trust different roots, or the DestinationRule of %5 is missing, not exported to this proxy, or has another sni than the service's. In /clusters of this proxy, see cx_connect_fail and health_flags of %5; and the metric outcomes";
const EMPTY: &str = "its requests stay home. Cluster %5 has no healthy endpoint: it has none, or outlierDetection of its DestinationRule has ejected all. See istioctl proxy-config endpoint";
const NO_ROUTE: &str = "such requests from %4 stay home. The VirtualService of %2 has no route for them, or the ServiceEntry lacks that port";
const NO_ROUTE_BY_HEADER: &str = "such requests from %4 stay home. The route that matches x-peer-spillover-to: %1 in the VirtualService of %0 must have the destination %2, and that a ServiceEntry with this port";
const NO_MATCH: &str = "such requests stay home. The VirtualService of %0 has no match on x-peer-spillover-to before the route of home. Add there: {match: [{headers: {x-peer-spillover-to: {exact: %1}}}], headers: {request: {remove: [x-peer-spillover-to]}}, route: [{destination: {host: %2}}]}";

impl Misroute {
    fn word(self) -> &'static str {
        match self {
            Misroute::NoCluster => "no cluster of that host",
            Misroute::NoRoute => "no route",
            Misroute::Empty => "no healthy upstream",
            Misroute::Elsewhere => "leads elsewhere",
            Misroute::Unreached => "not answered by the peer",
        }
    }

    #[inline(never)]
    fn key(self, labels: &Labels) -> String {
        notice::key(&labels.pairs(), self.word())
    }

    /// What it was seen of: of requests from the cluster `home`, or of those of one selector among them.
    fn of(self, home: &str, selector: u64) -> u64 {
        let home = hash(home.as_bytes());
        match self {
            Misroute::NoRoute | Misroute::Elsewhere => home ^ selector,
            _ => home,
        }
    }
}

impl Service {
    /// Counts a spill from the cluster `home` that leads nowhere, or to `cluster`, and says so where it is news. Of what was
    /// stopped because others were lost no kind is known: how it would have ended nobody saw.
    #[inline(never)]
    pub(super) fn misrouted(
        &self,
        peer: &Peer,
        kind: Option<Misroute>,
        (home, selector): (&str, u64),
        cluster: &str,
    ) {
        let Some(used) = self.used() else { return };
        count(&used.misroutes, || {
            let mut labels = self.labels.pairs().to_vec();
            labels.push(("peer", &peer.name));
            metric(&labels, "misroutes")
        });
        let Some(kind) = kind else { return };
        let by_header = self.routing == Routing::Header;
        let text = match kind {
            Misroute::NoCluster => NO_CLUSTER,
            Misroute::Empty => EMPTY,
            Misroute::Elsewhere if by_header && cluster == home => NO_MATCH,
            _ if by_header => NO_ROUTE_BY_HEADER,
            _ => NO_ROUTE,
        };
        let end = match kind {
            Misroute::Elsewhere => cluster,
            _ => kind.word(),
        };
        let with = [self.host(), &peer.name, &peer.host, end, home, cluster];
        let text = [NOTHING, text].concat();
        self.begins(kind, kind.of(home, selector), (&text, &with));
    }

    /// The kinds that stand.
    #[inline(never)]
    pub(super) fn misroutes(&self) -> u64 {
        let gauge = self.misroutes_standing();
        gauge.and_then(hostcalls::read).unwrap_or(0)
    }

    /// A spilled request from the cluster `home` arrived in the peer's: what ends by that.
    #[cold]
    #[inline(never)]
    pub(super) fn arrived(&self, peer: &Peer, home: &str, selector: u64) {
        let stands = self.misroutes();
        for kind in all() {
            if kind == Misroute::Unreached || stands & kind as u64 == 0 {
                continue;
            }
            let text = "service %0: a route leads to peer %1 at %2 again; it was: %3";
            let with = [self.host(), &peer.name, &peer.host, kind.word()];
            self.ends(kind, kind.of(home, selector), (text, &with));
        }
    }

    /// The peer did not answer a request that was spilled; `details` is what Envoy says of the answer.
    pub(super) fn not_reached(&self, details: &str) {
        let (row, many) = self.unreached.get().and(false);
        self.unreached.set(row);
        let Some(peer) = self.peer.as_ref().filter(|_| many) else {
            return;
        };
        // An upstream did, which is home.
        let what = if response::came_from_home(details) {
            "home did"
        } else {
            details
        };
        let cluster = hostcalls::property(hostcalls::CLUSTER).unwrap_or_default();
        let with = [self.host(), &peer.name, &peer.host, what, "", &cluster];
        let kind = Misroute::Unreached;
        self.begins(kind, 0, (UNREACHED, &with));
    }

    /// The peer answered a request that was spilled.
    pub(super) fn reached(&self) {
        let (row, _) = self.unreached.get().and(true);
        self.unreached.set(row);
        let kind = Misroute::Unreached;
        if let Some(peer) = &self.peer
            && self.misroutes() & kind as u64 != 0
        {
            let text = "service %0: peer %1 at %2 answers again";
            let with = [self.host(), &peer.name, &peer.host];
            self.ends(kind, 0, (text, &with));
        }
    }

    /// Mends the gauge, one kind in a tick: a VM may die between its changes of a notice and of the gauge, and any module of
    /// the proxy can write both. Two looks at a kind in a row must see the same fault, since another VM may just be between
    /// the two changes. To set the gauge does the same however many VMs do it.
    #[inline(never)]
    pub(super) fn look_after_misroutes(&self) {
        let Some(gauge) = self.misroutes_standing() else {
            return;
        };
        let (turn, wrong) = self.looks.get();
        let next = turn.saturating_add(1);
        let Some(kind) = all().nth(turn) else {
            self.looks.set((0, wrong));
            return;
        };
        let (bit, shown) = (kind as u64, self.misroutes());
        let notice = hostcalls::recall_bytes(&kind.key(&self.labels)).unwrap_or_default();
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
        self.looks.set((next, wrong & !bit | wrong_now & !wrong));
    }

    #[inline(never)]
    fn begins(&self, kind: Misroute, of: u64, text: Text) {
        self.stands(kind, notice::begins(&kind.key(&self.labels), of, text));
    }

    #[inline(never)]
    fn ends(&self, kind: Misroute, of: u64, text: Text) {
        self.stands(
            kind,
            notice::ends(&kind.key(&self.labels), of, SETTLE, text),
        );
    }

    #[inline(never)]
    fn stands(&self, kind: Misroute, Outcome { moved, .. }: Outcome) {
        if let Some(gauge) = self.misroutes_standing()
            && moved != 0
        {
            hostcalls::add(gauge, moved.saturating_mul(kind as i64));
            if let Some(peer) = self.peer.as_ref().filter(|_| moved > 0) {
                hostcalls::remember(&peer_key(&self.labels), &peer.host);
            }
        }
    }
}

/// The shared key of whose misroutes stand: the host of the peer.
fn peer_key(labels: &Labels) -> String {
    metric(&labels.pairs(), "misrouted.peer")
}

/// Forgets what of `labels` stands, in this gauge, unless it is of the peer of this host.
#[inline(never)]
pub fn forget(labels: &Labels, gauge: hostcalls::Metric, peer: Option<&str>) {
    if hostcalls::read(gauge).is_none_or(|stands| stands == 0)
        || (peer.is_some()
            && hostcalls::recall(&peer_key(labels)).is_none_or(|known| Some(&*known) == peer))
    {
        return;
    }
    for kind in all() {
        let moved = notice::forget(&kind.key(labels)).moved;
        hostcalls::add(gauge, moved.saturating_mul(kind as i64));
    }
}
