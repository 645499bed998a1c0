//! Traps on demand, for tests only (feature `trap`). The shipped module does not contain this.
//!
//! The header `x-trap` of a request names a callback. This VM traps at the next call of that callback, for any request.
//! `other-tick` is the next tick of a VM without requests, which is that of the main thread. `x-stall-ms: N` makes the worker
//! stand still for N milliseconds in the callback of that request. The counter `peer_spillover_ticks` counts the ticks of all
//! root contexts of all VMs.

/// Traps if this callback was named.
#[cfg(feature = "trap")]
pub fn at(callback: &str) {
    armed::at(callback);
}

/// Reads what a request asks for.
#[cfg(feature = "trap")]
pub fn read() {
    armed::read();
}

/// Does nothing.
#[cfg(not(feature = "trap"))]
#[inline(always)]
pub fn at(_callback: &str) {}

/// Does nothing.
#[cfg(not(feature = "trap"))]
#[inline(always)]
pub fn read() {}

#[cfg(feature = "trap")]
mod armed {
    use core::cell::{Cell, RefCell};

    use policy::time::Millis;

    use crate::hostcalls::{self, Kind, Map, Metric};

    const OTHER: &str = "peer_spillover_trap";

    thread_local! {
        static CALLBACK: RefCell<String> = const { RefCell::new(String::new()) };
        static SERVES: Cell<bool> = const { Cell::new(false) };
        static TICKS: Cell<Option<Metric>> = const { Cell::new(None) };
    }

    pub fn read() {
        SERVES.set(true);
        if let Some(callback) = hostcalls::header(Map::Request, "x-trap") {
            hostcalls::remember(OTHER, &callback);
            CALLBACK.set(callback);
        }
        let stall = hostcalls::header(Map::Request, "x-stall-ms")
            .and_then(|millis| millis.parse::<u64>().ok());
        if let Some(millis) = stall {
            let end = hostcalls::monotonic().after(Millis(millis));
            while hostcalls::monotonic() < end {}
        }
    }

    pub fn at(callback: &str) {
        if callback == "tick" {
            TICKS.with(|ticks| {
                if ticks.get().is_none() {
                    ticks.set(hostcalls::metric(Kind::Counter, "peer_spillover_ticks"));
                }
                if let Some(ticks) = ticks.get() {
                    hostcalls::add(ticks, 1);
                }
            });
        }
        let mine = CALLBACK.with_borrow(|named| named == callback);
        let other = callback == "tick"
            && !SERVES.get()
            && hostcalls::recall(OTHER).is_some_and(|named| named == "other-tick");
        if mine || other {
            if other {
                hostcalls::remember(OTHER, "");
            }
            // Like a panic that must never happen: it is logged and traps.
            #[cfg(target_arch = "wasm32")]
            #[allow(clippy::panic)]
            {
                panic!("trapped on demand");
            }
        }
    }
}
