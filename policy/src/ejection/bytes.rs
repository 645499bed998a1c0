//! A record as bytes of shared data. In an upgrade, an earlier module may read and write them.

use super::{Phase, Record};
use crate::time::Instant;

/// The bit of a probe's owner whose request may not be complete. The number of a VM has 31 bits, so this one is free. A module
/// that does not know it takes the probe for another VM's.
const UNSURE: u64 = 1 << 63;

impl Record {
    /// The record as bytes for shared data.
    #[inline(never)]
    pub fn to_bytes(&self) -> [u8; 40] {
        let (kind, number, owner) = match self.phase {
            Phase::Available(since) => (0u32, since.0, 0),
            Phase::Ejected(until) => (1, until.0, 0),
            Phase::Ramp(since) => (3, since.0, 0),
            Phase::Probing {
                owner,
                since,
                begun,
                whole,
            } => {
                let mark = if whole { 0 } else { UNSURE };
                (if begun { 4 } else { 2 }, since.0, owner | mark)
            }
        };
        let [run, gateway] = self.runs;
        let words = [kind, self.ejections, run, gateway].map(u32::to_le_bytes);
        let longs = [self.successes, number, owner].map(u64::to_le_bytes);
        let bytes = words.as_flattened().iter().chain(longs.as_flattened());
        let mut out = [0; 40];
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        out
    }

    /// Reads a record from bytes. If they are not a record, it is that of an available destination without errors.
    #[inline(never)]
    pub fn from_bytes(bytes: &[u8]) -> Record {
        let word = |at: usize| -> Option<u32> {
            let four = bytes.get(at..at.saturating_add(4))?;
            Some(u32::from_le_bytes(four.try_into().ok()?))
        };
        let long = |at: usize| -> Option<u64> {
            let eight = bytes.get(at..at.saturating_add(8))?;
            Some(u64::from_le_bytes(eight.try_into().ok()?))
        };
        let read = || {
            let at = Instant(long(24)?);
            let phase = match word(0)? {
                0 => Phase::Available(at),
                1 => Phase::Ejected(at),
                kind @ (2 | 4) => {
                    let owner = long(32)?;
                    Phase::Probing {
                        owner: owner & !UNSURE,
                        since: at,
                        begun: kind == 4,
                        whole: owner & UNSURE == 0,
                    }
                }
                3 => Phase::Ramp(at),
                _ => return None,
            };
            Some(Record {
                phase,
                ejections: word(4)?,
                runs: [word(8)?, word(12)?],
                successes: long(16)?,
            })
        };
        read().unwrap_or_default()
    }
}
