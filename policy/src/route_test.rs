use std::cell::RefCell;

use super::*;

const HOME: &str = "outbound|80||a.istio.svc.cluster.local";
const OTHER_PORT: &str = "outbound|8080||a.istio.svc.cluster.local";
const PEER: &str = "outbound|80||a.istio.gke.global";
/// In these tests the times are in ticks. A second has five.
const SECOND: u32 = 5;
const MOST_WAIT: u32 = 50;
const QUIET: u32 = 300;

/// The moment of this tick.
fn at(tick: u32) -> Instant {
    Instant(u64::from(tick) * 200)
}

/// A time that is longer than any request is stopped.
const LONG: u32 = MOST_WAIT + 1;

/// Routes for which the peer's cluster was found.
fn found() -> Routes {
    let mut routes = Routes::default();
    routes.looked(HOME, Some(true), at(0));
    routes
}

/// The same, on which a request has arrived.
fn proven() -> Routes {
    let mut routes = found();
    ends(&mut routes, "/a", End::Arrived, 0);
    routes
}

/// Ends a request that was sent.
fn ends(routes: &mut Routes, path: &str, end: End, now: u32) {
    routes.answered(HOME, get(path), PEER, end, false, at(now));
}

fn trial(routes: &mut Routes, path: &str, now: u32) -> Trial {
    trial_from(routes, HOME, path, now)
}

fn trial_from(routes: &mut Routes, home: &str, path: &str, now: u32) -> Trial {
    match routes.trial(home, 0, at(now)) {
        Trial::Select => routes.trial(home, get(path), at(now)),
        other => other,
    }
}

fn get(path: &str) -> u64 {
    of("GET", path)
}

fn of(method: &str, path: &str) -> u64 {
    selector([method, path].map(str::to_owned).into_iter())
}

/// Requests of many paths without a route stop no other path within a second after one arrived. Later they stop all paths,
/// because nothing shows any more that a route leads to the peer.
#[test]
fn a_burst_of_lost_requests_stops_other_paths_only_if_none_has_arrived_for_a_second() {
    let mut routes = proven();
    for n in 0..40 {
        assert_eq!(lose(&mut routes, &format!("/odd{n}"), 1, 0), 1, "{n}");
    }
    for now in 0..SECOND {
        assert_eq!(trial(&mut routes, "/b", now), Trial::Go, "{now}");
    }
    lose(&mut routes, "/odd", 1, SECOND);
    assert_eq!(trial(&mut routes, "/b", SECOND), Trial::NoRoute);
}

/// Tries to send this number of requests of a path in a row, which are all lost. Returns how many were sent.
fn lose(routes: &mut Routes, path: &str, requests: u32, now: u32) -> u32 {
    let mut sent = 0;
    for _ in 0..requests {
        if trial(routes, path, now) == Trial::Go {
            sent += 1;
            ends(routes, path, End::Lost, now);
        }
    }
    sent
}

#[test]
fn no_request_is_sent_if_there_is_no_cluster_until_it_is_found() {
    let mut routes = Routes::default();
    assert_eq!(trial(&mut routes, "", 0), Trial::Look);
    routes.looked(HOME, Some(false), at(10));
    assert_eq!(trial(&mut routes, "", 10), Trial::NoCluster);
    assert_eq!(trial(&mut routes, "", 9 + SECOND), Trial::NoCluster);
    assert_eq!(trial(&mut routes, "", 10 + SECOND), Trial::Look);
    routes.looked(HOME, Some(true), at(10 + SECOND));
    assert_eq!(trial(&mut routes, "", 10 + SECOND), Trial::Go);
}

#[test]
fn requests_are_sent_if_it_is_not_known_whether_there_is_a_cluster() {
    let mut routes = Routes::default();
    routes.looked("home", None, at(0));
    assert_eq!(trial_from(&mut routes, "home", "/", 0), Trial::Go);
}

#[test]
fn a_port_without_a_cluster_of_the_peer_stops_no_other_port() {
    let mut routes = proven();
    routes.looked(OTHER_PORT, Some(false), at(0));
    let other = trial_from(&mut routes, OTHER_PORT, "/a", 0);
    assert_eq!(other, Trial::NoCluster);
    assert_eq!(trial(&mut routes, "/a", 0), Trial::Go);
}

/// If a ServiceEntry is removed under load, answers of requests that are still at the peer come after the first lost
/// request.
#[test]
fn a_late_answer_does_not_reopen_the_route_of_a_removed_cluster() {
    let mut routes = proven();
    assert!(routes.answered(HOME, get("/a"), "", End::Lost, false, at(7)));
    routes.looked(HOME, Some(false), at(7));
    ends(&mut routes, "/a", End::Arrived, 8);
    assert_eq!(trial(&mut routes, "/a", 8), Trial::NoCluster);
    assert_eq!(trial(&mut routes, "/a", 7 + SECOND), Trial::Look);
}

#[test]
fn only_a_request_at_risk_that_arrives_opens_the_route() {
    let mut routes = Routes::default();
    routes.looked(HOME, Some(false), at(0));
    assert!(!routes.answered(HOME, 0, "", End::Lost, true, at(1)));
    assert_eq!(trial(&mut routes, "", 1), Trial::NoCluster);
    routes.answered(HOME, 0, "elsewhere", End::Arrived, true, at(1));
    assert_eq!(trial(&mut routes, "", 1), Trial::Go);
}

/// The cost of a peer whose cluster exists and has no route, as in docs/limits.md.
#[test]
fn a_cluster_without_a_route_costs_two_or_three_requests_and_then_one_after_each_longer_wait() {
    for paths in [1, 2, 50] {
        let mut routes = found();
        let mut lost = Vec::new();
        for now in 0..60 * SECOND {
            for path in 0..paths {
                let selector = format!("/{path}");
                for _ in 0..lose(&mut routes, &selector, 100 / paths, now) {
                    lost.push(now / SECOND);
                }
            }
            if now == 0 {
                assert!((2..=3).contains(&lost.len()), "{lost:?}");
            }
        }
        // At first two or three requests, and then one each time.
        lost.dedup();
        assert_eq!(lost, [0, 1, 3, 7, 15, 25, 35, 45, 55], "{paths} paths");
    }
}

#[test]
fn one_lost_request_stops_nothing() {
    for mut routes in [found(), proven()] {
        assert_eq!(lose(&mut routes, "/a", 1, 0), 1);
        for selector in ["/a", "/b"] {
            assert_eq!(trial(&mut routes, selector, 0), Trial::Go);
        }
    }
}

#[test]
fn a_path_without_a_route_stops_no_other_path() {
    let mut routes = proven();
    assert_eq!(lose(&mut routes, "/nowhere", 100, 0), u32::from(ROW));
    assert_eq!(trial(&mut routes, "/nowhere", 1), Trial::NoRoute);
    for selector in ["/a", "/b", "/nowhere-else"] {
        assert_eq!(trial(&mut routes, selector, 1), Trial::Go, "{selector}");
    }
}

#[test]
fn a_request_that_arrives_ends_the_doubt_about_its_path() {
    let mut routes = proven();
    lose(&mut routes, "/a", 2, 0);
    assert_eq!(trial(&mut routes, "/a", 0), Trial::NoRoute);
    assert_eq!(trial(&mut routes, "/a", SECOND), Trial::Go);
    assert_eq!(trial(&mut routes, "/a", SECOND), Trial::NoRoute);
    ends(&mut routes, "/a", End::Arrived, SECOND);
    // A request of this path has arrived before, so more lost requests are needed to stop it again.
    let sent = lose(&mut routes, "/a", 100, 2 * SECOND);
    assert_eq!(sent, u32::from(PROVEN_ROW));
}

/// If one client sends bursts of requests without a route, of a path that others use, they stop the path once, and not
/// again while requests of others arrive.
#[test]
fn bursts_of_lost_requests_on_a_path_on_which_others_arrive_stop_it_once() {
    let mut routes = proven();
    let mut stopped = 0;
    for now in 0..50 * SECOND {
        if now % (SECOND + 2) == 0 {
            lose(&mut routes, "/a", 20, now);
        }
        if trial(&mut routes, "/a", now) == Trial::Go {
            ends(&mut routes, "/a", End::Arrived, now);
        } else {
            stopped += 1;
        }
    }
    assert!(stopped <= 2 * SECOND, "for {stopped} ticks");
}

/// One request in ten on the same path is lost, because a route needs a header, or has a weight.
#[test]
fn lost_requests_among_others_of_their_path_do_not_stop_it() {
    let mut routes = proven();
    for now in 0..1000 {
        assert_eq!(lose(&mut routes, "/a", 1, now), 1);
        for _ in 0..9 {
            assert_eq!(trial(&mut routes, "/a", now), Trial::Go);
            ends(&mut routes, "/a", End::Arrived, now);
        }
    }
}

#[test]
fn a_peer_without_a_healthy_host_costs_two_requests_and_then_one_after_each_longer_wait() {
    let mut routes = proven();
    let mut sent = Vec::new();
    for now in 0..20 * SECOND {
        for _ in 0..10 {
            match trial(&mut routes, "/a", now) {
                Trial::Go => sent.push(now / SECOND),
                other => assert_eq!(other, Trial::Empty),
            }
            if sent.last() == Some(&(now / SECOND)) {
                ends(&mut routes, "/a", End::Empty, now);
            }
        }
    }
    assert_eq!(sent, [0, 0, 1, 3, 7, 15]);
    ends(&mut routes, "/a", End::Arrived, LONG);
    assert_eq!(trial(&mut routes, "/a", LONG), Trial::Go);
}

/// A VirtualService leads one path to another cluster, which has no healthy host.
#[test]
fn another_cluster_without_a_healthy_host_stops_only_its_own_path() {
    let mut routes = proven();
    for _ in 0..10 {
        routes.answered(HOME, get("/b"), "outbound|80||b", End::Empty, false, at(0));
    }
    assert_eq!(trial(&mut routes, "/b", 0), Trial::NoRoute);
    assert_eq!(trial(&mut routes, "/a", 0), Trial::Go);
}

#[test]
fn selectors_are_read_only_within_a_minute_after_a_lost_request_once_one_has_arrived() {
    let mut routes = proven();
    let reads = |routes: &mut Routes, now| routes.trial(HOME, 0, at(now)) == Trial::Select;
    assert!(!reads(&mut routes, 0));
    ends(&mut routes, "/nowhere", End::Lost, 0);
    assert!(reads(&mut routes, QUIET - 1));
    assert!(!reads(&mut routes, QUIET));
    assert!(reads(&mut found(), 0));
}

#[test]
fn the_number_of_beliefs_is_bounded_for_any_requests() {
    let mut routes = Routes::default();
    for n in 0..50 {
        let home = format!("outbound|{n}||a");
        routes.looked(&home, Some(true), at(0));
        for path in 0..50 {
            routes.answered(&home, get(&format!("/{path}")), "", End::Lost, false, at(0));
        }
    }
    assert_eq!(routes.clusters.len(), CLUSTERS);
    assert_eq!(routes.selectors.len(), SELECTORS);
}

#[test]
fn a_selector_is_the_method_and_the_first_segment() {
    for path in ["/api", "/api/v1/users?x=/1", "/api?x", "/api#x", "api"] {
        assert_eq!(get(path), get("/api"), "{path}");
    }
    for (method, path) in [
        ("POST", "/api"),
        ("GET", "/"),
        ("GET", "/ap"),
        ("GETap", "i"),
    ] {
        assert_ne!(of(method, path), get("/api"), "{method} {path}");
    }
}

#[test]
fn a_cluster_of_the_peer_has_homes_port_and_the_peers_host_or_a_wildcard_and_its_subset() {
    let home = "outbound|80|v1|a.istio.svc.cluster.local";
    let asked = RefCell::default();
    let none = |name: &str| {
        Vec::push(&mut *asked.borrow_mut(), name.to_owned());
        Some(false)
    };
    let peer = ("a.istio.gke.global", "");
    assert_eq!(peer_exists(home, peer, none), Some(false));
    let expected = [
        "outbound|80||a.istio.gke.global",
        "outbound|80||*.istio.gke.global",
        "outbound|80||*.gke.global",
        "outbound|80||*.global",
    ];
    assert_eq!(*asked.borrow(), expected);
    for name in expected {
        let knows = |other: &str| Some(other == name);
        assert_eq!(peer_exists(home, peer, knows), Some(true));
    }
    assert_eq!(peer_exists(home, peer, |_| None), None);
    for home in ["home", "inbound-vip|80|http|a"] {
        assert_eq!(peer_exists(home, peer, |_| Some(true)), None);
    }
    let knows = |name: &str| Some(name == "outbound|80|gke|a.istio.svc.cluster.local");
    for (subset, exists) in [("gke", true), ("eks", false), ("", false)] {
        let peer = ("a.istio.svc.cluster.local", subset);
        assert_eq!(peer_exists(home, peer, knows), Some(exists), "{subset}");
    }
}

/// The possible answers of a request, and what each shows.
#[test]
fn a_request_that_a_direct_response_or_a_later_filter_answered_is_not_lost() {
    let of = |cluster, flags, upstream, blocked| {
        end(cluster == HOME, cluster, flags, || upstream, || blocked)
    };
    // A route to the peer, whether a host was chosen or not.
    assert_eq!(of(PEER, 0, true, false), Some(End::Arrived));
    assert_eq!(of(PEER, 0, false, false), Some(End::Arrived));
    assert_eq!(of(PEER, 1 << 7, false, false), Some(End::Arrived));
    assert_eq!(of(PEER, 1 << 1, false, false), Some(End::Empty));
    // A direct response, a redirect, and a filter that answers before the route is selected.
    assert_eq!(of("", 0, false, false), None);
    assert_eq!(of(HOME, 0, false, false), None);
    assert_eq!(of(HOME, 1 << 12, false, false), None);
    // No route, a route to no cluster, Istio's clusters for requests without a route, and home's own route.
    assert_eq!(of("", 1 << 8, false, false), Some(End::Lost));
    assert_eq!(of("", 1 << 24, false, false), Some(End::Lost));
    assert_eq!(of("", 0, false, true), Some(End::Lost));
    for nowhere in ["BlackHoleCluster", "PassthroughCluster"] {
        assert_eq!(of(nowhere, 0, true, false), Some(End::Lost));
        assert_eq!(of(nowhere, 1 << 1, false, false), Some(End::Lost));
    }
    assert_eq!(of(HOME, 0, true, false), Some(End::Lost));
}

#[cfg(not(target_arch = "wasm32"))]
#[path = "route_properties.rs"]
mod properties;
