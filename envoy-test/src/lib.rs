//! A local Envoy in front of two clusters, all on loopback: what the end-to-end tests and the demo stand on.
//!
//! [`World`] puts the parts together: two [`Echo`] services that count their own concurrency, home's proxy with the
//! filter and the peer's gateway ([`Envoy`], the real one), [`Certs`] between them. [`Client`] sends single requests,
//! [`load::closed_loop`] many. Whoever waits, waits with [`until`]: for a condition, up to a deadline.

pub mod certs;
pub mod client;
pub mod echo;
pub mod empty_filter;
pub mod envoy;
pub mod load;
pub mod wait;
pub mod world;

pub use certs::{Certs, Leaf};
pub use client::{Answer, Client};
pub use echo::{Echo, EchoOptions, Received};
pub use envoy::{Envoy, EnvoyOptions};
pub use load::{LoadOptions, Outcome, closed_loop};
pub use wait::{DEADLINE, until};
pub use world::World;
