//! A host for the filter that is not Envoy: it calls the filter in any order that Envoy can, and answers its hostcalls
//! with anything at all.
//!
//! On a native target the hostcalls are undefined C symbols, so this crate defines them ([`abi`]), and calls the filter
//! through what the SDK exports, as Envoy does. A VM is a thread, since all that the SDK and the filter keep is local to
//! a thread; a [case](run::run) is one to three fresh VMs that share metrics and shared data, of which one runs at a
//! time. Who runs is drawn from the case's seed, also in the middle of a callback, at a hostcall: that is where workers
//! race. So a seed repeats a case exactly, races included.
//!
//! A VM may also die between two callbacks, as one that traps does: then the others are to take what it counted off.
//!
//! What is looked for: a panic (here, as in the VM, one ends the process: the callbacks are `extern "C"`), a callback
//! that does not come to an end, and counts that do not return to 0 when all streams are gone ([`check`]),
//! or that are not what was sent to a peer ([`peers`]).
//!
//! A long run wants a release build that still sees arithmetic go wrong:
//! `CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true cargo run --release -p fuzz-host -- --cases 10000000`.

pub mod abi;
pub mod call;
pub mod case;
pub mod check;
pub mod configs;
pub mod fault;
pub mod host;
pub mod metrics;
pub mod outsider;
pub mod peers;
pub mod rng;
pub mod run;
pub mod script;
pub mod shared;
pub mod spill;
pub mod stream;
pub mod values;
pub mod world;

// Linked for what it exports to a host; nothing of it is called by name.
use peer_spillover as _;
