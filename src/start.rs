//! The functions that Envoy calls first.

use std::panic;

use crate::hostcalls::logger;
use crate::root::Root;

proxy_wasm::main! {{
    // This comes before anything that may panic: the panic hook of the standard library is not in the module
    // (`xtask/src/unused.rs`).
    if cfg!(target_arch = "wasm32") {
        panic::set_hook(Box::new(|info| logger::panicked(&info.to_string())));
    }
    logger::start();
    proxy_wasm::set_root_context(|id| Box::new(Root::new(id)));
}}

/// The allocator. It is smaller than that of the C library, which the standard library would add.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();
