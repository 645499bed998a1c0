//! The decisions of peer-spillover. They depend only on plain values: this crate has no clock, no randomness, no log and no
//! hostcalls.
//!
//! [`names`] has every name that users see. All other modules decide. The crate does not depend on Proxy-Wasm, so other
//! programs than the filter can use it too, for example a simulator. On `wasm32-unknown-unknown` its tests run in a module
//! that must not import anything, so a hostcall would not link.

// The filter uses this crate. A panic in the filter is a trap: the worker loses every request in flight, and its counts
// stay too high. So this crate must not panic.
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
pub mod dispatch;
pub mod draw;
pub mod ejection;
pub mod error_rate;
pub mod ledger;
pub mod left;
pub mod near;
pub mod notice;
pub mod origin;
pub mod outcome;
pub mod recovery;
pub mod response;
pub mod risk;
pub mod route;
pub mod sampling;
pub mod select;
pub mod sorted;
pub mod spill;
pub mod target;
pub mod time;

pub use admission::{Admission, Admit, Step};
pub use decision::Decision;
pub use dispatch::{Dispatch, Rule};
pub use ejection::Detection;
pub use ledger::{Ledger, Ticket};
pub use origin::Origin;
pub use outcome::Outcome;
pub use recovery::roster::Roster;
pub use route::Routes;
pub use spill::Spill;

#[cfg(all(test, not(target_arch = "wasm32")))]
mod explore;
