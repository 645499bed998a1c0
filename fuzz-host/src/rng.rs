//! Numbers that a seed determines, the same on every machine: `SplitMix64`.

/// The source of all that a case draws.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Of this seed. Neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed);
        Rng(rng.bits())
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.bits()) * n as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// True `n` times of a thousand.
    pub fn chance(&mut self, n: u32) -> bool {
        n > 0 && self.below(1000) < n as usize
    }

    /// One of `all`, which is not empty.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }
}
