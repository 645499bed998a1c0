//! When a slot that was taken over is free for others.

use super::roster::owner_of;
use super::*;
use crate::names;

const TOTAL: Gauge = 1;
const SHARE: Gauge = 2;

/// The VM 1, which has taken the slot of the VM 2 over, and knows a count.
struct Taker {
    recovery: Recovery,
    roster: Vec<u8>,
    /// Of the count, in the slot of the VM 2.
    share: i64,
    total: i64,
}

impl Taker {
    fn new(share: i64) -> Taker {
        let empty = Roster::new(7);
        let (one, vm, slot) = empty.join(None).expect("there is room");
        let (two, other, its) = one.join(None).expect("there is room");
        let (taken, slots) = two.take(other, vm).expect("it has a slot");
        assert_eq!(slots, [its]);
        let mut recovery = Recovery {
            place: Some(Place { vm, slot }),
            taken: vec![Taken {
                slot: its,
                free: false,
            }],
            took_over: true,
            read_index: true,
            ..Recovery::default()
        };
        let name = names::metric(&[("service", "a")], "in_flight");
        assert!(recovery.begin_count(name, TOTAL));
        Taker {
            recovery,
            roster: taken.to_bytes(),
            share,
            total: share,
        }
    }

    /// Drains what was taken over, as in a tick. Whether its slot is free then.
    fn drains(&mut self) -> bool {
        self.recovery.tasks = vec![Task::Drain(0)];
        let callback = Callback::new();
        let mut fact = Fact::default();
        loop {
            let step = self.recovery.step(&callback, std::mem::take(&mut fact));
            fact.value = Some(0);
            match step {
                Step::Define(_) => fact.value = Some(SHARE.into()),
                Step::Read(SHARE) => fact.value = Some(self.share.cast_unsigned()),
                Step::Add(SHARE, n) => self.share += n,
                Step::Add(TOTAL, n) => self.total += n,
                Step::Recall(_) => fact.bytes.clone_from(&self.roster),
                Step::Write(_, bytes, _) => self.roster = bytes,
                Step::Done => break,
                _ => {}
            }
        }
        let free = self.recovery.taken[0].free;
        let slot = self.recovery.taken[0].slot;
        let roster = Roster::from_bytes(&self.roster).expect("it is one");
        assert_eq!(
            owner_of(roster.owners()[slot]).1,
            free,
            "as the roster says"
        );
        free
    }
}

/// Whoever was in it may not be dead, and what it still counts there would be the next one's.
#[test]
fn a_slot_is_not_free_while_something_comes_into_it() {
    let mut taker = Taker::new(3);
    assert!(!taker.drains());
    assert_eq!((taker.share, taker.total), (0, 0), "it is taken off");
    assert!(taker.drains(), "nothing came any more");
}

/// It may have a share of a count that this VM does not know of.
#[test]
fn a_slot_is_not_free_before_the_index_could_be_read() {
    let mut taker = Taker::new(0);
    taker.recovery.read_index = false;
    assert!(!taker.drains());
    taker.recovery.read_index = true;
    assert!(taker.drains());
}
