//! How the VMs of one process repair a count when one of them dies: which of them live ([`roster`], [`mark`]), and what each
//! has counted ([`index`]).
//!
//! [`Recovery`] is all that a VM does for it, as a machine of single steps like [`crate::Admit`]: [`Recovery::begin`] begins an
//! [`Op`], then [`Recovery::step`] says which hostcall comes next, and is told what came of it, until there is none. The filter
//! carries the steps out; a test carries out those of several VMs in any order. The machine keeps what is still to be done as a
//! stack of tasks (`task.rs`): one that needs a hostcall leaves on top of it the task that takes what came of the call.
//!
//! What is on the way of every request is in machines of its own: [`callback`] and [`shared_count`].

mod counts;
mod others;
mod place;
mod task;

pub mod callback;
pub mod index;
pub mod mark;
pub mod roster;
pub mod shared_count;

use std::rc::Rc;

use crate::notice::deaths::Beaten;
use crate::time::Instant;
use callback::Callback;
use index::Index;
use mark::Gauge;
use others::Look;
#[cfg(test)]
use place::Want;
use roster::{Liveness, Roster, Vm};
use shared_count::SharedCount;
use task::Task;

/// The roster, under one key for all plugins of the process: a VM may run several. The number is the version of the roster and of
/// the shares: modules of two versions in one process, as in an upgrade, each repair what their own VMs counted.
pub const ROSTER: &str = "peer_spillover_roster.2";
/// The index of all counts that any VM of the process has opened.
pub const INDEX: &str = "peer_spillover_accounts";
/// Ticks between two looks for what nothing else would show, marks on the beat that are not this VM's and names in the index:
/// five seconds.
const CLEAR_AFTER: u32 = 25;

/// What a VM has to do for the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A tick begins: the VM shows that it is inside.
    TickBegins,
    /// A tick of the root context of this number.
    Tick(u32),
    /// A callback begins, the last of many since the last beat: the VM beats, sees whether it was declared dead, and shows that
    /// it is inside.
    Work,
    /// A total lacks what this VM has in it: it sees whether it was declared dead, and goes on with the callback.
    CheckPlace,
    /// It takes a slot if it has none.
    Settle,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Define the gauge of this name. The value of the fact is its number.
    Define(String),
    /// Read this gauge. The value of the fact is the gauge's.
    Read(Gauge),
    /// Add to this gauge. The fact has any value.
    Add(Gauge, i64),
    /// Read the shared data under this key. The bytes of the fact are what is there, and its value is the number of their write.
    Recall(&'static str),
    /// Write these bytes under this key if those there have this number still, or if there are none. The fact has any value.
    Write(&'static str, Vec<u8>, Option<u32>),
    /// Read the clock that only goes forward. The value of the fact is its milliseconds.
    Clock,
    /// Tell this to whoever reads the log. The fact is not looked at.
    Tell(News),
    /// Finished.
    Done,
}

/// What came of a step.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// `None` if the host refused.
    pub value: Option<u64>,
    /// Bytes that were read.
    pub bytes: Vec<u8>,
}

/// What the log may have a line about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// So many VMs have come.
    Joined(Vm),
    /// A VM is dead.
    Died {
        /// What it had in the counts.
        count: i64,
        /// How many VMs had come before it died.
        before: Vm,
    },
    /// This VM was declared dead and was not: it counts again what it holds.
    CountedAgain,
}

/// A VM in the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    vm: Vm,
    slot: usize,
}

/// A count that this VM has opened.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
struct Count {
    /// Of the total.
    name: String,
    count: Rc<SharedCount>,
    /// Its shares, by slot. Envoy keeps what was defined for as long as the VM lives, each time anew.
    shares: Vec<(usize, Gauge)>,
}

/// A slot of a dead VM that this one has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taken {
    slot: usize,
    /// Its shares were seen at 0: a new VM may have it.
    free: bool,
}

/// All that a VM does, and knows, for the recovery.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Recovery {
    tasks: Vec<Task>,
    /// The process, once a roster was read.
    process: u32,
    place: Option<Place>,
    counts: Vec<Count>,
    /// What is known of the index.
    index: Index,
    /// Whether a count could not be put there.
    unlisted: bool,
    /// Whether a slot of this VM was another's before, in which any count of the index may have a share.
    took_over: bool,
    /// Names that the index had when all of them were opened.
    opened: usize,
    /// Whether the index was read since the roster changed.
    read_index: bool,
    taken: Vec<Taken>,
    watch: Liveness,
    /// The beats of all slots that were looked at, by slot.
    beats: Vec<(usize, Gauge)>,
    /// The gauge that counts the changes of the roster.
    changes: Option<Gauge>,
    /// The roster, after so many changes.
    cache: Option<(u64, Rc<Roster>)>,
    /// The root context whose ticks are this VM's.
    driver: Option<u32>,
    /// Root contexts of this VM.
    roots: usize,
    ticks: u32,
    /// When the last tick was.
    ticked: Instant,
    /// The count and the taken slot, or one more for this VM's own, whose share was looked at last without a reason.
    turn: (usize, usize),
    /// How many VMs had come before the others beat last.
    beaten: Beaten,

    // What the tasks hand on to each other.
    /// The gauge that the next task is about.
    gauge: Option<Gauge>,
    /// Attempts to change what is shared.
    tries: u8,
    /// The roster that this tick goes by.
    roster: Option<Rc<Roster>>,
    /// How many changes that roster has, if Envoy counts them.
    version: Option<u64>,
    /// The place that this VM has once the roster is written, and whether another had the slot before.
    joins: Option<(Place, bool)>,
    /// This tick came in time.
    in_time: bool,
    /// By how much a total is to move.
    moves: i64,
    /// By how much totals moved.
    moved: i64,
    look: Look,
    /// Slots that were just taken over.
    took: Vec<usize>,
}

/// The first roster of a process that begins now, in nanoseconds.
pub fn first_roster(nanos: u64) -> Vec<u8> {
    // In units of 17 ms, in which no process of a hot restart begins after another: it takes longer to compile the module.
    Roster::new((nanos >> 24) as u32).to_bytes()
}

/// The first index of a process.
pub fn first_index() -> Vec<u8> {
    index::with(b"", "")
}

impl Recovery {
    /// A root context of this VM begins.
    pub fn root_begins(&mut self) {
        self.roots = self.roots.saturating_add(1);
    }

    /// The root context `root` stops its ticks: another one's are this VM's from now on.
    pub fn root_rests(&mut self, root: u32) {
        self.driver.take_if(|driver| *driver == root);
    }

    /// The root context `root` ended. Whether the VM has any other: without one it is as good as dead.
    pub fn root_ends(&mut self, root: u32) -> bool {
        self.root_rests(root);
        self.roots = self.roots.saturating_sub(1);
        self.roots > 0
    }

    /// This VM's number in the roster; 0 if it has none.
    pub fn vm(&self) -> Vm {
        self.place.map_or(0, |place| place.vm)
    }

    /// Whether a VM has found that one dead, as the roster says that was read last.
    pub fn is_declared_dead(&self, vm: Vm) -> bool {
        matches!(&self.cache, Some((_, roster)) if roster.lost(vm))
    }

    /// The count of this name, if it is open.
    pub fn count(&self, name: &str) -> Option<Rc<SharedCount>> {
        let count = self.counts.iter().find(|count| count.name == name)?;
        Some(Rc::clone(&count.count))
    }

    /// Begins this.
    pub fn begin(&mut self, op: Op) {
        self.tasks.clear();
        match op {
            Op::TickBegins => {
                self.ticks = self.ticks.wrapping_add(1);
                let clear = self.ticks.is_multiple_of(CLEAR_AFTER);
                self.then(&[Task::Leave, Task::EnterOnBeat]);
                if clear {
                    // One that was wrongly declared dead, and died before it noticed, may have opened a count in its slot.
                    self.read_index = false;
                    self.then(&[Task::Leave, Task::Clear]);
                }
            }
            Op::Tick(root) => {
                if *self.driver.get_or_insert(root) == root {
                    self.then(&[Task::Settle, Task::Tick]);
                }
            }
            Op::Work => {
                self.then(&[Task::Leave, Task::Beat, Task::CheckPlace, Task::Enter]);
            }
            Op::CheckPlace => self.then(&[Task::Leave, Task::CheckPlace, Task::Enter]),
            Op::Settle => self.then(&[Task::Settle]),
        }
    }

    /// Begins to open the count of this name, whose total is this gauge. False if VMs have no shares of such a count.
    pub fn begin_count(&mut self, name: String, total: Gauge) -> bool {
        self.tasks.clear();
        self.open(name, total)
    }

    /// The next step. `fact` is what came of the last one, and is not looked at by the first.
    pub fn step(&mut self, callback: &Callback, mut fact: Fact) -> Step {
        while let Some(task) = self.tasks.pop() {
            if let Some(step) = self.carry_out(task, callback, &mut fact) {
                return step;
            }
        }
        Step::Done
    }

    /// These tasks come next, in this order.
    #[inline(never)]
    fn then(&mut self, tasks: &[Task]) {
        self.tasks.extend(tasks.iter().rev());
    }
}

#[cfg(test)]
impl Clone for Count {
    /// A copy that shares nothing with this one.
    fn clone(&self) -> Count {
        Count {
            name: self.name.clone(),
            count: Rc::new((*self.count).clone()),
            shares: self.shares.clone(),
        }
    }
}

#[cfg(test)]
impl Recovery {
    /// One that finds others dead by this.
    pub(crate) fn of(watch: Liveness) -> Recovery {
        Recovery {
            watch,
            ..Recovery::default()
        }
    }

    /// The slot that this VM has.
    pub(crate) fn slot(&self) -> Option<usize> {
        self.place.map(|place| place.slot)
    }

    /// The VM that is about to be declared dead.
    pub(crate) fn declares_dead(&self) -> Option<Vm> {
        match self.tasks.last() {
            Some(Task::Answered(Want::Take(owner))) if *owner == self.look.owner => Some(*owner),
            _ => None,
        }
    }
}
