//! Carries out the steps by which the VMs of a proxy repair a count after one of them has died. [`policy::recovery`] says which
//! steps, and why.

mod news;

use core::cell::RefCell;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Metric};
use policy::recovery::callback::Callback;
use policy::recovery::mark::Add;
use policy::recovery::roster::Vm;
use policy::recovery::shared_count::{Change, Next, SharedCount};
use policy::recovery::{self, Fact, INDEX, Op, ROSTER, Recovery, Step};

thread_local! {
    static RECOVERY: RefCell<Recovery> = RefCell::default();
    static CALLBACK: Callback = const { Callback::new() };
}

/// It is never borrowed twice at once. If it were, a share would be corrected one tick later, and no request would be harmed.
fn with<T: Default>(f: impl FnOnce(&mut Recovery) -> T) -> T {
    RECOVERY
        .try_with(|recovery| {
            recovery
                .try_borrow_mut()
                .map(|mut recovery| f(&mut recovery))
        })
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}

/// Carries out an operation.
#[inline(never)]
fn run(op: Op) {
    with(|recovery| {
        recovery.begin(op);
        carry_out(recovery);
    });
}

#[inline(never)]
fn carry_out(recovery: &mut Recovery) {
    let mut fact = Fact::default();
    loop {
        let step = CALLBACK.with(|callback| recovery.step(callback, fact));
        fact = Fact::default();
        match step {
            Step::Define(name) => fact.value = hostcalls::metric(Kind::Gauge, &name).map(u64::from),
            Step::Read(gauge) => fact.value = hostcalls::read(gauge),
            Step::Add(gauge, n) => fact.value = hostcalls::add(gauge, n).then_some(0),
            Step::Recall(key) => {
                if let Some((bytes, number)) = hostcalls::shared(key) {
                    fact = Fact {
                        value: Some(number.into()),
                        bytes,
                    };
                }
            }
            Step::Write(key, bytes, number) => {
                fact.value = hostcalls::write_again(key, &bytes, number).then_some(0);
            }
            Step::Clock => fact.value = Some(hostcalls::monotonic().0),
            Step::Tell(news) => news::tell(news),
            Step::Done => return,
        }
    }
}

/// Writes the roster and the index, if no VM did so before.
pub fn prepare() {
    hostcalls::prepare(ROSTER, &recovery::first_roster(hostcalls::now_nanos()));
    hostcalls::prepare(INDEX, &recovery::first_index());
}

/// This VM's count with this name and this gauge as its total. `None` if a count of this name has no shares.
pub fn count(name: String, total: Metric) -> Option<Rc<SharedCount>> {
    with(|recovery| {
        let known = recovery.count(&name);
        if known.is_some() || !recovery.begin_count(name.clone(), total) {
            return known;
        }
        carry_out(recovery);
        recovery.count(&name)
    })
}

/// Adds 1 to a count. Returns false if Envoy refuses, and then nothing was added.
pub fn add(count: &SharedCount) -> bool {
    change(count, Change::add())
}

/// Subtracts 1 from a count.
pub fn release(count: &SharedCount) {
    change(count, Change::release(1, false));
}

/// Carries out a change of a count. Returns whether the total was changed.
#[inline(never)]
pub fn change(count: &SharedCount, mut change: Change) -> bool {
    let mut added = true;
    loop {
        match CALLBACK.with(|callback| change.step(count, callback, added)) {
            Next::Add((gauge, n)) => added = hostcalls::add(gauge, n),
            Next::Settle => run(Op::Settle),
            Next::Done(changed) => return changed,
        }
    }
}

/// This VM's number. It is 0 if the VM has none.
pub fn id() -> Vm {
    run(Op::Settle);
    with(|recovery| recovery.vm())
}

/// Whether `vm` was declared dead, as the roster says that was read last.
pub fn is_declared_dead(vm: Vm) -> bool {
    with(|recovery| recovery.is_declared_dead(vm))
}

/// A tick of the root context `root`.
pub fn tick(root: u32) {
    run(Op::Tick(root));
}

/// Checks whether this VM was declared dead, because a total is less than what it has in it.
pub fn check_place() {
    run(Op::CheckPlace);
}

/// A root context of this VM begins.
pub fn root_begins() {
    with(Recovery::root_begins);
}

/// The root context `root` stops its ticks.
pub fn root_rests(root: u32) {
    with(|recovery| recovery.root_rests(root));
}

/// The root context `root` ended. Returns whether the VM has any other.
pub fn root_ends(root: u32) -> bool {
    with(|recovery| recovery.root_ends(root))
}

/// The callback begins that creates the context of a stream. It does not end here: Envoy calls the one for the request's
/// headers next.
pub fn stream_begins() {
    if CALLBACK.with(Callback::is_first_stream) {
        run(Op::Settle);
    }
    begins();
}

/// A callback begins.
pub fn begins() {
    if CALLBACK.with(Callback::begins) {
        run(Op::Work);
    } else if let Some(add) = CALLBACK.with(Callback::enter) {
        let added = carry_out_add(add);
        CALLBACK.with(|callback| callback.entered(added));
    }
}

/// A tick begins.
pub fn tick_begins() {
    run(Op::TickBegins);
}

/// A callback ends.
pub fn ends() {
    if let Some(add) = CALLBACK.with(Callback::leave) {
        let added = carry_out_add(add);
        CALLBACK.with(|callback| callback.left(add.0, added));
    }
}

fn carry_out_add((gauge, n): Add) -> bool {
    hostcalls::add(gauge, n)
}
