//! What Envoy calls first.

use std::panic;

use crate::hostcalls::logger;
use crate::root::Root;

proxy_wasm::main! {{
    // Before anything may panic: the standard library's own hook is not in the module (`xtask/src/unused.rs`).
    if cfg!(target_arch = "wasm32") {
        panic::set_hook(Box::new(|info| logger::panicked(&info.to_string())));
    }
    logger::start();
    proxy_wasm::set_root_context(|id| Box::new(Root::new(id)));
}}

/// Smaller than the C library's, which the standard library would bring.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();
