//! What a configuration owes to services that were used before it: their gauges show what is configured now, or nothing.
//!
//! A machine of single steps, as [`crate::Admit`]: the filter carries out a [`Step`] and hands back what came of it; the explorer
//! drives it in some VMs, in every order of their hostcalls.
//!
//! **Invariant: once all VMs run the same configuration, `limit` shows what that says**, 0 for a service that it does not
//! have in any listener. A VM writes its own limit when it first uses a service, and again for each service that any VM of the
//! process has used, in the first tick after each change of what runs in it: a configuration becomes its current one, or a root
//! context of it ends. So whatever a VM wrote for an older configuration, and in whatever order the VMs come to the newer one, it
//! overwrites itself; and what a dead VM wrote, the VM in its place does. Which services were used is in the index of counts,
//! where a service is before its limit is shown.
//!
//! **Invariant: what another listener serves is that one's to show.** Two listeners may have the same plugin and role with
//! different services, and a VM learns which of its root contexts are of which side by their requests. So a service of a
//! root context that is not known to be replaced is left alone, until that root context ends or is known to be.
//!
//! **Invariant: a service whose errors are not looked at shows no ejection**: the last requests of a configuration before may
//! still end and eject, so its gauge is looked at now and again.

/// How one that was used stands with what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stands {
    /// There are no more.
    End,
    /// It is another plugin's, or of another role, or another root context may serve it.
    Others,
    /// It is configured.
    Here {
        /// 0 where it has none.
        limit: u32,
        /// Its errors are looked at.
        watched: bool,
    },
    /// Nothing serves it any more.
    Nowhere,
}

/// What to do next. Services are by their places in the index, which only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the index.
    List,
    /// Say how this one of it stands.
    Ask(usize),
    /// Show this limit of it, and forget what is not there any more of its way to a peer.
    Show(usize, u32),
    /// Make it available: its errors eject nobody ([`crate::ejection::Task::forget`]).
    Available(usize),
    /// Finished.
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

/// What a root context does for services that were used before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    at: At,
    /// The change of what runs that was last seen to.
    seen: u32,
    /// Those whose errors are not looked at.
    unwatched: Vec<usize>,
    turn: usize,
}

impl Left {
    /// Begins a tick of the current root context. `changes` is how often what runs in this VM has changed, at least 1.
    pub fn tick(&mut self, changes: u32) {
        self.at = At::Turn;
        if self.seen != changes {
            self.seen = changes;
            self.unwatched.clear();
            self.at = At::List;
        }
    }

    /// The next step. `stands` answers the last one if it was [`Step::Ask`], and is not looked at otherwise.
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

    /// Asks for the one after this.
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

    /// The steps of one tick, for services that stand so.
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
