//! How often the host refuses, and how often it lies.

use crate::rng::Rng;

/// Hostcalls that fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `proxy_increment_metric`: where it fails, counts cannot balance.
    Count,
    /// The other calls on metrics.
    Metric,
    /// Shared data.
    Shared,
    /// Header maps.
    Header,
    /// Properties.
    Property,
    /// Both clocks.
    Clock,
    /// Everything else.
    Other,
}

const FAMILIES: usize = Family::Other as usize + 1;
/// More refusals than the ABI's statuses.
const STATUSES: [u32; 16] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    999,
    0x8000_0000,
    u32::MAX,
];

/// What goes wrong in a case, of a thousand calls of each family.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    refused: [u32; FAMILIES],
    lies: [u32; FAMILIES],
}

impl Faults {
    /// A case's faults: none, everything but what is counted, each family by itself, or everything.
    pub fn draw(rng: &mut Rng) -> Faults {
        let mut faults = Faults::default();
        let kind = rng.below(20);
        let level = |rng: &mut Rng| rng.pick(&[0, 2, 20, 20, 100, 100, 400, 1000]);
        let (all_refused, all_lies) = (level(rng), level(rng));
        for family in 0..FAMILIES {
            let (refused, lies) = match kind {
                0..=5 => (0, 0),
                6..=10 => (all_refused, all_lies),
                _ => (level(rng), level(rng)),
            };
            faults.refused[family] = refused;
            faults.lies[family] = lies;
        }
        let mut spare = |family: Family| {
            faults.refused[family as usize] = 0;
            faults.lies[family as usize] = 0;
        };
        // In most cases there is something to say about the counts at the end.
        if kind < 15 {
            spare(Family::Count);
            spare(Family::Metric);
        }
        if kind < 12 {
            faults.lies[Family::Shared as usize] = 0;
        }
        if kind < 9 {
            faults.refused[Family::Shared as usize] = 0;
        }
        faults
    }

    /// The status of a call that is refused, if this one is.
    pub fn refusal(&self, rng: &mut Rng, family: Family) -> Option<u32> {
        rng.chance(self.refused[family as usize])
            .then(|| rng.pick(&STATUSES))
    }

    /// Whether a call that is not refused answers something untrue.
    pub fn lies(&self, rng: &mut Rng, family: Family) -> bool {
        rng.chance(self.lies[family as usize])
    }

    /// Whether counts are to balance: metrics do what they say, and shared data, by which VMs know of each other, is true.
    /// It may be refused where the check is `strict`.
    pub fn fair(&self, strict: bool) -> bool {
        let shared = if strict {
            self.lies[Family::Shared as usize] == 0
        } else {
            self.spares(Family::Shared)
        };
        self.spares(Family::Count) && self.spares(Family::Metric) && shared
    }

    /// Whether nothing of a family goes wrong.
    pub fn spares(&self, family: Family) -> bool {
        self.refused[family as usize] == 0 && self.lies[family as usize] == 0
    }
}
