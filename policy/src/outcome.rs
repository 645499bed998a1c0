//! The outcome of a spilled request: who answered it, and with what.
//!
//! **Invariant: each spilled request has one outcome.** It is an answer of the peer, or an answer of home to which the request
//! came back ([`Answerer::Home`]), or no answer. The decision to spill a request does not say which.
//! **Invariant: an answer counts as home's only if there is evidence.** If nothing distinguishes the endpoints of the peer's
//! cluster, the answer is the peer's.

use super::response;
use super::target::{self, Named};

/// Who answered a spilled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The peer, or nobody.
    Peer,
    /// Home: the request came back by a retry, by failover, or because no route led to the peer.
    Home,
}

/// The class of the status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No upstream has answered, or one has not answered to the end.
    None,
    /// 100 to 199, for example 101 of a WebSocket.
    Informational,
    /// 200 to 299.
    Success,
    /// 300 to 399.
    Redirection,
    /// 400 to 499.
    ClientError,
    /// 500 and above.
    ServerError,
}

impl Class {
    /// All classes, in the order of their index.
    pub const ALL: [Class; 6] = [
        Class::None,
        Class::Informational,
        Class::Success,
        Class::Redirection,
        Class::ClientError,
        Class::ServerError,
    ];

    /// The class of an HTTP status. It is [`Class::None`] for 0.
    pub fn of(status: u32) -> Class {
        match status {
            0..=99 => Class::None,
            100..=199 => Class::Informational,
            200..=299 => Class::Success,
            300..=399 => Class::Redirection,
            400..=499 => Class::ClientError,
            500.. => Class::ServerError,
        }
    }

    /// The word that users see.
    pub fn word(self) -> &'static str {
        match self {
            Class::None => "none",
            Class::Informational => "1xx",
            Class::Success => "2xx",
            Class::Redirection => "3xx",
            Class::ClientError => "4xx",
            Class::ServerError => "5xx",
        }
    }
}

/// Envoy's response code details of an answer that Envoy follows itself (`internal_redirect_policy`).
const INTERNAL_REDIRECT: &str = "internal_redirect";

/// The outcome of a spilled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who answered.
    pub who: Answerer,
    /// The class of the answer.
    pub class: Class,
}

impl Outcome {
    /// The number of different outcomes.
    pub const KINDS: usize = 2 * Class::ALL.len();
    /// The outcome of a request that no upstream has answered.
    pub const UNANSWERED: Outcome = Outcome {
        who: Answerer::Peer,
        class: Class::None,
    };

    /// The outcome by the beginning of an answer: its HTTP status, its gRPC status if that is known already, and Envoy's
    /// response code details, which tell where the answer comes from.
    pub fn begun(who: Answerer, status: u32, grpc: Option<&str>, details: &str) -> Outcome {
        if !response::came_from_home(details) {
            return Outcome::UNANSWERED;
        }
        let class = Class::of(grpc.map_or(status, response::grpc_to_http));
        Outcome { who, class }
    }

    /// The outcome with the gRPC status of the trailers.
    pub fn with_trailers(self, grpc: &str) -> Outcome {
        Outcome {
            class: Class::of(response::grpc_to_http(grpc)),
            ..self
        }
    }

    /// The outcome at the end of a request without an answer, by Envoy's response code details. If Envoy followed a redirect
    /// itself, the answer went to another request.
    pub fn left(self, details: &str) -> Outcome {
        let class = if details == INTERNAL_REDIRECT {
            Class::Redirection
        } else {
            self.class
        };
        Outcome { class, ..self }
    }

    /// The outcome at the end of the request, by Envoy's response flags.
    pub fn ended(self, flags: u64) -> Outcome {
        let class = if response::broke_off(flags) {
            Class::None
        } else {
            self.class
        };
        Outcome { class, ..self }
    }

    /// A number below [`Outcome::KINDS`], a different one for each outcome.
    pub fn index(self) -> usize {
        let first = match self.who {
            Answerer::Peer => 0,
            Answerer::Home => Class::ALL.len(),
        };
        first.saturating_add(self.class as usize)
    }
}

/// The evidence of who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The cluster is home's: no route led the request to the peer.
    Back,
    /// The region in the endpoint's locality. It is the name of the cluster in the federation, if the ServiceEntry says so.
    Region,
    /// What Istio knows about the workload of the endpoint: `NAME;NAMESPACE;SERVICE;REVISION;CLUSTER`
    /// (`AppendLbEndpointMetadata` of `pilot/pkg/networking/util/util.go`). For an endpoint of a ServiceEntry, the last part is
    /// always this cluster. So it only says something about the service's own endpoints.
    Workload,
}

/// The evidence to look for in an answer from `cluster` to a request for `service`. `home` is the cluster where the request
/// would have gone. If the peer is a subset of the service's host, that is `own`, and every other cluster of the host is home's. Otherwise `own` is empty.
pub fn evidence(service: &str, own: &str, home: &str, cluster: &str) -> Evidence {
    if cluster == home {
        return Evidence::Back;
    }
    match target::named(cluster) {
        Named::Host(host) if host == service && own.is_empty() => Evidence::Workload,
        Named::Subset(host, subset) if host == service && (own.is_empty() || own == subset) => {
            Evidence::Workload
        }
        Named::Host(host) | Named::Subset(host, _) if host == service => Evidence::Back,
        _ => Evidence::Region,
    }
}

impl Evidence {
    /// Who has answered, by the value of the evidence. `own` is the name of this cluster.
    pub fn answerer(self, value: &str, own: &str) -> Answerer {
        let home = match self {
            Evidence::Back => true,
            Evidence::Region => value == own,
            Evidence::Workload => value.rsplit(';').next() == Some(own),
        };
        if home { Answerer::Home } else { Answerer::Peer }
    }
}

/// Envoy's response flag UH: the cluster has no healthy host. This is reported as a misroute.
const NO_HOST: u64 = 1 << 1;

/// Whether the peer has answered. `None` if the answer does not tell: no route led to the peer, another filter answered, the
/// peer's cluster has no healthy host, or a timeout ended the request, which the client may have chosen.
pub fn reached(evidence: Evidence, outcome: Outcome, flags: u64) -> Option<bool> {
    match outcome {
        Outcome {
            class: Class::None, ..
        } => (response::broke_off(flags) && flags & NO_HOST == 0 && !response::timed_out(flags))
            .then_some(false),
        Outcome {
            who: Answerer::Peer,
            ..
        } => Some(true),
        Outcome {
            who: Answerer::Home,
            ..
        } => (evidence != Evidence::Back).then_some(false),
    }
}

/// The number of spilled requests of one worker in a row that the peer did not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreached(u8);

impl Unreached {
    /// The number from which on nothing that is spilled reaches the peer. A smaller number may be chance, since a broken
    /// connection ends several requests.
    pub const MANY: u8 = 5;

    /// The number after one more request, and whether it is large now.
    pub fn and(self, reached: bool) -> (Unreached, bool) {
        let row = if reached { 0 } else { self.0.saturating_add(1) };
        (Unreached(row), row >= Self::MANY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "a.istio.svc.cluster.local";
    const HOME: &str = "outbound|80||a.istio.svc.cluster.local";
    const PEER: &str = "outbound|80||a.istio.gke.global";
    const SUBSET: &str = "outbound|80|gke|a.istio.svc.cluster.local";

    fn who(cluster: &str, value: &str) -> Answerer {
        evidence(HOST, "", HOME, cluster).answerer(value, "iotcloudserve")
    }

    #[test]
    fn a_request_that_no_route_led_away_was_answered_by_home() {
        assert_eq!(who(HOME, ""), Answerer::Home);
    }

    #[test]
    fn an_endpoint_of_the_peers_host_is_homes_if_its_locality_says_so() {
        assert_eq!(who(PEER, "iotcloudserve"), Answerer::Home);
        for region in ["gke", "", "europe-west1"] {
            assert_eq!(who(PEER, region), Answerer::Peer);
        }
    }

    /// For an endpoint of a ServiceEntry, Istio names the cluster of the ServiceEntry.
    #[test]
    fn the_workload_tells_of_the_services_own_endpoints_alone() {
        assert_eq!(evidence(HOST, "", HOME, PEER), Evidence::Region);
        assert_eq!(who(SUBSET, "a;istio;a;;iotcloudserve"), Answerer::Home);
        for workload in ["a;istio;a;;gke", "", "iotcloudserve;istio;a;;gke"] {
            assert_eq!(who(SUBSET, workload), Answerer::Peer);
        }
    }

    /// Home may be a subset too, and the route of the header may lead to another one of home's by mistake.
    #[test]
    fn where_the_peer_is_a_subset_every_other_cluster_of_the_host_is_home() {
        let v1 = "outbound|80|v1|a.istio.svc.cluster.local";
        for home in [HOME, v1, ""] {
            let of = |cluster| evidence(HOST, "gke", home, cluster);
            for back in [HOME, v1, "outbound|80|v2|a.istio.svc.cluster.local"] {
                assert_eq!(of(back), Evidence::Back, "{home} {back}");
            }
            assert_eq!(of(SUBSET), Evidence::Workload, "{home}");
            assert_eq!(
                of("inbound-vip|80|http/gke|a.istio.svc.cluster.local"),
                Evidence::Workload
            );
            assert_eq!(of(PEER), Evidence::Region, "{home}");
        }
    }

    #[test]
    fn what_envoy_answers_by_itself_is_no_answer() {
        for details in [
            "upstream_reset_before_response_started{connection_termination}",
            "route_not_found",
            "direct_response",
            "",
        ] {
            for who in [Answerer::Peer, Answerer::Home] {
                assert_eq!(
                    Outcome::begun(who, 503, None, details),
                    Outcome::UNANSWERED,
                    "{details}"
                );
            }
        }
    }

    #[test]
    fn the_status_of_grpc_is_the_answer_wherever_it_stands() {
        let begun = |grpc| Outcome::begun(Answerer::Peer, 200, grpc, "via_upstream");
        assert_eq!(begun(None).class, Class::Success);
        assert_eq!(begun(Some("0")).class, Class::Success);
        assert_eq!(begun(Some("14")).class, Class::ServerError);
        assert_eq!(begun(None).with_trailers("14").class, Class::ServerError);
        assert_eq!(begun(None).with_trailers("5").class, Class::ClientError);
    }

    #[test]
    fn a_redirect_that_envoy_followed_is_one() {
        let left = |details| Outcome::UNANSWERED.left(details).class;
        assert_eq!(left("internal_redirect"), Class::Redirection);
        assert_eq!(left("downstream_remote_disconnect"), Class::None);
    }

    #[test]
    fn an_answer_that_was_broken_off_is_none() {
        let begun = Outcome::begun(Answerer::Home, 200, None, "via_upstream");
        assert_eq!(begun.ended(0), begun);
        // DC: the client has gone away.
        assert_eq!(begun.ended(1 << 9), begun);
        // UC.
        assert_eq!(begun.ended(1 << 6).class, Class::None);
        assert_eq!(begun.ended(1 << 6).who, Answerer::Home);
    }

    #[test]
    fn what_shows_whether_the_peer_is_reached_is_the_way_there_and_back_alone() {
        let ok = |who| Outcome {
            who,
            class: Class::Success,
        };
        let reached_of = |evidence, outcome| reached(evidence, outcome, 0);
        for evidence in [Evidence::Region, Evidence::Workload] {
            assert_eq!(reached_of(evidence, ok(Answerer::Peer)), Some(true));
            assert_eq!(reached_of(evidence, ok(Answerer::Home)), Some(false));
        }
        assert_eq!(reached_of(Evidence::Back, ok(Answerer::Home)), None);
        let none = |flags| reached(Evidence::Region, Outcome::UNANSWERED, flags);
        // UF and UC.
        assert_eq!(none(1 << 5), Some(false));
        assert_eq!(none(1 << 6), Some(false));
        // UH, UT and DC. No flag at all means an injected fault.
        for flags in [1 << 1, 1 << 2, 1 << 9, 0] {
            assert_eq!(none(flags), None, "{flags}");
        }
    }

    #[test]
    fn one_answer_of_the_peers_ends_a_row_and_it_never_overflows() {
        let mut row = Unreached::default();
        for n in 1..=1000u32 {
            let (next, many) = row.and(false);
            assert_eq!(many, n >= u32::from(Unreached::MANY));
            row = next;
        }
        assert_eq!(row.and(true), (Unreached::default(), false));
    }

    #[test]
    fn every_outcome_has_a_number_of_its_own() {
        let mut seen = [false; Outcome::KINDS];
        for who in [Answerer::Peer, Answerer::Home] {
            for class in Class::ALL {
                assert!(!std::mem::replace(
                    &mut seen[Outcome { who, class }.index()],
                    true
                ));
            }
        }
        for status in [0, 100, 204, 301, 404, 599] {
            assert_eq!(Class::of(status), Class::ALL[status as usize / 100]);
        }
    }
}
