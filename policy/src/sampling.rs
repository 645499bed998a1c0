//! Which answers of a destination a worker reads. Reading the status is the most expensive part of an answer.
//!
//! **Invariant: a run of errors is not missed.** After [`CALM`] good answers, every n-th answer is read, where n is at most the
//! number of errors in a row that eject. From the first error on, a worker reads all answers. So after many good answers, an
//! ejection may come n - 1 errors late for each worker, or 4n - 1 if answers break off after a good beginning. Otherwise it is
//! never late.

/// The number of good answers in a row after which not all are read any more.
pub const CALM: u32 = 1000;
/// The smallest part of the answers that is read: one in this number.
pub const SELDOM: u32 = 5;
/// Of the answers that are read then, one in this number is looked at again at its end, to find an upstream that breaks it off.
const TO_THE_END: u32 = 4;

/// How much of an answer a worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Away,
    /// Its status.
    Status,
    /// Its status, and how it ended.
    ToTheEnd,
}

/// How one worker reads the answers of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    well: u32,
    turn: u32,
}

impl Sampling {
    /// How much of the next answer to read. If not all are read, every `every`-th one is.
    pub fn next(&mut self, every: u32) -> Look {
        if !self.calm() {
            return Look::ToTheEnd;
        }
        self.turn = self.turn.wrapping_add(1);
        let every = every.max(1);
        if every == 1 {
            Look::ToTheEnd
        } else if self.turn.checked_rem(every) != Some(0) {
            Look::Away
        } else if self.turn.checked_rem(every.saturating_mul(TO_THE_END)) == Some(0) {
            Look::ToTheEnd
        } else {
            Look::Status
        }
    }

    /// Whether only some answers are read.
    pub fn calm(&self) -> bool {
        self.well >= CALM
    }

    /// Learns from an answer that was read.
    pub fn saw(&mut self, well: bool) {
        self.well = if well { self.well.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calmed() -> Sampling {
        let mut sampling = Sampling::default();
        for _ in 0..CALM {
            assert_eq!(sampling.next(5), Look::ToTheEnd);
            sampling.saw(true);
        }
        sampling
    }

    #[test]
    fn a_run_of_errors_is_never_missed() {
        for every in 1..=SELDOM {
            for offset in 0..every {
                let mut sampling = calmed();
                for _ in 0..offset {
                    sampling.next(every);
                }
                let unseen = (0..).take_while(|_| sampling.next(every) == Look::Away);
                assert!(unseen.count() < every as usize);
                sampling.saw(false);
                assert_eq!(sampling.next(every), Look::ToTheEnd, "all from then on");
            }
        }
    }

    #[test]
    fn in_a_calm_one_in_so_many_is_read_and_some_of_them_to_the_end() {
        let mut sampling = calmed();
        let looks: Vec<Look> = (0..100).map(|_| sampling.next(5)).collect();
        let of = |look| looks.iter().filter(|l| **l == look).count();
        assert_eq!([of(Look::Status), of(Look::ToTheEnd)], [15, 5]);
    }
}
