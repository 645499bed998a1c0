//! Functions for the runner of the tests on bare WebAssembly, `xtask/src/bare.mjs`. Tests cannot print anything there.

// The functions that the runner calls are exported by their names.
#![allow(unsafe_code)]

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

static SAID: Mutex<String> = Mutex::new(String::new());
static RAN: AtomicBool = AtomicBool::new(false);

/// Keeps the message of a panic. The runner calls it before the tests.
#[unsafe(no_mangle)]
extern "C" fn listen() {
    panic::set_hook(Box::new(|info| {
        if let Ok(mut said) = SAID.lock() {
            *said = info.to_string();
        }
    }));
}

/// The address of the last message of a panic.
#[unsafe(no_mangle)]
extern "C" fn said() -> *const u8 {
    SAID.lock().map_or(std::ptr::null(), |said| said.as_ptr())
}

/// The length of that message, in bytes.
#[unsafe(no_mangle)]
extern "C" fn said_bytes() -> usize {
    SAID.lock().map_or(0, |said| said.len())
}

/// Whether tests have run at all.
#[unsafe(no_mangle)]
extern "C" fn ran() -> bool {
    RAN.load(Ordering::Relaxed)
}

#[test]
fn tests_run_on_bare_webassembly() {
    RAN.store(true, Ordering::Relaxed);
}
