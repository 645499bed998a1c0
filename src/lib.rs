//! peer-spillover: when a service is full, exactly the surplus goes to the same service in a peer cluster.
//!
//! Three rooms, and one rule between them: [`policy`] decides from plain values, [`config`] reads what users write,
//! `shell` is the Proxy-Wasm filter and alone talks to Envoy. The first two know nothing of Proxy-Wasm, so that other
//! crates (a simulator, a command line) can use them, and so that "no hostcall in the policy" is a fact of the
//! compiler: on `wasm32-unknown-unknown` the shell and its SDK do not exist, and the policy's tests still run.

// A panic in a Wasm VM is a trap: every request in flight on that worker is lost and what it counted leaks. So
// nothing here may panic, and whoever adds the word has to argue with the compiler first.
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
pub mod config;
pub mod names;
pub mod policy;

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod shell;
