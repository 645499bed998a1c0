//! What is decided about a request: where it goes, and why.
//!
//! **Invariant: no value of [`Decision`] is nonsense.** Each destination has reasons of its own, so a decision that is never
//! made cannot be written.

use crate::destination::{DestinationId, PeerId};
use crate::names::{HomeReason, SpillReason, WHEN_FULL};

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Home.
    Home(HomeReason),
    /// To a peer.
    Spill {
        /// Which one.
        to: PeerId,
        /// Why it leaves home.
        why: SpillReason,
    },
    /// A 503 from here: no peer may take it, and home is not to get it.
    Reject,
}

impl Decision {
    /// Where it is sent, if it is.
    pub fn to(self) -> Option<DestinationId> {
        match self {
            Decision::Home(_) => Some(DestinationId::HOME),
            Decision::Spill { to, .. } => Some(to.into()),
            Decision::Reject => None,
        }
    }

    /// The word for the reason that users see.
    pub fn reason(self) -> &'static str {
        match self {
            Decision::Home(why) => why.word(),
            Decision::Spill { why, .. } => why.word(),
            Decision::Reject => WHEN_FULL,
        }
    }

    /// All of them, if there is one peer.
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = Decision> {
        let to = PeerId::FIRST;
        let spill = SpillReason::ALL.map(|why| Decision::Spill { to, why });
        let home = HomeReason::ALL.map(Decision::Home);
        home.into_iter().chain(spill).chain([Decision::Reject])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_reason_is_its_place_among_all() {
        for (n, why) in HomeReason::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, n);
        }
        for (n, why) in SpillReason::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, n);
        }
    }
}
