//! Whether a rewritten request is likely to arrive at the peer.
//!
//! Envoy selects the new route only after the filter has let the request go. (Measured: after a rewrite, `xds.cluster_name`
//! is still the old one until a later filter asks for the route.) The filter can only find out before whether a cluster of
//! the peer exists, and afterwards where a spilled request ended. From both, each worker derives beliefs about the routes
//! to a peer.
//!
//! **Invariants.**
//! - If no cluster of the peer is known, only few requests are sent to it, as requests at risk ([`super::risk`]).
//! - There is a `Belief` for each cluster of home that requests come from (a port and subset of the service), and for each
//!   [`selector`] of such a cluster. Two lost requests in a row (`ROW`) stop their selector, or five (`PROVEN_ROW`) if one
//!   of it has arrived before. All selectors of the cluster are stopped if two of them (`LOST`) have lost requests and no
//!   request of the cluster has ever arrived, or if sixteen (`PROVEN_LOST`) have lost requests since the last one arrived,
//!   at least a second ago.
//! - A request that was answered by a direct response, a redirect or another filter changes no belief.
//! - A stopped route is tried after a second, then after twice the time, up to [`MOST_WAIT`], until a request arrives.
//! - The number of beliefs is bounded by `CLUSTERS` and `SELECTORS`.

mod cluster;

pub use cluster::{peer_cluster, peer_exists};

use super::target::is_nowhere;
use super::time::{Instant, Millis};

/// The time from a lost request to the next request on a stopped route.
const SECOND: Millis = Millis::seconds(1);
/// The longest time between two requests on a stopped route. Each of them may be lost.
pub const MOST_WAIT: Millis = Millis::seconds(10);
/// The time after the last lost request until selectors are not read any more.
const QUIET: Millis = Millis::seconds(60);
/// The number of lost requests in a row that stop their selector.
const ROW: u8 = 2;
/// The same number if a request of the selector has arrived before. Within a second after that, they stop nothing.
const PROVEN_ROW: u8 = 5;
/// The number of selectors with lost requests that stop all requests of the cluster, if no request has ever arrived.
const LOST: u8 = 2;
/// The same number if one has arrived before, but not within a second after that, or a burst would stop all others.
const PROVEN_LOST: u8 = 16;
/// The most clusters of one home service that are remembered, one for each of its ports and subsets.
const CLUSTERS: usize = 8;
/// The most selectors with lost requests that are remembered.
const SELECTORS: usize = 32;

/// The name of the route with which Istio answers 502 for an unknown host (`REGISTRY_ONLY`).
pub const BLOCKED: &str = "block_all";
/// Envoy's response flags NR and NC: there is no route, or a route to a cluster that does not exist.
const NO_ROUTE: u64 = 1 << 8 | 1 << 24;
/// Envoy's response flag UH: the cluster has no healthy host.
const NO_HOST: u64 = 1 << 1;

/// What to do with a request that is to be spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Send it to the peer.
    Go,
    /// Find out whether a cluster of the peer exists, call [`Routes::looked`], and ask again.
    Look,
    /// Ask again with the request's [`selector`].
    Select,
    /// Send it home: no cluster of the peer is known.
    NoCluster,
    /// Send it home: other requests on the same route were lost.
    NoRoute,
    /// Send it home: the peer's cluster has no healthy host.
    Empty,
}

/// How a spilled request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It arrived at another cluster than home's, which is that of the peer.
    Arrived,
    /// It arrived at such a cluster, which has no healthy host.
    Empty,
    /// No route matched it, or the route led to no cluster or back home.
    Lost,
}

/// How a spilled request ended, by its answer. `None` if the route itself or a later filter gave the answer. `back` says whether
/// its cluster after the rewrite is home's, `cluster` is the name of that (empty if there is none), and `flags` are Envoy's
/// response flags. `upstream` says whether a host was chosen, and `blocked` whether the route is [`BLOCKED`].
pub fn end(
    back: bool,
    cluster: &str,
    flags: u64,
    upstream: impl FnOnce() -> bool,
    blocked: impl FnOnce() -> bool,
) -> Option<End> {
    if flags & NO_ROUTE != 0 {
        return Some(End::Lost);
    }
    if cluster.is_empty() {
        return blocked().then_some(End::Lost);
    }
    // If no host was chosen, a later filter has answered before the new route was selected.
    if back {
        return upstream().then_some(End::Lost);
    }
    if is_nowhere(cluster) {
        return Some(End::Lost);
    }
    Some(if flags & NO_HOST == 0 {
        End::Arrived
    } else {
        End::Empty
    })
}

/// Doubt about a route, because of requests in a row that were lost on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Doubt {
    lost: u8,
    /// The moment from which the next request may be sent if the route is stopped.
    until: Instant,
    /// The time between such requests.
    wait: Millis,
    /// A request has arrived on this route.
    proven: bool,
}

impl Doubt {
    /// Whether a request may be sent, if `most` lost ones stop the route.
    fn open(&self, most: u8, now: Instant) -> bool {
        self.lost < most || now >= self.until
    }

    /// Notes that a request is sent. On a stopped route it is the only one for some time.
    fn take(&mut self, most: u8, now: Instant) {
        if self.lost >= most {
            self.wait = self.wait.times(2).min(MOST_WAIT);
            self.until = now.after(self.wait);
        }
    }

    fn lose(&mut self, most: u8, now: Instant) {
        if self.lost < most {
            self.lost = self.lost.saturating_add(1);
            self.wait = SECOND;
            self.until = now.after(SECOND);
        }
    }

    fn arrive(&mut self) {
        *self = Doubt {
            proven: true,
            ..Doubt::default()
        };
    }

    fn row(&self) -> u8 {
        if self.proven { PROVEN_ROW } else { ROW }
    }
}

/// Whether a cluster of the peer exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Way {
    #[default]
    Unknown,
    /// It exists, or it is not known whether it exists.
    Open,
    /// It does not exist. It is searched again at this moment.
    Gone(Instant),
}

/// The belief about requests that come from one cluster of home, or about those of one selector among them.
#[derive(Clone, Copy, Debug, Default)]
struct Belief {
    /// The hash of the cluster, or that of the cluster combined with that of the selector.
    key: u64,
    /// The doubt about all requests. For a cluster, `lost` counts selectors, and for a selector it counts requests.
    all: Doubt,
    /// Whether a cluster of the peer exists. A selector does not use this field and the following ones, except `arrived`.
    way: Way,
    /// The doubt about the cluster where the last one arrived: `lost` counts requests that found no healthy host there.
    empty: Doubt,
    /// The hash of the cluster where the last request arrived.
    reached: u64,
    /// The moment when the last request arrived.
    arrived: Instant,
    /// The moment when the doubts about the selectors end: [`QUIET`] after the last lost request.
    quiet: Instant,
}

impl Belief {
    fn most(&self) -> u8 {
        if self.all.proven { PROVEN_LOST } else { LOST }
    }

    /// Whether a request has arrived within the last second, so that lost ones say nothing about others.
    fn leads(&self, now: Instant) -> bool {
        self.all.proven && now.since(self.arrived) < SECOND
    }
}

/// The beliefs of one worker about the routes to one peer.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    clusters: Vec<Belief>,
    /// The selectors of which a request was lost.
    selectors: Vec<Belief>,
}

/// The belief with this key in a table of at most `most` elements. In a full table, a new one replaces another.
#[inline(never)]
fn place(table: &mut Vec<Belief>, most: usize, key: u64) -> Option<&mut Belief> {
    let known = table.iter().position(|belief| belief.key == key);
    let at = known.unwrap_or_else(|| {
        let new = Belief {
            key,
            ..Belief::default()
        };
        if table.len() < most {
            table.push(new);
            return table.len().saturating_sub(1);
        }
        let at = (key as usize).checked_rem(most).unwrap_or(0);
        if let Some(belief) = table.get_mut(at) {
            *belief = new;
        }
        at
    });
    table.get_mut(at)
}

impl Routes {
    fn cluster(&mut self, home: u64) -> Option<&mut Belief> {
        place(&mut self.clusters, CLUSTERS, home)
    }

    /// The belief about the selector with this key, if one of its requests was lost.
    #[inline(never)]
    fn doubt(&mut self, key: u64) -> Option<&mut Belief> {
        self.selectors.iter_mut().find(|belief| belief.key == key)
    }

    /// What to do now with a request that comes from the cluster `home` and has this selector. The caller passes 0 at
    /// first: the selector is not needed if no request was lost for some time.
    #[inline(never)]
    pub fn trial(&mut self, home: &str, selector: u64, now: Instant) -> Trial {
        let home = hash(FNV, home);
        let of = self.doubt(home ^ selector).copied();
        let Some(belief) = self.cluster(home) else {
            return Trial::Go;
        };
        match belief.way {
            Way::Open => {}
            Way::Gone(until) if now < until => return Trial::NoCluster,
            Way::Gone(_) | Way::Unknown => return Trial::Look,
        }
        if !belief.empty.open(ROW, now) {
            return Trial::Empty;
        }
        let well = now >= belief.quiet && belief.all.proven;
        if !well && selector == 0 {
            return Trial::Select;
        }
        let mut of = of.filter(|_| !well).unwrap_or_default();
        let most = belief.most();
        // If a request of this selector has arrived, requests of other selectors say nothing about it.
        let alone = of.all.proven || belief.leads(now);
        let row = of.all.row();
        // Of one selector, some requests may arrive and others not, if a route depends on a header or on a weight.
        let leads = of.leads(now);
        if !leads && !of.all.open(row, now) || !alone && !belief.all.open(most, now) {
            return Trial::NoRoute;
        }
        belief.empty.take(ROW, now);
        if !alone {
            belief.all.take(most, now);
        }
        if !leads {
            of.all.take(row, now);
        }
        if let Some(doubt) = self.doubt(home ^ selector) {
            doubt.all = of.all;
        }
        Trial::Go
    }

    /// Notes whether a cluster of the peer `exists` for requests from the cluster `home`. `None` if that is not known.
    #[inline(never)]
    pub fn looked(&mut self, home: &str, exists: Option<bool>, now: Instant) {
        let home = hash(FNV, home);
        let Some(belief) = self.cluster(home) else {
            return;
        };
        if exists == Some(false) {
            belief.way = Way::Gone(now.after(SECOND));
        } else if belief.way != Way::Open {
            *belief = Belief {
                key: home,
                way: Way::Open,
                ..Belief::default()
            };
        }
    }

    /// Notes how a spilled request from the cluster `home` ended, at `cluster`. Returns true if the caller should find out
    /// again whether a cluster of the peer exists.
    ///
    /// A request that arrives although no cluster of the peer exists was sent before that was known, so it is ignored,
    /// except for a request at risk.
    #[inline(never)]
    pub fn answered(
        &mut self,
        home: &str,
        selector: u64,
        cluster: &str,
        end: End,
        at_risk: bool,
        now: Instant,
    ) -> bool {
        let (home, cluster) = (hash(FNV, home), hash(FNV, cluster));
        let key = home ^ selector;
        let known = self.doubt(key).copied();
        let Some(belief) = self.cluster(home) else {
            return false;
        };
        if belief.way != Way::Open {
            if !at_risk || end != End::Arrived {
                return false;
            }
            belief.way = Way::Open;
        }
        if end == End::Empty && belief.reached == cluster {
            belief.empty.lose(ROW, now);
            return false;
        }
        let mut doubt = known.filter(|_| now < belief.quiet).unwrap_or_default();
        if end == End::Arrived {
            belief.all.arrive();
            belief.arrived = now;
            belief.empty = Doubt::default();
            belief.reached = cluster;
            doubt.all.arrive();
            doubt.arrived = now;
        } else {
            belief.quiet = now.after(QUIET);
            // The doubt about the cluster counts each selector only once until one of its requests arrives.
            if doubt.all.lost == 0 {
                belief.all.lose(belief.most(), now);
            }
            doubt.all.lose(doubt.all.row(), now);
        }
        if (end != End::Arrived || known.is_some())
            && let Some(belief) = place(&mut self.selectors, SELECTORS, key)
        {
            (belief.all, belief.arrived) = (doubt.all, doubt.arrived);
        }
        end == End::Lost
    }
}

/// The selector of a request: a hash of the first path segments of these header values, never 0. Requests with the same
/// selector most likely have the same route. Two selectors with the same hash share a belief, which does no other harm.
pub fn selector(values: impl Iterator<Item = String>) -> u64 {
    let segment = |state, value: String| {
        let value = value.strip_prefix('/').unwrap_or(&value);
        let end = value.bytes().position(|byte| b"/?#".contains(&byte));
        hash(state, end.and_then(|end| value.get(..end)).unwrap_or(value))
    };
    values.fold(FNV, segment) | 1
}

/// The initial state of [`hash`]: the offset basis of FNV-1a with 64 bits.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of `text` and of its end, by FNV-1a, beginning with `state`.
#[inline(never)]
fn hash(state: u64, text: &str) -> u64 {
    let step = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    step(text.bytes().fold(state, step), 0xff)
}

#[cfg(test)]
#[path = "route_test.rs"]
mod tests;
