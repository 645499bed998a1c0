//! Which answers of home a worker looks at. To read a status is the dearest thing on the way home.
//!
//! **Invariant: a run of errors is never missed.** As long as all was well for [`CALM`] answers, every n-th is read, n no
//! more than the errors in a row that eject; from the first error on that it sees, a worker reads all. So an ejection may
//! come n - 1 errors late for each worker after a long calm (where answers break off after a good beginning, 4n - 1), and
//! never otherwise.

/// Good answers in a row after which not all are read any more.
pub const CALM: u32 = 1000;
/// The fewest that are read in a calm: one in so many.
pub const SELDOM: u32 = 5;
/// Of those that are read in a calm, one in so many is looked at again at its end, for an upstream that broke it off.
const TO_THE_END: u32 = 4;

/// What a worker reads of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Away,
    /// Its status.
    Status,
    /// Its status, and how it ended.
    ToTheEnd,
}

/// One worker's attention to one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    well: u32,
    turn: u32,
}

impl Sampling {
    /// How to look at the next answer, reading every `every`-th in a calm.
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
        let mut attention = Sampling::default();
        for _ in 0..CALM {
            assert_eq!(attention.next(5), Look::ToTheEnd);
            attention.saw(true);
        }
        attention
    }

    #[test]
    fn a_run_of_errors_is_never_missed() {
        for every in 1..=SELDOM {
            for offset in 0..every {
                let mut attention = calmed();
                for _ in 0..offset {
                    attention.next(every);
                }
                let unseen = (0..).take_while(|_| attention.next(every) == Look::Away);
                assert!(unseen.count() < every as usize);
                attention.saw(false);
                assert_eq!(attention.next(every), Look::ToTheEnd, "all from then on");
            }
        }
    }

    #[test]
    fn in_a_calm_one_in_so_many_is_read_and_some_of_them_to_the_end() {
        let mut attention = calmed();
        let looks: Vec<Look> = (0..100).map(|_| attention.next(5)).collect();
        let of = |look| looks.iter().filter(|l| **l == look).count();
        assert_eq!([of(Look::Status), of(Look::ToTheEnd)], [15, 5]);
    }
}
