//! Changes of shared data, and this VM's place in the roster.

use std::rc::Rc;

use super::mark::Gauge;
use super::roster::{Roster, Vm, owner_of};
use super::task::Task;
use super::{Fact, INDEX, News, Place, ROSTER, Recovery, Step, index};
use crate::names;

/// An attempt fails only if another VM changed the data at the same time, and most proxies have fewer workers than this.
const TRIES: u8 = 32;

/// A change of shared data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Want {
    /// This VM takes a slot. It takes its former slot if that is free.
    Join,
    /// This VM takes over the slots of a dead VM.
    Take(Vm),
    /// A slot that was taken over is free for a new VM.
    Free(usize),
    /// A slot that was free is not free any more, since something was added in it.
    Keep(usize),
    /// The index gets the name of a count.
    List(usize),
}

impl Want {
    fn key(self) -> &'static str {
        match self {
            Want::List(_) => INDEX,
            _ => ROSTER,
        }
    }
}

impl Recovery {
    pub(super) fn change(&mut self, want: Want) -> Step {
        self.tries = TRIES;
        self.ask(want)
    }

    fn ask(&mut self, want: Want) -> Step {
        self.then(&[Task::Answered(want)]);
        Step::Recall(want.key())
    }

    #[inline(never)]
    pub(super) fn answered(&mut self, want: Want, fact: &Fact) -> Option<Step> {
        let bytes = if let Want::List(count) = want {
            self.index.see(&fact.bytes);
            let name = &self.counts.get(count)?.name;
            if self.index.has(name) {
                return None;
            }
            index::with(&fact.bytes, name)
        } else {
            let roster = Roster::from_bytes(&fact.bytes)?;
            self.changed(want, &roster)?.to_bytes()
        };
        self.then(&[Task::Written(want)]);
        let number = fact.value.map(|number| number as u32);
        Some(Step::Write(want.key(), bytes, number))
    }

    /// The changed roster. `None` if another VM has changed it first.
    fn changed(&mut self, want: Want, roster: &Roster) -> Option<Roster> {
        self.process = roster.process;
        let vm = self.vm();
        match want {
            Want::Join => {
                let wanted = self.place.map(|place| place.slot);
                let (next, vm, slot) = roster.join(wanted)?;
                let used = slot < roster.owners().len();
                self.joins = Some((Place { vm, slot }, used));
                Some(next)
            }
            Want::Take(owner) => {
                let (next, took) = roster.take(owner, vm)?;
                self.took = took;
                Some(next)
            }
            Want::Free(n) => roster.free(self.taken.get(n)?.slot, vm),
            Want::Keep(n) => roster.keep(self.taken.get(n)?.slot, vm),
            Want::List(_) => None,
        }
    }

    #[inline(never)]
    pub(super) fn written(&mut self, want: Want, done: bool) -> Option<Step> {
        if !done {
            self.tries = self.tries.saturating_sub(1);
            if self.tries > 0 {
                return Some(self.ask(want));
            }
            self.unlisted |= matches!(want, Want::List(_));
            return None;
        }
        match want {
            Want::Join => self.joined(),
            Want::Take(_) => self.take(),
            Want::Free(n) | Want::Keep(n) => {
                self.taken.get_mut(n)?.free = matches!(want, Want::Free(_));
            }
            Want::List(_) => return None,
        }
        self.then(&[Task::DefineChanges, Task::CountChange]);
        None
    }

    #[inline(never)]
    fn joined(&mut self) {
        let Some((place, used)) = self.joins.take() else {
            return;
        };
        self.took_over |= used;
        self.place = Some(place);
        // The VM leaves the gauges of its former slot, and marks in the new one that it is inside.
        self.then(&[
            Task::TellJoined(place.vm),
            Task::BeatOf(place.slot),
            Task::Test,
            Task::Leave,
            Task::Settled,
            Task::Clear,
            Task::Enter,
            Task::GiveAll(0),
        ]);
    }

    pub(super) fn define_changes(&mut self) -> Option<Step> {
        if self.changes.is_some() {
            return None;
        }
        self.then(&[Task::ChangesDefined]);
        let process = self.process.to_string();
        let name = names::metric(&[("worker", &process)], "roster_changes");
        Some(Step::Define(name))
    }

    /// Reads the gauge that counts the changes of the roster, which is cheaper than reading the roster.
    pub(super) fn read_roster(&mut self) -> Step {
        match self.changes {
            Some(changes) => {
                self.then(&[Task::ChangesRead]);
                Step::Read(changes)
            }
            None => {
                self.version = None;
                self.recall_roster()
            }
        }
    }

    /// If Envoy does not keep that gauge, it is 0, and the roster is read each time.
    pub(super) fn changes_read(&mut self, changes: Option<u64>) -> Option<Step> {
        let changes = changes.filter(|n| *n > 0);
        if let Some((last, roster)) = &self.cache
            && Some(*last) == changes
        {
            self.roster = Some(Rc::clone(roster));
            return None;
        }
        self.version = changes;
        Some(self.recall_roster())
    }

    fn recall_roster(&mut self) -> Step {
        self.then(&[Task::RosterRead]);
        Step::Recall(ROSTER)
    }

    pub(super) fn roster_read(&mut self, fact: &Fact) {
        self.roster = Roster::from_bytes(&fact.bytes).map(Rc::new);
        let Some(roster) = &self.roster else { return };
        // A VM that was wrongly declared dead may have opened another count before it noticed and joined again.
        self.read_index = false;
        self.cache = self.version.map(|changes| (changes, Rc::clone(roster)));
    }

    /// Takes another slot if this VM's slot was taken over, because the VM stood still for so long that it was declared dead.
    #[inline(never)]
    pub(super) fn keep_place(&mut self) {
        let (Some(roster), Some(Place { vm, slot })) = (&self.roster, self.place) else {
            return;
        };
        let owners = roster.owners();
        let is_ours = |slot: usize| owners.get(slot).is_some_and(|word| owner_of(*word).0 == vm);
        if owners.get(slot) == Some(&vm) {
            self.taken.retain(|taken| is_ours(taken.slot));
        } else {
            // The VM that took this slot over took those over too.
            self.taken.clear();
            self.then(&[Task::Change(Want::Join), Task::TellCountedAgain]);
        }
    }

    pub(super) fn counted_again(&self) -> Option<Step> {
        let holds = self.counts.iter().any(|count| count.count.own() != 0);
        holds.then_some(Step::Tell(News::CountedAgain))
    }

    /// Has the beat of a slot, or the share of a count in it, as the current gauge. The name of such a gauge begins with the
    /// slot: `peer_spillover_worker=.=PROCESS-SLOT;.;`.
    #[inline(never)]
    pub(super) fn have_gauge(&mut self, of: Option<usize>, slot: usize) -> Option<Step> {
        self.gauge = None;
        let (known, name) = match of {
            None => (&self.beats, "beats".to_owned()),
            Some(count) => {
                let count = self.counts.get(count)?;
                (&count.shares, names::share(&count.name)?)
            }
        };
        if let Some((_, gauge)) = known.iter().find(|(of, _)| *of == slot) {
            self.gauge = Some(*gauge);
            return None;
        }
        let defined = match of {
            None => Task::BeatDefined(slot),
            Some(count) => Task::ShareDefined(count, slot),
        };
        self.then(&[defined]);
        let slot = format!("{}-{slot}", self.process);
        Some(Step::Define(names::metric(&[("worker", &slot)], &name)))
    }

    pub(super) fn gauge_defined(&mut self, of: Option<usize>, slot: usize, id: Option<u64>) {
        self.gauge = id.map(|id| id as Gauge);
        let known = match of {
            None => Some(&mut self.beats),
            Some(count) => self.counts.get_mut(count).map(|count| &mut count.shares),
        };
        if let (Some(known), Some(gauge)) = (known, self.gauge) {
            known.push((slot, gauge));
        }
    }
}
