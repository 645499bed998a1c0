//! The Proxy-Wasm filter: the only room that knows Envoy.
//!
//! [`host`] makes the hostcalls, [`root`] is a root context, [`plugin`] its configuration, [`tick`] what that does without requests,
//! [`service`] one of its services, [`errors`] what its answers say of it, [`way`] the way to its peer, [`request`] one
//! request, [`arrival`] what it says of itself and which service it is for; [`running`] tells whether a good configuration
//! runs, [`sign`] how a VM says so, [`worker`] which VMs live, [`slot`] the roster of them, [`account`] what they count
//! together, [`notice`] writes the lines about conditions, of which [`misroute`] and [`strangers`] have their own, [`kept`] finds
//! out whether Envoy keeps gauges, [`callback`] what each callback shows of its VM, [`left`] sees to services of configurations
//! before. [`trap`] is for tests.

mod account;
mod arrival;
mod callback;
mod errors;
mod host;
mod kept;
mod left;
mod misroute;
mod notice;
mod plugin;
mod request;
mod root;
mod running;
mod service;
mod sign;
mod slot;
mod strangers;
mod tick;
mod trap;
mod way;
mod worker;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}
