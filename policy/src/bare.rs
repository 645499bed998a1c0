//! The tests on bare WebAssembly, where nothing can be printed: what their runner, `xtask/src/bare.mjs`, asks of them.

// What it calls has a name of its own in the module.
#![allow(unsafe_code)]

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

static SAID: Mutex<String> = Mutex::new(String::new());
static RAN: AtomicBool = AtomicBool::new(false);

/// Keeps what a panic says. Called before the tests run.
#[unsafe(no_mangle)]
extern "C" fn listen() {
    panic::set_hook(Box::new(|info| {
        if let Ok(mut said) = SAID.lock() {
            *said = info.to_string();
        }
    }));
}

/// Where what a panic said is.
#[unsafe(no_mangle)]
extern "C" fn said() -> *const u8 {
    SAID.lock().map_or(std::ptr::null(), |said| said.as_ptr())
}

/// How many bytes that is.
#[unsafe(no_mangle)]
extern "C" fn said_bytes() -> usize {
    SAID.lock().map_or(0, |said| said.len())
}

/// Whether tests were run at all.
#[unsafe(no_mangle)]
extern "C" fn ran() -> bool {
    RAN.load(Ordering::Relaxed)
}

#[test]
fn tests_run_on_bare_webassembly() {
    RAN.store(true, Ordering::Relaxed);
}
