//! What peer-spillover decides, from plain values: no clock, no randomness, no log, no hostcall.
//!
//! [`names`] has every name that users see; all other modules decide. Nothing here knows Proxy-Wasm, so the filter uses it and
//! other programs can: a simulator, a command line. On `wasm32-unknown-unknown` its tests
//! run in a module that may import nothing, so a hostcall would not link.

// The filter is made of it, and a panic there is a trap: every request in flight on that worker is lost and what it counted
// leaks. So nothing here may panic either.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo,
        clippy::arithmetic_side_effects
    )
)]
#![warn(missing_docs)]

#[cfg(all(test, target_arch = "wasm32", target_os = "unknown"))]
mod bare;
pub mod names;

pub mod admission;
pub mod decision;
pub mod destination;
pub mod ejection;
pub mod error_rate;
pub mod ledger;
pub mod near;
pub mod notice;
pub mod origin;
pub mod outcome;
pub mod recovery;
pub mod response;
pub mod risk;
pub mod route;
pub mod sampling;
pub mod sorted;
pub mod target;
pub mod time;

pub use admission::{Admission, Admit, Step};
pub use decision::{Decision, Intent, Rule};
pub use ejection::Detection;
pub use ledger::{Ledger, Ticket};
pub use origin::Origin;
pub use outcome::Outcome;
pub use recovery::roster::Roster;
pub use route::Routes;

#[cfg(all(test, not(target_arch = "wasm32")))]
mod explore;
