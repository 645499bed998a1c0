//! The plan of a run: the peers with their priorities, weights and limits, and the load of each phase.

use envoy_test::world::{HOME, HOST, PEER, peer_host};
use serde::Serialize;
use serde_json::{Value, json};

use crate::options::Options;
use crate::run::{DELAY, service};

/// The names of the peers. There is one for each colour of the figure.
const NAMES: [&str; crate::figure::MOST_PEERS] = [PEER, "eks", "aks", "oke", "doks"];
/// The limit of a peer for each unit of its weight.
const PLACES: u32 = 4;
/// Connections beyond all limits, which are left for the peer of the last priority.
const BEYOND: u32 = 4;
/// Errors in a row that eject a peer.
pub(super) const CONSECUTIVE: u32 = 3;

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) priority: u32,
    pub(super) weight: u32,
    /// The most requests that home's proxy has in flight there. `None` if there is no limit.
    pub(super) limit: Option<u32>,
}

/// The kind of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// Home has room for everything.
    Calm,
    /// The peers of the first priority have room for the surplus.
    Surplus,
    /// They have not, so the peer of the last priority gets the rest.
    Full,
    /// The same load, and the first peer is killed.
    Killed,
    /// The same load, and the first peer is back.
    Back,
}

/// The plan of a run.
pub(super) struct Plan {
    /// The limit of home.
    pub(super) limit: u32,
    /// All but the last have priority 0 and a limit. The last has priority 1 and no limit.
    pub(super) peers: Vec<Peer>,
    /// The phases, in the order of time.
    pub(super) stages: Vec<Stage>,
}

impl Plan {
    /// The plan for at least two peers.
    pub(super) fn of(options: &Options) -> Plan {
        let n = options.peers as usize;
        let peer = |(nth, name): (usize, &&'static str)| {
            let weight = if nth == 0 { 2 } else { 1 };
            let last = nth + 1 == n;
            Peer {
                name,
                priority: last.into(),
                weight: if last { 1 } else { weight },
                limit: (!last).then_some(PLACES * weight),
            }
        };
        use Stage::{Back, Calm, Full, Killed, Surplus};
        Plan {
            limit: options.limit,
            peers: NAMES.iter().take(n).enumerate().map(peer).collect(),
            stages: vec![Calm, Surplus, Full, Killed, Back, Calm],
        }
    }

    /// Home's name, then those of the peers.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [HOME]
            .into_iter()
            .chain(self.peers.iter().map(|peer| peer.name))
    }

    /// The name of the peer that is killed.
    pub(super) fn killed(&self) -> &'static str {
        PEER
    }

    /// The sum of the limits of the peers of priority 0.
    fn places(&self) -> u32 {
        self.peers.iter().filter_map(|peer| peer.limit).sum()
    }

    /// Parallel connections in a phase. Each has at most one request in flight.
    pub(super) fn clients(&self, stage: Stage) -> u32 {
        self.limit
            + match stage {
                Stage::Calm => 0,
                // No more than the smallest limit, so that none is reached and the weights alone decide.
                Stage::Surplus => PLACES,
                Stage::Full | Stage::Killed | Stage::Back => self.places() + BEYOND,
            }
    }

    /// The filter's configuration.
    pub(super) fn plugin_config(&self, options: &Options) -> Value {
        let mut config = service(options);
        let peer = |peer: &Peer| {
            let mut policy = json!({"outlierDetection": {
                "consecutive5xxErrors": CONSECUTIVE,
                "interval": "1s",
                "baseEjectionTime": options.ejection().to_string(),
            }});
            if let Some(limit) = peer.limit {
                policy["connectionPool"] = json!({"http": {"http2MaxRequests": limit}});
            }
            json!({
                "name": peer.name,
                "host": peer_host(HOST, peer.name),
                "priority": peer.priority,
                "weight": peer.weight,
                "trafficPolicy": policy,
            })
        };
        let service = &mut config["services"][0];
        service["trafficPolicy"] =
            json!({"connectionPool": {"http": {"http2MaxRequests": self.limit}}});
        service["peers"] = self.peers.iter().map(peer).collect();
        config
    }

    /// A description of the plan, in a few lines.
    pub(super) fn description(&self) -> String {
        let mut text = format!(
            "{HOME} (home, limit {}) and {} peers, each behind an mTLS gateway, {} ms a request",
            self.limit,
            self.peers.len(),
            DELAY.as_millis()
        );
        for peer in &self.peers {
            let limit = peer
                .limit
                .map_or("no limit".to_owned(), |n| format!("limit {n}"));
            let (name, priority, weight) = (peer.name, peer.priority, peer.weight);
            text += &format!("\n  {name:<5} priority {priority}, weight {weight}, {limit}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(peers: &str) -> Plan {
        Plan::of(&Options::parse_from(["demo", "--peers", peers]))
    }

    #[test]
    fn the_last_peer_has_the_last_priority_and_takes_what_the_others_cannot() {
        let plan = plan("3");
        let peers = plan.peers.iter();
        let peers = peers.map(|p| (p.name, p.priority, p.weight, p.limit));
        let peers = peers.collect::<Vec<_>>();
        assert_eq!(
            peers,
            [
                ("gke", 0, 2, Some(8)),
                ("eks", 0, 1, Some(4)),
                ("aks", 1, 1, None)
            ]
        );
        let clients: Vec<u32> = plan
            .stages
            .iter()
            .map(|stage| plan.clients(*stage))
            .collect();
        assert_eq!(clients, [1, 5, 17, 17, 17, 1]);
    }

    #[test]
    fn a_surplus_that_weights_decide_about_reaches_no_limit() {
        for peers in ["2", "3", "4", "5"] {
            let plan = plan(peers);
            let surplus = plan.clients(Stage::Surplus) - plan.limit;
            let mut limits = plan.peers.iter().filter_map(|peer| peer.limit);
            assert!(limits.all(|limit| limit >= surplus), "{peers}");
        }
    }
}
