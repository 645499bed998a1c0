//! How the VMs of one process repair a count after one of them has died: which of them are alive ([`roster`], [`mark`]), and
//! what each of them has counted ([`index`]).
//!
//! [`Recovery`] is everything that a VM does for this, as a machine of single steps like [`crate::Admit`]. [`Recovery::begin`]
//! starts an [`Op`]. Then [`Recovery::step`] returns the next hostcall and gets the result of the one before, until it returns
//! [`Step::Done`]. The filter carries the steps out. A test carries out the steps of several VMs in any order. The machine
//! keeps its remaining work on a stack of tasks (`task.rs`). A task that needs a hostcall pushes the task that takes the
//! result.
//!
//! What every request does is in small machines of their own: [`callback`] and [`shared_count`].

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

pub use crate::names::keys::{INDEX, ROSTER};
use crate::notice::deaths::Beaten;
use crate::time::Instant;
use callback::Callback;
use index::Index;
use mark::Gauge;
use others::Look;
use roster::{Liveness, Roster, Vm};
use shared_count::SharedCount;
use task::Task;

/// The number of ticks, five seconds, between two checks for what is not noticed otherwise: wrong marks on this VM's beat, and
/// new names in the index.
const CLEAR_AFTER: u32 = 25;

/// Something that a VM has to do for the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A tick begins. The VM marks that it is inside.
    TickBegins,
    /// A tick of the root context with this number.
    Tick(u32),
    /// A callback begins after many others without a beat. The VM beats, checks whether it was declared dead, and marks that it
    /// is inside.
    Work,
    /// A total is less than what this VM has in it. The VM checks whether it was declared dead, and goes on with the callback.
    CheckPlace,
    /// The VM takes a slot if it has none.
    Settle,
}

/// The next hostcall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Define the gauge with this name. The value of the fact is the gauge's number.
    Define(String),
    /// Read this gauge. The value of the fact is the value of the gauge.
    Read(Gauge),
    /// Add to this gauge. The fact has any value if that was done.
    Add(Gauge, i64),
    /// Read the shared data under this key. The fact has its bytes, and as the value the number of their last write.
    Recall(&'static str),
    /// Write these bytes under this key, if the data there still has this number, or if there is none. The fact has any value
    /// if that was done.
    Write(&'static str, Vec<u8>, Option<u32>),
    /// Read the monotonic clock. The value of the fact is in milliseconds.
    Clock,
    /// Write a line about this to the log. The fact is not used.
    Tell(News),
    /// The operation is finished.
    Done,
}

/// The result of a step.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// `None` if the host refused.
    pub value: Option<u64>,
    /// The bytes that were read.
    pub bytes: Vec<u8>,
}

/// An event that the log may have a line about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// This many VMs have joined.
    Joined(Vm),
    /// A VM is dead.
    Died {
        /// The number of requests that it had in the counts.
        count: i64,
        /// The number of VMs that had joined before it died.
        before: Vm,
    },
    /// This VM was wrongly declared dead, and counts again what it has in flight.
    CountedAgain,
}

/// This VM's place in the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    vm: Vm,
    slot: usize,
}

/// A count that this VM has opened.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
struct Count {
    /// The name of the total.
    name: String,
    count: Rc<SharedCount>,
    /// Its shares, by slot. Envoy keeps each definition of a metric as long as the VM lives, so a share is defined once.
    shares: Vec<(usize, Gauge)>,
}

/// A slot of a dead VM that this VM has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taken {
    slot: usize,
    /// All its shares were 0, so a new VM may have it.
    free: bool,
}

/// Everything that a VM does and knows for the recovery.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Recovery {
    tasks: Vec<Task>,
    /// The number of the process, once the roster was read.
    process: u32,
    place: Option<Place>,
    counts: Vec<Count>,
    /// The part of the index that was read.
    index: Index,
    /// Whether a count could not be put into the index.
    unlisted: bool,
    /// Whether a slot of this VM was another VM's before. Then any count of the index may have a share in it.
    took_over: bool,
    /// The number of names in the index when all of them were opened.
    opened: usize,
    /// Whether the index was read since the roster changed.
    read_index: bool,
    taken: Vec<Taken>,
    watch: Liveness,
    /// The beats of all slots that were looked at, by slot.
    beats: Vec<(usize, Gauge)>,
    /// The gauge that counts the changes of the roster.
    changes: Option<Gauge>,
    /// The roster that was read last, and the number of its changes.
    cache: Option<(u64, Rc<Roster>)>,
    /// The root context whose ticks this VM uses.
    driver: Option<u32>,
    /// The number of root contexts of this VM.
    roots: usize,
    ticks: u32,
    /// The moment of the last tick.
    ticked: Instant,
    /// The count and the slot whose share [`Task::Mend`] checked last. The slot is an index of `taken`, or the next number for
    /// this VM's own.
    turn: (usize, usize),
    /// The number of VMs that had joined before each other VM beat last.
    beaten: Beaten,

    // What one task hands on to the next.
    /// The current gauge: the one that the next task uses.
    gauge: Option<Gauge>,
    /// The remaining attempts to change shared data.
    tries: u8,
    /// The roster that this tick uses.
    roster: Option<Rc<Roster>>,
    /// The number of changes of that roster, if Envoy counts them.
    version: Option<u64>,
    /// The place that this VM gets by the write of the roster, and whether another VM had the slot before.
    joins: Option<(Place, bool)>,
    /// Whether this tick came in time.
    in_time: bool,
    /// The amount by which a total has to change.
    moves: i64,
    /// The sum of the changes of totals.
    moved: i64,
    look: Look,
    /// The slots that were just taken over.
    took: Vec<usize>,
}

/// The first roster of a process that begins at this time, in nanoseconds.
pub fn first_roster(nanos: u64) -> Vec<u8> {
    // The unit is 17 ms. No two processes of a hot restart begin within one, since compiling the module takes longer.
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

    /// The root context `root` stops its ticks. From now on this VM uses those of another one.
    pub fn root_rests(&mut self, root: u32) {
        self.driver.take_if(|driver| *driver == root);
    }

    /// The root context `root` ended. Returns whether the VM has any other. A VM without one never runs again.
    pub fn root_ends(&mut self, root: u32) -> bool {
        self.root_rests(root);
        self.roots = self.roots.saturating_sub(1);
        self.roots > 0
    }

    /// This VM's number in the roster. It is 0 if the VM has none.
    pub fn vm(&self) -> Vm {
        self.place.map_or(0, |place| place.vm)
    }

    /// Whether `vm` was declared dead, as the roster says that was read last.
    pub fn is_declared_dead(&self, vm: Vm) -> bool {
        matches!(&self.cache, Some((_, roster)) if roster.lost(vm))
    }

    /// The count with this name, if it is open.
    pub fn count(&self, name: &str) -> Option<Rc<SharedCount>> {
        let count = self.counts.iter().find(|count| count.name == name)?;
        Some(Rc::clone(&count.count))
    }

    /// Starts an operation.
    pub fn begin(&mut self, op: Op) {
        self.tasks.clear();
        match op {
            Op::TickBegins => {
                self.ticks = self.ticks.wrapping_add(1);
                let clear = self.ticks.is_multiple_of(CLEAR_AFTER);
                self.then(&[Task::Leave, Task::EnterOnBeat]);
                if clear {
                    // A VM that was wrongly declared dead may have opened a count in its slot, and died before it noticed.
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

    /// Starts to open the count with this name and this gauge as its total. Returns false if a count of this name has no
    /// shares.
    pub fn begin_count(&mut self, name: String, total: Gauge) -> bool {
        self.tasks.clear();
        self.open(name, total)
    }

    /// The next step. `fact` is the result of the step before. The first step does not use it.
    pub fn step(&mut self, callback: &Callback, mut fact: Fact) -> Step {
        while let Some(task) = self.tasks.pop() {
            if let Some(step) = self.carry_out(task, callback, &mut fact) {
                return step;
            }
        }
        Step::Done
    }

    /// Pushes these tasks, the first one on top.
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

#[cfg(all(test, not(target_arch = "wasm32")))]
impl Recovery {
    /// A recovery that declares others dead by this.
    pub(crate) fn of(watch: Liveness) -> Recovery {
        Recovery {
            watch,
            ..Recovery::default()
        }
    }

    /// The slot of this VM.
    pub(crate) fn slot(&self) -> Option<usize> {
        self.place.map(|place| place.slot)
    }

    /// The VM that is about to be declared dead.
    pub(crate) fn declares_dead(&self) -> Option<Vm> {
        match self.tasks.last() {
            Some(Task::Answered(place::Want::Take(owner))) if *owner == self.look.owner => {
                Some(*owner)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "drain_test.rs"]
mod tests;
