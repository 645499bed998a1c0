//! The tasks of [`Recovery`], and which of its methods carries each out.

use super::callback::Callback;
use super::mark::{self, Gauge, INSIDE};
use super::place::Want;
use super::roster::{Roster, Vm};
use super::{Fact, News, ROSTER, Recovery, Step};
use crate::time::Instant;

/// Added to a gauge and taken off again, to see whether Envoy keeps it. A count is the lower 32 bits, so nobody ever takes the
/// test for load.
const TEST: i64 = 1 << 32;

/// One thing to do. Those whose name is a participle take the fact of the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    // The callback, and what this VM shows of it.
    Leave,
    Left(Gauge),
    Enter,
    EnterOnBeat,
    Entered,
    /// Take off the marks that a VM has left on the beat of this one's slot: a dead one, or one that was wrongly declared dead.
    Clear,
    Cleared(Gauge),
    Beat,

    // Gauges, one of which is at hand.
    /// Have at hand the beat of a slot.
    BeatOf(usize),
    BeatDefined(usize),
    /// Have at hand the share of a count in a slot.
    ShareOf(usize, usize),
    ShareDefined(usize, usize),
    /// See whether Envoy keeps the gauge at hand; if it does not, none is at hand any more.
    Test,
    Tested(Gauge),
    TestAgain(Gauge),
    TestedAgain(Gauge),

    // What is shared, and this VM's place in it: `place.rs`.
    Change(Want),
    Answered(Want),
    Written(Want),
    DefineChanges,
    ChangesDefined,
    /// Say that the roster was changed.
    CountChange,
    Settle,
    /// The VM has a slot, whose beat is at hand.
    Settled,
    CheckPlace,
    /// Know the roster.
    ReadRoster,
    ChangesRead,
    RosterRead,
    /// Find another slot if a VM has taken this one's over.
    KeepPlace,
    TellCountedAgain,

    // The counts: `counts.rs`.
    /// List all counts from this one on.
    List(usize),
    /// Open what the index has and this VM has not.
    ReadIndex,
    IndexRead,
    /// Open the names of the index from this one on.
    Open(usize),
    TotalDefined(usize),
    /// Give all counts from this one on their shares in this VM's slot.
    GiveAll(usize),
    Give(usize),
    /// Go on with the share at hand.
    GoOn(usize),
    Unshared(usize),
    /// Move the share at hand to what this VM holds, or to 0 if it is not its own.
    Drive(usize, bool),
    Read(usize, bool),
    /// The share was moved, and the total is to move as far as it counts.
    Moved(usize),
    /// Drive the shares of all counts from this one on, in this slot, to 0.
    Empty(usize, usize),
    /// Look at some shares of those to which nothing is known to have happened; so many were.
    Mend(usize),
    Close(usize),

    // The tick, and what it sees of the others: `others.rs`.
    Tick,
    ReadClock,
    Timed,
    Round,
    /// Look at the VMs in the slots from this one on.
    Observe(usize),
    /// Look at the beats of a VM from this of its slots on.
    Look(usize),
    /// Read the gauge at hand; nothing is seen if there is none.
    See,
    SeenBeat,
    SeenShare,
    /// A share in this of the slots that were taken over, which is free for others.
    SeenFree(usize),
    /// See whether any share of a VM has a mark, from this count, and this of its slots, on.
    LookInside(usize, usize),
    Judge,
    TellDead,
    TellAllJoined,
    TellJoined(Vm),
    RosterReread,
    /// Know what is in the slots that this VM has, if they were others' before.
    KnowIndex,
    /// Drive what comes late into the slots that were taken over to 0, from this of them on.
    Drain(usize),
    Drained(usize),
}

impl Recovery {
    /// Carries out a task as far as its hostcall, if it has one.
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
