//! Whether a rewritten request would find its way to the peer.
//!
//! Envoy selects a route anew only after the filter has let the request go, so the filter cannot look before it leaps
//! (measured: after a rewrite `xds.cluster_name` is still the old one until a later filter asks for the route). What it
//! can know is whether a cluster of the peer exists, before, and where a spilled request ended, after. From these two
//! this keeps beliefs per worker and peer.
//!
//! **Invariants.**
//! - Where no cluster of the peer is known, nothing is sent its way, but for a request at risk now and then ([`super::risk`]).
//! - What is believed is held for each cluster that requests come from (a [`Door`]: the service's port), and in it for
//!   each [`selector`]. A lost request stops others of its own selector, from the second in a row on. It stops other
//!   selectors only where as many as [`DOOR`] were lost and no request has ever arrived, or [`PROVEN_DOOR`] since one did,
//!   a second ago or more.
//! - A request that was answered, by a direct response, a redirect or another filter, changes nothing.
//! - Whatever is stopped is tried again after a second, then after twice the time, up to [`MOST_WAIT`]; one request that
//!   arrives ends it.
//! - What is kept is bounded: [`DOORS`] and [`SELECTORS`].

use super::target::{self, is_nowhere};
use super::time::{Instant, Millis};

/// From a lost request to the next that tries.
const SECOND: Millis = Millis::seconds(1);
/// The longest time between two requests that try what led nowhere. Each is a request at risk.
pub const MOST_WAIT: Millis = Millis::seconds(10);
/// From the last lost request until selectors are no longer looked at.
const QUIET: Millis = Millis::seconds(60);
/// Lost requests in a row that stop their selector.
const ROW: u8 = 2;
/// The same, where one of that selector has arrived before, but not within a second after one did.
const PROVEN_ROW: u8 = 5;
/// Selectors that were lost, without any request that arrived in between, until the door is in doubt.
const DOOR: u8 = 2;
/// The same, where a request has arrived by that door before; but not within a second after one did, or a burst of odd
/// requests would stop all others.
const PROVEN_DOOR: u8 = 16;
/// Clusters that requests come from, of one service: one for each of its ports and subsets.
const DOORS: usize = 8;
/// Selectors in doubt that are remembered.
const SELECTORS: usize = 32;

/// The route by which Istio answers 502 for a host that it does not know (`REGISTRY_ONLY`).
pub const BLOCKED: &str = "block_all";
/// NR and NC: no route, and a route to a cluster that does not exist.
const NO_ROUTE: u64 = 1 << 8 | 1 << 24;
/// UH: the cluster has no healthy host.
const NO_HOST: u64 = 1 << 1;

/// What to do with a request that is to be spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Send it.
    Go,
    /// See whether a cluster of the peer exists, then [`Routes::looked`], and ask again.
    Look,
    /// Ask again with its [`selector`].
    Select,
    /// Keep it home: no cluster of the peer is known.
    NoCluster,
    /// Keep it home: what it would share the way with was lost.
    NoRoute,
    /// Keep it home: the peer's cluster has no healthy host.
    Empty,
}

/// How a spilled request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It came to another real cluster.
    Arrived,
    /// It came there, and the cluster has no healthy host.
    Empty,
    /// Nothing led it anywhere, or back home.
    Lost,
}

/// How a spilled request ended, by its answer; `None` if that tells nothing: the route or a later filter answered it.
/// `upstream` tells whether a host was chosen, `blocked` whether the route is the one that stands for no such host.
pub fn end(
    home: &str,
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
    // Without a host, a filter behind this one has answered before anybody asked for the new route.
    if cluster == home {
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

/// Doubt about a way, from the requests in a row that were lost on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Doubt {
    lost: u8,
    /// When the next may try.
    until: Instant,
    /// From one that tries to the next.
    wait: Millis,
    /// One has arrived.
    proven: bool,
}

impl Doubt {
    /// Whether a request may go, where `most` lost ones stop the way.
    fn open(&self, most: u8, now: Instant) -> bool {
        self.lost < most || now >= self.until
    }

    /// A request goes. On a way that is stopped it is the only one until the next try.
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
    /// It does, or that cannot be told.
    Open,
    /// It does not, and is looked for again at this moment.
    Gone(Instant),
}

/// What is believed of requests that come from one cluster, or of one selector among them.
#[derive(Clone, Copy, Debug, Default)]
struct Door {
    /// That cluster, hashed; of a selector, both.
    key: u64,
    /// Its `lost` are selectors; of a selector, requests.
    all: Doubt,
    /// What follows, a selector has not.
    way: Way,
    /// Of the cluster where the last one arrived: its `lost` found no healthy host there.
    empty: Doubt,
    /// That cluster, hashed.
    reached: u64,
    /// When the last one arrived.
    arrived: Instant,
    /// From when on doubts about its selectors are forgotten: [`QUIET`] after the last.
    quiet: Instant,
}

impl Door {
    fn most(&self) -> u8 {
        if self.all.proven { PROVEN_DOOR } else { DOOR }
    }

    /// Lately a request has arrived, so what was lost since says nothing of all others.
    fn leads(&self, now: Instant) -> bool {
        self.all.proven && now.since(self.arrived) < SECOND
    }
}

/// What is believed of the ways to one peer.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    doors: Vec<Door>,
    /// Those of which a request was lost.
    selectors: Vec<Door>,
}

/// Where this key is in a table of so many at the most. Once it is full, a new one takes another's place.
#[inline(never)]
fn place(table: &mut Vec<Door>, most: usize, key: u64) -> Option<&mut Door> {
    let known = table.iter().position(|door| door.key == key);
    let at = known.unwrap_or_else(|| {
        let new = Door {
            key,
            ..Door::default()
        };
        if table.len() < most {
            table.push(new);
            return table.len().saturating_sub(1);
        }
        let at = (key as usize).checked_rem(most).unwrap_or(0);
        if let Some(door) = table.get_mut(at) {
            *door = new;
        }
        at
    });
    table.get_mut(at)
}

impl Routes {
    fn door(&mut self, home: u64) -> Option<&mut Door> {
        place(&mut self.doors, DOORS, home)
    }

    /// What is doubted of this selector.
    #[inline(never)]
    fn doubt(&mut self, key: u64) -> Option<&mut Door> {
        self.selectors.iter_mut().find(|door| door.key == key)
    }

    /// What to do now with a request whose cluster is `home`, of this selector; 0 if that was not asked for: it
    /// is not where all is known to be well.
    #[inline(never)]
    pub fn trial(&mut self, home: &str, selector: u64, now: Instant) -> Trial {
        let home = hash(FNV, home);
        let of = self.doubt(home ^ selector).copied();
        let Some(door) = self.door(home) else {
            return Trial::Go;
        };
        match door.way {
            Way::Open => {}
            Way::Gone(until) if now < until => return Trial::NoCluster,
            Way::Gone(_) | Way::Unknown => return Trial::Look,
        }
        if !door.empty.open(ROW, now) {
            return Trial::Empty;
        }
        let well = now >= door.quiet && door.all.proven;
        if !well && selector == 0 {
            return Trial::Select;
        }
        let mut of = of.filter(|_| !well).unwrap_or_default();
        let most = door.most();
        // Where one of this selector has arrived, the others' fate says nothing of it.
        let alone = of.all.proven || door.leads(now);
        let row = of.all.row();
        // Some of one selector may arrive and others not: by a header, or by a share of them.
        let leads = of.leads(now);
        if !leads && !of.all.open(row, now) || !alone && !door.all.open(most, now) {
            return Trial::NoRoute;
        }
        door.empty.take(ROW, now);
        if !alone {
            door.all.take(most, now);
        }
        if !leads {
            of.all.take(row, now);
        }
        if let Some(doubt) = self.doubt(home ^ selector) {
            doubt.all = of.all;
        }
        Trial::Go
    }

    /// After a look: whether a cluster of the peer exists, or `None` if that cannot be told.
    #[inline(never)]
    pub fn looked(&mut self, home: &str, exists: Option<bool>, now: Instant) {
        let home = hash(FNV, home);
        let Some(door) = self.door(home) else {
            return;
        };
        if exists == Some(false) {
            door.way = Way::Gone(now.after(SECOND));
        } else if door.way != Way::Open {
            *door = Door {
                key: home,
                way: Way::Open,
                ..Door::default()
            };
        }
    }

    /// After a spilled request was answered from `cluster`. True where a look would tell more.
    ///
    /// What arrives while there is no cluster was sent before that was known, and says nothing of now, unless it was
    /// sent at risk.
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
        let Some(door) = self.door(home) else {
            return false;
        };
        if door.way != Way::Open {
            if !at_risk || end != End::Arrived {
                return false;
            }
            door.way = Way::Open;
        }
        if end == End::Empty && door.reached == cluster {
            door.empty.lose(ROW, now);
            return false;
        }
        let mut doubt = known.filter(|_| now < door.quiet).unwrap_or_default();
        if end == End::Arrived {
            door.all.arrive();
            door.arrived = now;
            door.empty = Doubt::default();
            door.reached = cluster;
            doubt.all.arrive();
            doubt.arrived = now;
        } else {
            door.quiet = now.after(QUIET);
            // The door counts selectors, and each only once until one of it arrives.
            if doubt.all.lost == 0 {
                door.all.lose(door.most(), now);
            }
            doubt.all.lose(doubt.all.row(), now);
        }
        if (end != End::Arrived || known.is_some())
            && let Some(door) = place(&mut self.selectors, SELECTORS, key)
        {
            (door.all, door.arrived) = (doubt.all, doubt.arrived);
        }
        end == End::Lost
    }
}

/// What selects a route, as far as beliefs are held by it: the first segments of these headers' values. Hashed: two that
/// share a hash share what is believed, no more. Never 0.
pub fn selector(values: impl Iterator<Item = String>) -> u64 {
    let segment = |state, value: String| {
        let value = value.strip_prefix('/').unwrap_or(&value);
        let end = value.bytes().position(|byte| b"/?#".contains(&byte));
        hash(state, end.and_then(|end| value.get(..end)).unwrap_or(value))
    };
    values.fold(FNV, segment) | 1
}

/// Where [`hash`] begins: FNV-1a, of 64 bits.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// `text` and its end, hashed into `state`.
#[inline(never)]
fn hash(state: u64, text: &str) -> u64 {
    let step = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    step(text.bytes().fold(state, step), 0xff)
}

/// Whether a cluster of the peer's host exists, by the names that Istio gives it, from home's cluster: the same port, no
/// subset, the host or a wildcard that covers it. `None` if home's is not Istio's, or `knows` cannot tell.
pub fn peer_exists(
    home: &str,
    peer_host: &str,
    knows: impl Fn(&str) -> Option<bool>,
) -> Option<bool> {
    let Some(["outbound", port, _, _]) = target::istio(home) else {
        return None;
    };
    let (mut wildcard, mut host) = ("", peer_host);
    loop {
        if knows(&format!("outbound|{port}||{wildcard}{host}"))? {
            return Some(true);
        }
        // Not `split_once`, which is five times as much code.
        let dot = host.bytes().position(|byte| byte == b'.');
        let parent = dot.and_then(|dot| host.get(dot.checked_add(1)?..));
        let Some(parent) = parent else {
            return Some(false);
        };
        (wildcard, host) = ("*.", parent);
    }
}

#[cfg(test)]
#[path = "route_test.rs"]
mod tests;
