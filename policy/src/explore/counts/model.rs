//! What a VM does, hostcall by hostcall.

use std::collections::VecDeque;

use crate::recovery::mark::{self, Gauge, INSIDE, Mark};
use crate::recovery::roster::{Liveness, Roster, Vm, owner_of};
use crate::{Admission, Admit, Step};

pub(super) const LIMIT: u32 = 2;
/// Ticks after which a VM inside a callback is taken for dead here: the fewest, so that live ones are too.
pub(super) const STALE: u32 = 1;
/// So many more if it is outside: more than a script has, so that this happens at the end alone.
pub(super) const SILENT: u32 = 4;
/// Slots, as far as a test can fill them.
pub(super) const SLOTS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// Takes a slot of the roster, as a VM that was just made does.
    Join,
    /// Asks for a slot of the limit, and keeps it if it gets one.
    Request,
    /// Ends one of its requests, if it has any.
    Release,
    Tick,
    /// The last of so many callbacks without a tick: it beats, and looks whether it was declared dead.
    Work,
    /// Traps inside a callback: it is never called again.
    Die,
}

/// The next hostcall of an operation that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Next {
    Enter,
    EnterTick,
    /// Take off the marks that others have left on the beat.
    Clear,
    Leave,
    Add(Gauge, i64),
    /// Moves the share of its slot, with the end of the callback.
    Last(i64),
    Beat,
    Admit(Admit, i64),
    /// Reads the total again, after it was less than what this VM has in it.
    Again(Admit),
    Release,
    Read(What),
    /// Write the roster, if it is still of this version.
    Write(What, u32, Roster),
    LookAt(Vm),
    ReadShare(usize),
    MoveTotal(i64),
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Join(Option<usize>),
    /// Its place, then all that a tick does.
    Keep,
    /// Its place alone.
    Check,
    Take(Vm),
    Free(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct One {
    pub(super) script: VecDeque<Op>,
    pub(super) todo: VecDeque<Next>,
    pub(super) alive: bool,
    pub(super) place: Option<(Vm, usize)>,
    pub(super) own: i64,
    mark: Mark,
    inherited: Vec<(usize, bool)>,
    watch: Liveness,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counts {
    pub(super) vms: Vec<One>,
    pub(super) total: i64,
    /// The shares by slot, then the beats.
    pub(super) gauges: Vec<u64>,
    pub(super) roster: (u32, Roster),
    /// A live VM was taken for dead at some time.
    pub(super) wronged: bool,
}

fn share(slot: usize) -> Gauge {
    slot as Gauge
}

fn beat(slot: usize) -> Gauge {
    (SLOTS + slot) as Gauge
}

pub(super) fn world(scripts: &[&[Op]]) -> Counts {
    let vms = scripts.iter().map(|script| One {
        script: script.iter().copied().collect(),
        todo: VecDeque::new(),
        alive: true,
        place: None,
        own: 0,
        mark: Mark::default(),
        inherited: Vec::new(),
        watch: Liveness::new(STALE, 1, SILENT),
    });
    Counts {
        vms: vms.collect(),
        total: 0,
        gauges: vec![0; 2 * SLOTS],
        roster: (0, Roster::new(0)),
        wronged: false,
    }
}

impl Counts {
    /// The hostcalls that an operation begins with.
    pub(super) fn begin(&mut self, vm: usize, op: Op) {
        let one = &mut self.vms[vm];
        let todo = match op {
            Op::Join => vec![Next::Read(What::Join(None)), Next::Leave],
            Op::Request => vec![
                Next::Enter,
                Next::Admit(Admit::new(LIMIT, false), 0),
                Next::Leave,
            ],
            Op::Release if one.own > 0 => vec![Next::Enter, Next::Release, Next::Leave],
            Op::Release => vec![],
            Op::Tick => vec![
                Next::Leave,
                Next::Clear,
                Next::EnterTick,
                Next::Beat,
                Next::Read(What::Keep),
                Next::Leave,
            ],
            Op::Work => vec![
                Next::Leave,
                Next::Beat,
                Next::Read(What::Check),
                Next::Enter,
                Next::Leave,
            ],
            Op::Die => vec![Next::Enter, Next::Dead],
        };
        one.todo.extend(todo);
    }

    /// Puts hostcalls before all others of a VM.
    fn first(&mut self, vm: usize, calls: Vec<Next>) {
        for call in calls.into_iter().rev() {
            self.vms[vm].todo.push_front(call);
        }
    }

    /// Carries out what is next; false if that took no hostcall.
    pub(super) fn call(&mut self, vm: usize, next: Next) -> bool {
        let one = &mut self.vms[vm];
        let slot = one.place.map(|(_, slot)| slot);
        let add = match next {
            Next::Enter => one.mark.enter(slot.map(beat)),
            Next::EnterTick => slot.and_then(|slot| one.mark.enter_on(beat(slot))),
            Next::Leave => one.mark.leave(),
            Next::Add(gauge, n) => Some((gauge, n)),
            Next::Last(n) => slot.map(|slot| one.mark.leave_with((share(slot), n))),
            Next::Beat => slot.map(|slot| (beat(slot), 1)),
            Next::Clear => slot.and_then(|slot| {
                let left = mark::marks(self.gauges[beat(slot) as usize]);
                (left != 0).then_some((beat(slot), -left * INSIDE))
            }),
            _ => {
                self.call_more(vm, next);
                return true;
            }
        };
        if let Some((gauge, n)) = add {
            let gauge = &mut self.gauges[gauge as usize];
            *gauge = gauge.wrapping_add_signed(n);
        }
        add.is_some()
    }

    fn call_more(&mut self, vm: usize, next: Next) {
        let one = &mut self.vms[vm];
        match next {
            Next::Admit(mut admit, seen) => match admit.step(seen) {
                Step::Read if self.total < one.own => {
                    let check = [Next::Leave, Next::Read(What::Check), Next::Enter];
                    self.first(vm, [&check[..], &[Next::Again(admit)]].concat());
                }
                Step::Read => one.todo.push_front(Next::Admit(admit, self.total)),
                Step::Add(n) => {
                    self.total += n;
                    one.todo.push_front(Next::Admit(admit, 0));
                }
                Step::Done(Admission::Admitted) => {
                    one.own += 1;
                    one.todo.push_front(Next::Last(1));
                }
                Step::Done(_) => {}
            },
            Next::Again(admit) => one.todo.push_front(Next::Admit(admit, self.total)),
            Next::Release => {
                one.own -= 1;
                self.total -= 1;
                one.todo.push_front(Next::Last(-1));
            }
            Next::Read(what) => self.read(vm, what),
            Next::Write(what, version, roster) => {
                if self.roster.0 == version {
                    self.roster = (version + 1, roster);
                    self.written(vm, what);
                } else {
                    one.todo.push_front(Next::Read(what));
                }
            }
            Next::LookAt(owner) => {
                // Reads many gauges, but their order does not matter: the beats of a VM that lives move.
                let slots: Vec<usize> = self.roster.1.slots(owner).collect();
                let read = |gauge: Gauge| self.gauges[gauge as usize];
                let beat = slots.iter().map(|slot| read(beat(*slot))).sum();
                let gauges = slots
                    .iter()
                    .flat_map(|slot| [self::beat(*slot), share(*slot)]);
                let inside = gauges.map(read).any(|value| mark::marks(value) != 0);
                let first = slots.first().copied();
                let dead = first.is_some_and(|slot| one.watch.dead(slot, owner, beat, || inside));
                if dead {
                    one.todo.push_front(Next::Read(What::Take(owner)));
                    self.never_of_one_outside(owner);
                }
            }
            Next::ReadShare(slot) => {
                let held = if one.place.is_some_and(|(_, own)| own == slot) {
                    one.own
                } else {
                    0
                };
                let is = self.gauges[share(slot) as usize];
                let by = held.wrapping_sub(is.cast_signed());
                let counted = held - mark::low(is);
                if by != 0 {
                    self.first(
                        vm,
                        vec![Next::Add(share(slot), by), Next::MoveTotal(counted)],
                    );
                }
                let free = self.vms[vm].inherited.contains(&(slot, false)) && counted == 0;
                if free {
                    self.vms[vm].todo.push_back(Next::Read(What::Free(slot)));
                }
            }
            Next::MoveTotal(by) => self.total += by,
            _ => {
                one.alive = false;
                one.script.clear();
                one.todo.clear();
            }
        }
    }

    /// **Invariant: a VM outside of a callback is not declared dead**, but for one that was wronged before: its marks may be
    /// in a slot that another has by now.
    fn never_of_one_outside(&self, owner: Vm) {
        let live = |one: &&One| one.alive && one.place.is_some_and(|(vm, _)| vm == owner);
        if let Some(one) = self.vms.iter().find(live) {
            let inside = !one.todo.is_empty();
            assert!(inside || self.wronged, "{self:?}");
        }
    }

    fn read(&mut self, vm: usize, what: What) {
        let (version, roster) = self.roster.clone();
        let one = &mut self.vms[vm];
        let me = one.place.map_or(0, |(vm, _)| vm);
        let written = match what {
            What::Join(wanted) => roster.join(wanted).map(|(roster, ..)| roster),
            What::Take(owner) => roster.take(owner, me).map(|(roster, _)| roster),
            What::Free(slot) => roster.free(slot, me),
            What::Keep | What::Check => {
                let Some((_, slot)) = one.place else { return };
                if roster.owners().get(slot) != Some(&me) {
                    one.inherited.clear();
                    one.todo.push_front(Next::Read(What::Join(Some(slot))));
                    return;
                }
                one.inherited
                    .retain(|(slot, _)| owner_of(roster.owners()[*slot]).0 == me);
                if what == What::Check {
                    return;
                }
                let mut calls: Vec<Next> = Vec::new();
                calls.extend(one.inherited.iter().map(|(slot, _)| Next::ReadShare(*slot)));
                for (other, word) in roster.owners().iter().copied().enumerate() {
                    let (owner, free) = owner_of(word);
                    if owner == me {
                    } else if free && !roster.has(owner) {
                        calls.push(Next::Read(What::Take(owner)));
                    } else if !free && roster.slots(owner).next() == Some(other) {
                        calls.push(Next::LookAt(owner));
                    }
                }
                calls.push(Next::ReadShare(slot));
                self.first(vm, calls);
                return;
            }
        };
        // Otherwise another was faster.
        if let Some(roster) = written {
            one.todo.push_front(Next::Write(what, version, roster));
        }
    }

    fn written(&mut self, vm: usize, what: What) {
        match what {
            What::Join(_) => {
                let owners = self.roster.1.owners();
                let taken = owners.iter().copied().filter(|word| !owner_of(*word).1);
                let last = taken.max().unwrap_or(0);
                let slot = owners.iter().position(|word| *word == last).unwrap_or(0);
                let one = &mut self.vms[vm];
                // It leaves the gauges of the slot that it had, and shows in the new one that it is inside.
                let left = one.mark.leave();
                one.mark.forget();
                one.place = Some((last, slot));
                // Whatever was to be done with the place before is done with this one.
                one.todo.retain(|next| !matches!(next, Next::ReadShare(_)));
                let left = left.map(|(gauge, n)| Next::Add(gauge, n));
                let calls = [Next::Clear, Next::Enter, Next::ReadShare(slot)];
                self.first(vm, left.into_iter().chain(calls).collect());
            }
            What::Take(owner) => {
                let live = |one: &One| one.alive && one.place.is_some_and(|(vm, _)| vm == owner);
                self.wronged |= self.vms.iter().any(live);
                let one = &mut self.vms[vm];
                let Some((me, own)) = one.place else { return };
                for slot in self.roster.1.slots(me).filter(|slot| *slot != own) {
                    if !one.inherited.contains(&(slot, false)) {
                        one.inherited.retain(|(known, _)| *known != slot);
                        one.inherited.push((slot, false));
                        one.todo.push_front(Next::ReadShare(slot));
                    }
                }
            }
            What::Free(slot) => {
                let inherited = self.vms[vm].inherited.iter_mut();
                inherited
                    .filter(|(other, _)| *other == slot)
                    .for_each(|(_, free)| *free = true);
            }
            What::Keep | What::Check => {}
        }
    }

    pub(super) fn held_by_the_living(&self) -> i64 {
        let living = self.vms.iter().filter(|one| one.alive);
        living.map(|one| one.own).sum()
    }
}
