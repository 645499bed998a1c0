//! The tasks of [`Recovery`], and which of its methods carries out each of them.

use super::callback::Callback;
use super::mark::{self, Gauge, INSIDE};
use super::place::Want;
use super::roster::{Roster, Vm};
use super::{Fact, News, ROSTER, Recovery, Step};
use crate::time::Instant;

/// The value that is added to a gauge and subtracted again, to see whether Envoy keeps the gauge. A count is in the lower 32
/// bits, so this is never taken for requests.
const TEST: i64 = 1 << 32;

/// One thing to do. A task whose name is a participle takes the result of the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    // The beginning and the end of a callback, and what the others see of it.
    Leave,
    Left(Gauge),
    Enter,
    EnterOnBeat,
    Entered,
    /// Take the marks off the beat of this VM's slot. They are from a VM that died, or that was wrongly declared dead.
    Clear,
    Cleared(Gauge),
    Beat,

    // Gauges. The current gauge is `Recovery::gauge`.
    /// Make the beat of a slot the current gauge.
    BeatOf(usize),
    BeatDefined(usize),
    /// Make the share of a count in a slot the current gauge.
    ShareOf(usize, usize),
    ShareDefined(usize, usize),
    /// Test whether Envoy keeps the current gauge. If it does not, there is no current gauge any more.
    Test,
    Tested(Gauge),
    TestAgain(Gauge),
    TestedAgain(Gauge),

    // Shared data, and this VM's place in it: `place.rs`.
    Change(Want),
    Answered(Want),
    Written(Want),
    DefineChanges,
    ChangesDefined,
    /// Count the change of the roster in its gauge.
    CountChange,
    Settle,
    /// The VM has a slot, and its beat is the current gauge.
    Settled,
    CheckPlace,
    /// Read the roster, or take the one that was read before if it has not changed.
    ReadRoster,
    ChangesRead,
    RosterRead,
    /// Take another slot if this VM's slot was taken over.
    KeepPlace,
    TellCountedAgain,

    // The counts: `counts.rs`.
    /// Put all counts into the index, beginning with this one.
    List(usize),
    /// Open the counts of the index that this VM does not have.
    ReadIndex,
    IndexRead,
    /// Open the counts of the index, beginning with this one.
    Open(usize),
    TotalDefined(usize),
    /// Give to each count, beginning with this one, its share in this VM's slot.
    GiveAll(usize),
    Give(usize),
    /// Go on with the current gauge as this count's share.
    GoOn(usize),
    Unshared(usize),
    /// Change the current share to what this VM has counted, or to 0 if it is not this VM's own.
    Drive(usize, bool),
    Read(usize, bool),
    /// The share was changed. Change the total by the same amount.
    Moved(usize),
    /// Reduce the shares in this slot to 0, beginning with this count.
    Empty(usize, usize),
    /// Check some shares that nothing is known to have changed. The number says how many were checked.
    Mend(usize),
    Close(usize),

    // The tick, and what it sees of the other VMs: `others.rs`.
    Tick,
    ReadClock,
    Timed,
    Round,
    /// Look at the VMs in the slots, beginning with this one.
    Observe(usize),
    /// Look at the beats of a VM, beginning with this one of its slots.
    Look(usize),
    /// Read the current gauge. If there is none, the result is `None`.
    See,
    SeenBeat,
    SeenShare,
    /// A share in the free slot with this index in `taken` was read.
    SeenFree(usize),
    /// Look whether any share of a VM has a mark, beginning with this count and this one of the VM's slots.
    LookInside(usize, usize),
    Judge,
    TellDead,
    TellAllJoined,
    TellJoined(Vm),
    RosterReread,
    /// Read the index if this VM has slots that were other VMs' before.
    KnowIndex,
    /// Reduce the shares in the slots that were taken over to 0, beginning with this slot.
    Drain(usize),
    Drained(usize),
}

impl Recovery {
    /// Carries out a task up to its hostcall, if it has one.
    pub(super) fn carry_out(
        &mut self,
        task: Task,
        callback: &Callback,
        fact: &mut Fact,
    ) -> Option<Step> {
        let value = fact.value;
        match task {
            Task::Leave => {
                let (gauge, n) = callback.leave()?;
                self.then(&[Task::Left(gauge)]);
                return Some(Step::Add(gauge, n));
            }
            Task::Left(gauge) => callback.left(gauge, value.is_some()),
            Task::Enter | Task::EnterOnBeat => {
                let add = match task {
                    Task::Enter => callback.enter(),
                    _ => callback.enter_on_beat(),
                };
                let (gauge, n) = add?;
                self.then(&[Task::Entered]);
                return Some(Step::Add(gauge, n));
            }
            Task::Entered => callback.entered(value.is_some()),
            Task::Clear => {
                let beat = callback.beat()?;
                self.then(&[Task::Cleared(beat)]);
                return Some(Step::Read(beat));
            }
            Task::Cleared(beat) => {
                let left = value.map_or(0, mark::marks);
                let off = left.saturating_mul(INSIDE).saturating_neg();
                return (left != 0).then_some(Step::Add(beat, off));
            }
            Task::Beat => {
                callback.beats();
                return callback.beat().map(|beat| Step::Add(beat, 1));
            }

            Task::BeatOf(slot) => return self.have_gauge(None, slot),
            Task::BeatDefined(slot) => self.gauge_defined(None, slot, value),
            Task::ShareOf(count, slot) => return self.have_gauge(Some(count), slot),
            Task::ShareDefined(count, slot) => self.gauge_defined(Some(count), slot, value),
            Task::Test => {
                let gauge = self.gauge?;
                self.then(&[Task::Tested(gauge)]);
                return Some(Step::Read(gauge));
            }
            Task::Tested(gauge) => {
                if value.is_none_or(|value| value == 0) {
                    self.then(&[Task::TestAgain(gauge)]);
                    return Some(Step::Add(gauge, TEST));
                }
            }
            Task::TestAgain(gauge) => {
                self.then(&[Task::TestedAgain(gauge)]);
                return Some(Step::Read(gauge));
            }
            Task::TestedAgain(gauge) => {
                self.gauge = value.filter(|value| *value != 0).map(|_| gauge);
                return Some(Step::Add(gauge, TEST.saturating_neg()));
            }

            Task::Change(want) => return Some(self.change(want)),
            Task::Answered(want) => return self.answered(want, fact),
            Task::Written(want) => return self.written(want, value.is_some()),
            Task::DefineChanges => return self.define_changes(),
            Task::ChangesDefined => self.changes = value.map(|id| id as Gauge),
            Task::CountChange => return self.changes.map(|changes| Step::Add(changes, 1)),
            Task::Settle => {
                if self.place.is_none() {
                    self.then(&[Task::Change(Want::Join)]);
                }
            }
            Task::Settled => callback.settled(self.gauge),
            Task::CheckPlace => {
                if self.place.is_some() {
                    self.then(&[Task::DefineChanges, Task::ReadRoster, Task::KeepPlace]);
                }
            }
            Task::ReadRoster => {
                self.roster = None;
                return Some(self.read_roster());
            }
            Task::ChangesRead => return self.changes_read(value),
            Task::RosterRead => self.roster_read(fact),
            Task::KeepPlace => self.keep_place(),
            Task::TellCountedAgain => return self.counted_again(),

            Task::List(count) => self.list(count),
            Task::ReadIndex => {
                self.then(&[Task::IndexRead]);
                return Some(Step::Recall(super::INDEX));
            }
            Task::IndexRead => self.index_read(fact),
            Task::Open(n) => return self.open_next(n),
            Task::TotalDefined(n) => self.total_defined(n, value),
            Task::GiveAll(count) => {
                if count < self.counts.len() {
                    self.then(&[Task::Give(count), Task::GiveAll(count.saturating_add(1))]);
                }
            }
            Task::Give(count) => {
                let slot = self.place?.slot;
                let gauge = Task::ShareOf(count, slot);
                self.then(&[gauge, Task::Test, Task::GoOn(count)]);
            }
            Task::GoOn(count) => return self.go_on(count),
            Task::Unshared(count) => {
                if value.is_some() {
                    self.counts.get(count)?.count.is_shared();
                }
            }
            Task::Drive(count, own) => {
                let gauge = self.gauge?;
                self.then(&[Task::Read(count, own)]);
                return Some(Step::Read(gauge));
            }
            Task::Read(count, own) => return self.drive(count, own, value?),
            Task::Moved(count) => {
                let by = self.moves;
                let total = self.counts.get(count)?.count.total();
                if value.is_some() && by != 0 {
                    self.moved = self.moved.saturating_add(by);
                    return Some(Step::Add(total, by));
                }
            }
            Task::Empty(slot, count) => {
                if count < self.counts.len() {
                    let gauge = Task::ShareOf(count, slot);
                    let next = Task::Empty(slot, count.saturating_add(1));
                    self.then(&[gauge, Task::Drive(count, false), next]);
                }
            }
            Task::Mend(n) => self.mend(n),
            Task::Close(count) => self.close(count),

            Task::Tick => {
                let beat = callback.beat()?;
                callback.beats();
                self.then(&[Task::ReadClock]);
                return Some(Step::Add(beat, 1));
            }
            Task::ReadClock => {
                let roster = [Task::DefineChanges, Task::ReadRoster, Task::Round];
                self.then(&roster);
                self.then(&[Task::Timed]);
                return Some(Step::Clock);
            }
            Task::Timed => self.timed(Instant(value.unwrap_or(0))),
            Task::Round => self.round(),
            Task::Observe(slot) => self.observe(slot),
            Task::Look(n) => self.look(n),
            Task::See => {
                fact.value = None;
                return self.gauge.map(Step::Read);
            }
            Task::SeenBeat => self.seen_beat(value),
            Task::SeenShare => self.seen_share(value),
            Task::SeenFree(n) => {
                if mark::low(value?) != 0 {
                    self.then(&[Task::Change(Want::Keep(n))]);
                }
            }
            Task::LookInside(count, n) => self.look_inside(count, n),
            Task::Judge => self.judge(),
            Task::TellDead => return self.tell_dead(),
            Task::TellAllJoined => {
                self.then(&[Task::RosterReread]);
                return Some(Step::Recall(ROSTER));
            }
            Task::RosterReread => {
                let joined = Roster::from_bytes(&fact.bytes)?.joined();
                return Some(Step::Tell(News::Joined(joined)));
            }
            Task::TellJoined(vm) => return Some(Step::Tell(News::Joined(vm))),
            Task::KnowIndex => {
                if self.took_over && !self.read_index {
                    self.then(&[Task::ReadIndex]);
                }
            }
            Task::Drain(n) => self.drain(n),
            Task::Drained(n) => self.drained(n),
        }
        None
    }
}
