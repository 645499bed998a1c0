//! Numbers that look random, from a seed.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Its state is
//! one number, each seed gives another sequence, and every number appears once in a period of 2^64. It is not for secrets.

/// The increment of the state: 2^64 divided by the golden ratio, made odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Draws(u64);

impl Draws {
    /// The generator of this seed.
    pub const fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// The next number, of which each value is equally likely.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// The next number from 0 to `end`, without `end`. It is 0 if `end` is 0. Each value is equally likely but for a part
    /// of `end` / 2^64 (Lemire, "Fast random integer generation in an interval", 2019, without its correction).
    pub fn below(&mut self, end: u64) -> u64 {
        (u128::from(self.number()).wrapping_mul(u128::from(end)) >> 64) as u64
    }
}

/// A number in which each bit depends on all bits of `n`: the finalizer of SplitMix64 (Stafford's variant 13 of the one of
/// MurmurHash3).
pub const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_published_generator() {
        // The first numbers for the seed 1234567, as in the published test vectors of SplitMix64.
        let mut draws = Draws::new(1_234_567);
        let numbers = [(); 5].map(|()| draws.number());
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(numbers, published);
    }

    #[test]
    fn a_number_below_an_end_is_below_it_and_all_are_drawn() {
        for end in [1, 2, 3, 7, 64] {
            let mut draws = Draws::new(9);
            let mut seen = vec![0u32; end as usize];
            for _ in 0..64 * 64 {
                seen[draws.below(end) as usize] += 1;
            }
            assert!(seen.iter().all(|n| *n > 0), "{end}");
        }
        assert_eq!(Draws::new(1).below(0), 0);
    }
}
