//! What a configuration does about services that were used before it: their gauges show what is configured now. What is said
//! here of a service holds for each of its destinations: home, and each peer that a request was spilled to.
//!
//! This is a machine of single steps like [`crate::Admit`]. The filter carries out each [`Step`] and passes back its result.
//! The explorer drives the machines of several VMs in every order of their hostcalls.
//!
//! **Invariant: once all VMs run the same configuration, `limit` shows the limit of that one.** It is 0 for a service that no
//! listener has. A VM writes its own limit when it first uses a service. It writes it again for each service that any VM of the
//! process has used, in the first tick after each change of what runs in it: another configuration becomes the current one, or
//! a root context ends. So a VM overwrites whatever it wrote for an older configuration, in whatever order the VMs get the
//! newer one. The VM in the place of a dead one overwrites what that one wrote. The index of counts has the services that were
//! used, and a service is in it before its limit is shown.
//!
//! One order is left out: the last VM that runs a plugin ends, and between its look whether another one runs and its write of 0 the
//! first tick of another VM passes. Then `limit` shows 0 until the next change of what runs. Only the gauge is concerned.
//!
//! **Invariant: a service of another listener is left to that listener.** Two listeners may have the same plugin and role with
//! different services, and a VM learns only from requests on which side its root contexts are. So a service of a root context
//! that may still serve requests is left alone until that root context ends or is known to be replaced.
//!
//! **Invariant: a service without error detection shows no ejection.** The last requests of the configuration before may still
//! end and eject, so the gauge is checked now and then.

/// The state of a used service in the current configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stands {
    /// There are no more services.
    End,
    /// It belongs to another plugin or role, or another root context may serve it.
    Others,
    /// It is configured.
    Here {
        /// Its limit. It is 0 if there is none.
        limit: u32,
        /// Whether its errors are detected.
        watched: bool,
    },
    /// Nothing serves it any more.
    Nowhere,
}

/// The next step. A service is given by its place in the index, which only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the index.
    List,
    /// Find out the state of this service.
    Ask(usize),
    /// Show this limit of the service, and forget misroutes that do not exist any more.
    Show(usize, u32),
    /// Make the service available, since its errors eject nobody ([`crate::ejection::Task::forget`]).
    Available(usize),
    /// The tick is finished.
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum At {
    #[default]
    List,
    Ask(usize),
    Asked(usize),
    Shown(usize, bool),
    Turn,
    End,
}

/// What a root context remembers about services that were used before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    at: At,
    /// The change of what runs that it has handled last.
    seen: u32,
    /// The services whose errors are not detected.
    unwatched: Vec<usize>,
    turn: usize,
}

impl Left {
    /// Begins a tick of the current root context. `changes` is the number of changes of what runs in this VM, at least 1.
    pub fn tick(&mut self, changes: u32) {
        self.at = At::Turn;
        if self.seen != changes {
            self.seen = changes;
            self.unwatched.clear();
            self.at = At::List;
        }
    }

    /// The next step. `stands` is the result of [`Step::Ask`], and is not used after another step.
    pub fn next(&mut self, stands: Stands) -> Step {
        match self.at {
            At::List => self.go(At::Ask(0), Step::List),
            At::Ask(n) => self.go(At::Asked(n), Step::Ask(n)),
            At::Asked(n) => match stands {
                Stands::End => self.go(At::End, Step::Done),
                Stands::Others => self.ask(n),
                Stands::Here { limit, watched } => {
                    self.go(At::Shown(n, watched), Step::Show(n, limit))
                }
                Stands::Nowhere => self.go(At::Shown(n, false), Step::Show(n, 0)),
            },
            At::Shown(n, true) => self.ask(n),
            At::Shown(n, false) => {
                self.unwatched.push(n);
                self.go(At::Ask(n.saturating_add(1)), Step::Available(n))
            }
            At::Turn => {
                self.turn = self.turn.wrapping_add(1);
                let nth = self.turn.checked_rem(self.unwatched.len());
                let step = nth.and_then(|nth| self.unwatched.get(nth));
                let step = step.map_or(Step::Done, |n| Step::Available(*n));
                self.go(At::End, step)
            }
            At::End => Step::Done,
        }
    }

    /// Asks for the next service.
    fn ask(&mut self, n: usize) -> Step {
        let next = n.saturating_add(1);
        self.go(At::Asked(next), Step::Ask(next))
    }

    fn go(&mut self, at: At, step: Step) -> Step {
        self.at = at;
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of one tick, for services in these states.
    fn steps(left: &mut Left, changes: u32, services: &[Stands]) -> Vec<Step> {
        left.tick(changes);
        let (mut all, mut stands) = (vec![], Stands::End);
        loop {
            match left.next(stands) {
                Step::Ask(n) => stands = services.get(n).copied().unwrap_or(Stands::End),
                Step::Done => return all,
                step => all.push(step),
            }
        }
    }

    #[test]
    fn a_service_whose_errors_are_not_looked_at_is_made_available_again_and_again() {
        let watched = |watched| Stands::Here { limit: 3, watched };
        let services = [
            watched(false),
            Stands::Others,
            watched(true),
            Stands::Nowhere,
        ];
        let mut left = Left::default();
        let first = steps(&mut left, 1, &services);
        use Step::*;
        let shown = [List, Show(0, 3), Available(0), Show(2, 3), Show(3, 0)];
        assert_eq!(first, [&shown[..], &[Available(3)]].concat());
        let mut later = [(); 4].map(|()| steps(&mut left, 1, &services));
        later.sort_by_key(|steps| format!("{steps:?}"));
        assert_eq!(later.concat(), [0, 0, 3, 3].map(Available), "in turns");
        assert_eq!(steps(&mut left, 2, &services[2..3]), [List, Show(0, 3)]);
        assert_eq!(steps(&mut left, 2, &services[2..3]), [], "all is watched");
    }
}
