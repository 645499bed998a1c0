//! What a VM of a script does.

use crate::Admit;
use crate::recovery;
use crate::recovery::mark::Gauge;
use crate::recovery::shared_count::Change;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// Takes a slot of the roster, as a VM that was just made does.
    Join,
    /// Asks for a place under the limit of this destination, and keeps it if it gets one.
    Request(usize),
    /// Asks for a place at home, and if there is none at the peer.
    Offer,
    /// Ends one of its requests at this destination, if it has any.
    Release(usize),
    /// This destination is configured no more.
    Remove(usize),
    Tick,
    /// A tick that comes a second too late.
    LateTick,
    /// The last of so many callbacks without a tick.
    Work,
    /// Traps inside a callback: it is never called again.
    Die,
}

/// What is next in an operation that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Do {
    Begin,
    End,
    Entered,
    Left(Gauge),
    Run(recovery::Op),
    /// Carries out the steps of the recovery.
    Steps,
    /// Offers the request to this destination, since the one before did not take it.
    Offer(usize),
    /// A destination is used: its requests are counted from now on.
    Use(usize),
    Used(usize),
    Admit(usize, Admit, i64),
    /// Reads the total again, after it lacked what this VM has in it.
    Again(usize, Admit),
    Change(usize, Change),
    Dead,
}
