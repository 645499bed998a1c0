use proptest::prelude::*;

use super::*;

fn an_end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Arrived), Just(End::Lost)]
}

proptest! {
    /// Whatever becomes of the requests of one port: those of another are sent as without them.
    #[test]
    fn one_port_says_nothing_of_another(
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

    /// Once a request has arrived, what becomes of some paths (fewer than put a whole door in doubt) stops no other.
    #[test]
    fn one_path_says_nothing_of_another(
        events in prop::collection::vec((an_end(), 0..PROVEN_DOOR - 1, 0..20u32), 0..400),
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

    /// Whatever was lost before: a route that is there is found within the longest wait, and then all is sent.
    #[test]
    fn a_wrong_belief_ends_within_the_longest_wait(
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
