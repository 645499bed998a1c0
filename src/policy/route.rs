//! Whether a rewritten request would find its way to the peer.
//!
//! Envoy selects a route anew only after the filter has let the request go, so the filter cannot look before it leaps
//! (measured: after a rewrite `xds.cluster_name` is still the old one until a later filter asks for the route). What it
//! can know is whether the peer's cluster exists, before, and where a spilled request ended, after. From these two this
//! keeps a belief per worker and peer.
//!
//! **Invariant: where the peer's cluster does not exist, nothing is sent its way.** Where it exists and no route leads
//! to it, the first request finds out, and the next one not before [`RETRY`].

use super::target;

/// Ticks until a peer without a cluster is looked for again: a second, at five ticks a second.
pub const LOOK: u32 = 5;
/// Ticks until a request may try a route again that led nowhere: half a minute. It is a request at risk each time.
pub const RETRY: u32 = 150;

/// What is believed of the route to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Route {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The peer's cluster exists, or a request arrived there.
    Good,
    /// It leads nowhere, until this tick at the least.
    Bad(u32),
}

/// What to do with a request that is to be spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Send it.
    Go,
    /// See whether the cluster exists, then [`Route::looked`].
    Look,
    /// Keep it home.
    Stay,
}

impl Route {
    /// What to do at tick `now`.
    pub fn trial(self, now: u32) -> Trial {
        match self {
            Route::Good => Trial::Go,
            Route::Bad(until) if now < until => Trial::Stay,
            Route::Unknown | Route::Bad(_) => Trial::Look,
        }
    }

    /// After a look: whether the cluster exists, or nothing where that cannot be told.
    pub fn looked(exists: Option<bool>, now: u32) -> Route {
        match exists {
            Some(false) => Route::Bad(now.saturating_add(LOOK)),
            Some(true) | None => Route::Good,
        }
    }

    /// After a spilled request was answered: whether it had left home's cluster for another real one. What arrives while
    /// the route is known to lead nowhere was sent before that was known, and says nothing of now.
    pub fn answered(self, arrived: bool, now: u32) -> Route {
        match (self, arrived) {
            (Route::Bad(until), true) if now < until => self,
            (_, true) => Route::Good,
            (_, false) => Route::Bad(now.saturating_add(RETRY)),
        }
    }
}

/// The name that Istio gives the peer's cluster, from home's: the same port, no subset. Nothing where home's is not
/// Istio's.
pub fn peer_cluster(home: &str, peer_host: &str) -> Option<String> {
    match target::istio(home) {
        Some(["outbound", port, _, _]) => Some(format!("outbound|{port}||{peer_host}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_where_there_is_no_cluster_and_it_is_looked_for_again() {
        assert_eq!(Route::Unknown.trial(0), Trial::Look);
        let bad = Route::looked(Some(false), 10);
        assert_eq!(bad.trial(10), Trial::Stay);
        assert_eq!(bad.trial(9 + LOOK), Trial::Stay);
        assert_eq!(bad.trial(10 + LOOK), Trial::Look);
    }

    #[test]
    fn a_known_cluster_is_tried_and_an_answer_from_nowhere_stops_it() {
        assert_eq!(Route::looked(Some(true), 0).trial(0), Trial::Go);
        assert_eq!(Route::looked(None, 0).trial(0), Trial::Go);
        let bad = Route::Good.answered(false, 7);
        assert_eq!(bad.trial(6 + RETRY), Trial::Stay);
        assert_eq!(bad.trial(7 + RETRY), Trial::Look);
        assert_eq!(Route::Unknown.answered(true, 7).trial(7), Trial::Go);
    }

    /// A ServiceEntry that is removed under load: the answers of what is still at the peer come after the first that was lost.
    #[test]
    fn a_late_answer_does_not_send_another_one_after_the_lost() {
        let bad = Route::Good.answered(false, 7).answered(true, 8);
        assert_eq!(bad.trial(8), Trial::Stay);
        let tried_again = bad.answered(true, 7 + RETRY);
        assert_eq!(tried_again.trial(7 + RETRY), Trial::Go);
    }

    #[test]
    fn the_peers_cluster_has_homes_port_and_no_subset() {
        let home = "outbound|80|v1|a.istio.svc.cluster.local";
        assert_eq!(
            peer_cluster(home, "a.istio.gke.global").as_deref(),
            Some("outbound|80||a.istio.gke.global")
        );
        assert_eq!(peer_cluster("home", "a.istio.gke.global"), None);
        assert_eq!(peer_cluster("inbound-vip|80|http|a", "b"), None);
    }
}
