//! peer-spillover: when a service is full, exactly the surplus goes to the same service in a peer cluster.
//!
//! This crate is the Proxy-Wasm filter. It alone makes hostcalls. The crate [`policy`] decides, and the crate [`config`] reads
//! what users write.
//!
//! | module | what it is |
//! |---|---|
//! | [`start`] | what Envoy calls first |
//! | [`hostcalls`] | the only place that makes hostcalls |
//! | [`metrics`] | the metrics of a service and its destinations, and whether Envoy keeps gauges |
//! | [`root`] | a root context: one configuration that Envoy gives |
//! | [`plugin`], [`service`] | that configuration in one VM, and one of its services |
//! | [`peer`] | one peer of a service: its count, the way to it, and what the log says if there is none |
//! | [`request`], [`arrival`] | one request, and which service it is for |
//! | [`health`] | error detection of a destination |
//! | [`tick`], [`strangers`] | what is done without requests; services that no request comes for |
//! | [`recovery`] | the counts of all VMs, repaired when one dies |
//! | [`succession`] | which root context of a plugin is the current one |
//! | [`notice`] | lines about conditions that begin and end |
//! | [`trap`] | for tests only |

// A panic in a Wasm VM is a trap: the worker loses every request in flight, and its counts stay too high. So nothing in this
// crate may panic, and the compiler refuses what could.
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

mod admission;
mod arrival;
mod draws;
mod health;
mod hostcalls;
mod metrics;
mod notice;
mod peer;
mod plugin;
mod recovery;
mod request;
mod root;
mod service;
mod start;
mod strangers;
mod succession;
mod tick;
mod trap;
