//! Shared data as Envoy keeps it: of the process, with a number for each write by which a later one knows whether it is
//! the next.

use std::collections::HashMap;

/// The status of a key that is not there.
pub const NOT_FOUND: u32 = 1;
/// The status of a write that came too late.
pub const CAS_MISMATCH: u32 = 8;

/// All shared data of the process.
#[derive(Debug, Default)]
pub struct Shared {
    all: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    last: u32,
}

impl Shared {
    /// The value under a key and its number.
    pub fn get(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.all.get(key).cloned()
    }

    /// The keys whose names end so, in order.
    pub fn keys(&self, end: &str) -> Vec<Vec<u8>> {
        let keys = self.all.keys().filter(|key| key.ends_with(end.as_bytes()));
        let mut keys: Vec<Vec<u8>> = keys.cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Removes what is under a key.
    pub fn remove(&mut self, key: &[u8]) {
        self.all.remove(key);
    }

    /// Writes, if the value is still that of `cas`, or whatever it is where `cas` is 0. The status.
    pub fn set(&mut self, key: &[u8], value: &[u8], cas: u32) -> u32 {
        if cas != 0 && self.all.get(key).is_some_and(|(_, now)| *now != cas) {
            return CAS_MISMATCH;
        }
        self.last += 1;
        self.all.insert(key.to_vec(), (value.to_vec(), self.last));
        0
    }
}
