//! What is decided, from plain values: no clock, no randomness, no log, no hostcall.

pub mod admission;
pub mod answer;
pub mod attention;
pub mod decision;
pub mod index;
pub mod ledger;
pub mod mark;
pub mod near;
pub mod notice;
pub mod origin;
pub mod outcome;
pub mod outlier;
pub mod risk;
pub mod roster;
pub mod route;
pub mod share;
pub mod target;

pub use admission::{Admission, Admit, Step};
pub use decision::{Decision, Intent, Rule};
pub use ledger::{Ledger, Ticket};
pub use origin::Origin;
pub use outcome::Outcome;
pub use outlier::Detection;
pub use roster::Roster;
pub use route::Routes;

#[cfg(all(test, not(target_arch = "wasm32")))]
mod explore;
