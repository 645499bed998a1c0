use proptest::prelude::*;

use super::*;

fn an_end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Arrived), Just(End::Lost)]
}

proptest! {
    /// Requests of one port are sent in the same way with and without requests of another port, however those end.
    #[test]
    fn the_requests_of_one_port_do_not_affect_those_of_another(
        events in prop::collection::vec((an_end(), 0..3u8, any::<bool>(), 0..20u32), 0..200),
    ) {
        let (mut with, mut without) = (found(), found());
        let mut now = 0;
        for (end, path, other_port, later) in events {
            now += later;
            let selector = format!("/{path}");
            if other_port {
                with.looked(OTHER_PORT, Some(end == End::Arrived), at(now));
                trial_from(&mut with, OTHER_PORT, &selector, now);
                with.answered(OTHER_PORT, get(&selector), "", end, false, at(now));
            } else {
                let sent = trial(&mut with, &selector, now);
                prop_assert_eq!(sent, trial(&mut without, &selector, now));
                if sent == Trial::Go {
                    ends(&mut with, &selector, end, now);
                    ends(&mut without, &selector, end, now);
                }
            }
        }
    }

    /// After a request has arrived, lost requests of fewer paths than stop a whole cluster stop no other path.
    #[test]
    fn lost_requests_of_few_paths_do_not_stop_another_path(
        events in prop::collection::vec((an_end(), 0..PROVEN_LOST - 1, 0..20u32), 0..400),
    ) {
        let mut routes = proven();
        let mut now = 0;
        for (end, path, later) in events {
            now += later;
            let selector = format!("/lost{path}/x");
            if trial(&mut routes, &selector, now) == Trial::Go {
                ends(&mut routes, &selector, end, now);
            }
            prop_assert_eq!(trial(&mut routes, "/well", now), Trial::Go);
        }
    }

    /// After any lost requests, an existing route is found within the longest wait. After that all requests are sent.
    #[test]
    fn an_existing_route_is_found_within_the_longest_wait(
        events in prop::collection::vec((an_end(), 0..40u8, 0..20u32), 0..200),
    ) {
        let mut routes = found();
        let mut now = 0;
        for (end, path, later) in events {
            now += later;
            let selector = format!("/{path}");
            if trial(&mut routes, &selector, now) == Trial::Go {
                ends(&mut routes, &selector, end, now);
            }
        }
        now += MOST_WAIT;
        prop_assert_eq!(trial(&mut routes, "/0", now), Trial::Go);
        ends(&mut routes, "/0", End::Arrived, now);
        prop_assert_eq!(trial(&mut routes, "/0", now), Trial::Go);
        prop_assert_eq!(trial(&mut routes, "/never-asked-for", now), Trial::Go);
    }
}
