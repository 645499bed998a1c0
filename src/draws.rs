//! Random numbers of this VM.

use core::cell::Cell;

use crate::hostcalls;
use policy::draw::Draws;

thread_local! {
    /// The generator, once a number was needed.
    static DRAWS: Cell<Option<Draws>> = const { Cell::new(None) };
}

/// A random number.
pub fn number() -> u64 {
    DRAWS.with(|cell| {
        let draws = cell.get();
        let mut draws = draws.unwrap_or_else(|| Draws::new(hostcalls::seed()));
        let number = draws.number();
        cell.set(Some(draws));
        number
    })
}
