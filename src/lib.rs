//! peer-spillover: when a service is full, exactly the surplus goes to the same service in a peer cluster.
//!
//! This crate is the Proxy-Wasm filter, and alone talks to Envoy. What it decides, and what users write, is the crate [`policy`].
//!
//! [`host`] makes the hostcalls, [`root`] is a root context, [`plugin`] its configuration, [`tick`] what that does without requests,
//! [`service`] one of its services, [`errors`] what its answers say of it, [`way`] the way to its peer, [`request`] one
//! request, [`arrival`] what it says of itself and which service it is for; [`running`] tells whether a good configuration
//! runs, [`sign`] how a VM says so, [`worker`] which VMs live, [`slot`] the roster of them, [`account`] what they count
//! together, [`notice`] writes the lines about conditions, of which [`misroute`] and [`strangers`] have their own, [`kept`] finds
//! out whether Envoy keeps gauges, [`callback`] what each callback shows of its VM, [`left`] sees to services of configurations
//! before. [`start`] is where Envoy begins; [`trap`] is for tests.

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

mod arrival;
mod health;
mod hostcalls;
mod metrics;
mod misroute;
mod notice;
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
mod way;
