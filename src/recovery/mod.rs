//! This VM among those of the process: its slot in the roster, its shares of the counts, and what it sees of the others.
//! The invariants are kept, and told, in [`policy::roster`].

pub mod account;
pub mod callback;
mod others;
pub mod slot;

use core::cell::RefCell;
use core::mem;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Level, Metric};
use crate::recovery::account::Account;
use crate::recovery::slot::{INDEX, Place, ROSTER, change, share_of};
use policy::notice::deaths::Beaten;
use policy::recovery::index::{self, Index};
use policy::recovery::roster::{IN_TIME, Liveness, Roster, Vm, owner_of};

/// Shares that are looked at in a tick, of those that nothing is known to have happened to.
const AT_LEISURE: usize = 2;

#[derive(Default)]
struct Worker {
    place: Option<Place>,
    accounts: Vec<Rc<Account>>,
    /// What is known of the index.
    index: Index,
    /// Whether an account could not be put there.
    unlisted: bool,
    /// Whether a slot of this VM was another's before, in which any account of the index may have a share.
    took_over: bool,
    /// Names that the index had when all of them were opened; `list` sees more.
    opened: usize,
    /// Whether the index was read since the roster changed.
    read_index: bool,
    /// The slots of dead VMs, and whether their shares were seen at 0: from then on a new VM may have them.
    inherited: Vec<(usize, bool)>,
    watch: Liveness,
    /// The beats of all slots, once they were asked for.
    beats: Vec<Option<Metric>>,
    changes: Option<Metric>,
    /// The roster, after so many changes.
    roster: Option<(u64, Rc<Roster>)>,
    /// The root context whose ticks are this VM's.
    driver: Option<u32>,
    /// Root contexts of this VM.
    roots: usize,
    /// When the last tick was, by the clock of [`hostcalls::monotonic`].
    ticked: u64,
    next: usize,
    /// How many VMs had come before the others beat last.
    beaten: Beaten,
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// It is never borrowed twice at once; if it were, a share would be mended a tick later, and no request harmed.
fn with<T: Default>(f: impl FnOnce(&mut Worker) -> T) -> T {
    WORKER
        .try_with(|worker| worker.try_borrow_mut().map(|mut worker| f(&mut worker)))
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}

/// This VM's account of the total that is this metric, by its name. Nothing where VMs have no shares of such a count.
pub fn account(name: String, total: Metric) -> Option<Rc<Account>> {
    with(|worker| {
        let known = worker.accounts.iter().find(|account| account.name == name);
        match known {
            Some(known) => Some(Rc::clone(known)),
            None => worker.open(name, total),
        }
    })
}

/// Takes a slot for this VM, if it has none yet.
pub fn settle() {
    with(Worker::settle);
}

/// This VM's number; 0 where it has none.
pub fn id() -> Vm {
    with(|worker| {
        worker.settle();
        worker.place.as_ref().map_or(0, |place| place.vm)
    })
}

/// Whether a VM has found that one dead, as the roster says.
pub fn is_declared_dead(vm: Vm) -> bool {
    with(|worker| matches!(&worker.roster, Some((_, roster)) if roster.lost(vm)))
}

/// A tick of the root context `root`.
pub fn tick(root: u32) {
    with(|worker| worker.tick(root));
}

/// A callback among many since the last tick: this VM lives, and sees whether it was declared dead.
pub fn work() {
    callback::beat();
    with(Worker::check_place);
}

/// A total is less than what this VM alone has in it: it looks whether it was declared dead.
pub fn check_place() {
    callback::ends();
    with(Worker::check_place);
    callback::begins();
}

/// A root context of this VM begins.
pub fn came() {
    with(|worker| worker.roots = worker.roots.saturating_add(1));
}

/// The root context `root` stops its ticks: another one's are this VM's from now on.
pub fn rests(root: u32) {
    with(|worker| {
        if worker.driver == Some(root) {
            worker.driver = None;
        }
    });
}

/// The root context `root` ended. Whether the VM has any other: without one it is as good as dead.
pub fn left(root: u32) -> bool {
    rests(root);
    with(|worker| {
        worker.roots = worker.roots.saturating_sub(1);
        worker.roots > 0
    })
}

impl Worker {
    fn open(&mut self, name: String, total: Metric) -> Option<Rc<Account>> {
        let account = Rc::new(Account::new(name, total)?);
        // Before anything is added, so that whoever takes our slot over knows of it.
        self.list(&account.name);
        if let Some(place) = &self.place {
            place.give_share(&account);
        }
        self.accounts.push(Rc::clone(&account));
        Some(account)
    }

    /// Puts a name into the index, if it is not there.
    fn list(&mut self, name: &str) {
        if self.index.has(name) {
            return;
        }
        let listed = hostcalls::exchange(INDEX, |bytes| {
            self.index.see(bytes);
            (!self.index.has(name)).then(|| (index::with(bytes, name), ()))
        });
        self.unlisted |= listed.is_none() && !self.index.has(name);
    }

    /// Opens what the index has and this VM has not. False where it could not be read.
    fn open_all(&mut self) -> bool {
        let Some(bytes) = hostcalls::recall_bytes(INDEX) else {
            return false;
        };
        self.index.see(&bytes);
        // Whoever has taken a slot over drops no account, and the index only grows.
        let known = self.index.names().len();
        if known == self.opened {
            return true;
        }
        self.opened = known;
        let ours = |name: &&str| self.accounts.iter().all(|account| account.name != **name);
        let strange: Vec<String> = self.index.names().filter(ours).map(str::to_owned).collect();
        for name in strange {
            if let Some(total) = hostcalls::metric(Kind::Gauge, &name) {
                self.open(name, total);
            }
        }
        true
    }

    /// Takes a slot, if there is none yet.
    fn settle(&mut self) {
        if self.place.is_none() {
            self.join(None);
        }
    }

    fn join(&mut self, wanted: Option<usize>) {
        let joined = change(|roster| {
            let (next, vm, slot) = roster.join(wanted)?;
            let used = slot < roster.owners().len();
            Some((next, (vm, slot, roster.process, used)))
        });
        let Some((vm, slot, process, used)) = joined else {
            return;
        };
        self.took_over |= used;
        others::joined(vm);
        let place = Place::new(vm, slot, process);
        callback::settled(place.beat);
        for account in &self.accounts {
            place.give_share(account);
        }
        self.place = Some(place);
    }

    fn tick(&mut self, root: u32) {
        if *self.driver.get_or_insert(root) != root {
            return;
        }
        self.settle();
        if self.place.as_ref().is_none_or(|place| place.beat.is_none()) {
            return;
        }
        callback::beat();
        let now = hostcalls::monotonic().0;
        let in_time = now.saturating_sub(mem::replace(&mut self.ticked, now)) <= IN_TIME;
        if mem::take(&mut self.unlisted) {
            for account in self.accounts.clone() {
                self.list(&account.name);
            }
        }
        let Some(roster) = self.read_roster() else {
            return;
        };
        self.keep_place(&roster);
        self.observe(&roster, in_time);
        if self.took_over && !self.read_index {
            self.read_index = self.open_all();
        }
        self.drain();
        self.mend();
    }

    fn read_roster(&mut self) -> Option<Rc<Roster>> {
        if self.changes.is_none() {
            let process = self.place.as_ref().map(|place| place.process);
            self.changes = process.and_then(slot::changes);
        }
        let changes = self.changes.and_then(hostcalls::read).filter(|n| *n > 0);
        if let Some((last, roster)) = &self.roster
            && Some(*last) == changes
        {
            return Some(Rc::clone(roster));
        }
        let roster = Rc::new(Roster::from_bytes(&hostcalls::recall_bytes(ROSTER)?)?);
        // A VM that was wrongly taken for dead may have opened another account before it noticed, and joined once more.
        self.read_index = false;
        // Where Envoy does not keep that gauge it is 0, and the roster is read each time.
        self.roster = changes.map(|changes| (changes, Rc::clone(&roster)));
        Some(roster)
    }

    /// Finds another slot if ours was taken over while the ticks of this VM did not come.
    fn check_place(&mut self) {
        if self.place.is_some()
            && let Some(roster) = self.read_roster()
        {
            self.keep_place(&roster);
        }
    }

    /// Finds another slot where ours was taken over: this VM stood still for so long that it was taken for dead.
    fn keep_place(&mut self, roster: &Roster) {
        let Some(place) = &self.place else { return };
        let vm = place.vm;
        if roster.owners().get(place.slot) != Some(&vm) {
            let wanted = place.slot;
            // What it had inherited is its no more.
            self.inherited.clear();
            self.join(Some(wanted));
            if self.accounts.iter().any(|account| account.own.get() != 0) {
                hostcalls::log(
                    Level::Warn,
                    "peer-spillover: this worker stood still for so long that others took what it counts off the counts; it is counted again",
                );
            }
        }
        self.inherited.retain(|(slot, _)| {
            let owner = roster.owners().get(*slot);
            owner.is_some_and(|owner| owner_of(*owner).0 == vm)
        });
    }

    /// Drives shares in our slot to what we hold, and in inherited ones to 0: a VM that was taken for dead may have changed
    /// them before it noticed.
    fn mend(&mut self) {
        let slots = self.inherited.len().saturating_add(1);
        let all = slots.saturating_mul(self.accounts.len());
        for _ in 0..AT_LEISURE.min(all) {
            self.next = self.next.checked_add(1).filter(|n| *n < all).unwrap_or(0);
            let turn = self.next.checked_div(slots).unwrap_or(0);
            let (Some(account), Some(place)) = (self.accounts.get(turn), &self.place) else {
                continue;
            };
            let slot = self
                .next
                .checked_rem(slots)
                .and_then(|n| self.inherited.get(n));
            if let Some((slot, _)) = slot {
                if let Some(share) = share_of(account, place.process, *slot) {
                    account.drive(share, 0);
                }
                continue;
            }
            account.go_on(account.share.get());
            // Of a service that is configured no more. One that has taken a slot over keeps it for what may come late into the slots it has.
            if !self.took_over && Rc::strong_count(account) == 1 && account.own.get() == 0 {
                self.accounts.swap_remove(turn);
                // It may be asked for again.
                self.opened = 0;
            }
        }
    }
}
