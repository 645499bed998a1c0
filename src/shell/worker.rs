//! Who this VM is among those of the process.

use core::cell::Cell;

use super::host;

/// Attempts to get a number. Each that fails is one in which another VM got one.
const TRIES: u8 = 32;
const NUMBERS: &str = "peer_spillover_vms";

thread_local! {
    static ID: Cell<u32> = const { Cell::new(0) };
}

/// This VM's number, of which no other has the same; 0 where the host gives none.
pub fn id() -> u32 {
    let known = ID.get();
    if known != 0 {
        return known;
    }
    let id = next().unwrap_or(0);
    ID.set(id);
    id
}

/// Makes the first write, which is blind, while the main thread configures.
pub fn prepare() {
    if host::shared(NUMBERS).is_none() {
        host::set_shared(NUMBERS, &0u32.to_le_bytes(), 0);
    }
}

fn next() -> Option<u32> {
    for _ in 0..TRIES {
        let (bytes, cas) = host::shared(NUMBERS)?;
        let last = u32::from_le_bytes(bytes.try_into().ok()?);
        let next = last.checked_add(1)?;
        if host::set_shared(NUMBERS, &next.to_le_bytes(), cas) {
            return Some(next);
        }
    }
    None
}
