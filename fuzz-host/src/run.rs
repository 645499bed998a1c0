//! One case from its seed to its end.

use std::collections::BTreeMap;
use std::panic;
use std::sync::{Arc, Once};
use std::thread;

use crate::abi;
use crate::case::{self, Case, seat};
use crate::check;
use crate::script::{self, Next};
use crate::world::{Options, World};

/// The filter's stack is a megabyte in its VM.
const STACK: usize = 1 << 20;
/// What a case, or many, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Cases.
    pub cases: u64,
    /// Those of them in which counts were to balance.
    pub fair: u64,
    /// Callbacks.
    pub callbacks: u64,
    /// Hostcalls.
    pub hostcalls: u64,
    /// Ejections that chance made longer.
    pub longer: u64,
    /// Decisions of the filter, by their reasons.
    pub reasons: BTreeMap<String, u64>,
}

impl Report {
    /// Adds another.
    pub fn add(&mut self, other: Report) {
        self.cases += other.cases;
        self.fair += other.fair;
        self.callbacks += other.callbacks;
        self.hostcalls += other.hostcalls;
        self.longer += other.longer;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// How to see a case again.
pub fn again(seed: u64) -> String {
    format!("again: cargo run -p fuzz-host -- --seed {seed} --cases 1 --trace")
}

/// Runs a case.
/// # Errors
/// What was wrong. A panic of the filter, or a callback without an end, ends the process instead, with a report.
pub fn run(seed: u64, options: Options) -> Result<Report, String> {
    prepare();
    let world = World::draw(seed, options);
    if options.trace {
        eprintln!("{:?}, {} VMs", world.faults, world.vms.len());
    }
    let vms = world.vms.len();
    let case = Arc::new(Case::new(seed, world));
    let mut threads = Vec::new();
    for me in 0..vms {
        let case = Arc::clone(&case);
        let vm = thread::Builder::new().stack_size(STACK);
        let vm = vm.spawn(move || vm_thread(&case, me));
        threads.push(vm.map_err(|error| format!("no thread for a VM: {error}"))?);
    }
    let seats = threads.iter().map(|thread| thread.thread().clone());
    case.seat(seats.chain([thread::current()]).collect());

    case.pass(vms, 0);
    for thread in threads {
        // A VM is gone when what its thread kept is.
        thread.join().map_err(|_| "a VM's thread panicked")?;
    }
    let mut world = case.world();
    if let Some(wrong) = check::when_closed(&world) {
        world.fail(wrong);
    }
    match world.failure.take() {
        Some(failure) => Err(failure),
        None => Ok(report(&world)),
    }
}

fn vm_thread(case: &Arc<Case>, me: usize) {
    case.wait(me);
    case::sit(case, me);
    abi::_initialize();
    loop {
        let next = script::next(&mut case.world(), me);
        match next {
            Next::Run(call) => script::run(case, me, call),
            Next::Pass(other) => {
                if other != me {
                    case.pass(me, other);
                }
            }
            Next::End => {
                // What a dead VM keeps is dropped with its thread, and nothing of that may be seen.
                case::stand_up();
                return case.leave_to(me + 1);
            }
        }
    }
}

/// Once in a process: the SDK's hook for panics would write to the host's log, and nobody would know the seed.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        abi::_initialize();
        panic::set_hook(Box::new(move |info| match seat() {
            Some((case, _)) => {
                let trace = std::backtrace::Backtrace::force_capture();
                abi::fatal(&case, &format!("{info}\n{trace}"));
            }
            None => default(info),
        }));
    });
}

fn report(world: &World) -> Report {
    let mut report = Report {
        cases: 1,
        fair: world.fair.into(),
        callbacks: world.callbacks,
        hostcalls: world.hostcalls,
        longer: world.longer,
        reasons: BTreeMap::new(),
    };
    // Under a wrong number a counter may get any value.
    let counters = world.metrics.all.iter().filter(|_| !world.misnumbered);
    for metric in counters {
        if let Some(reason) = metric.label("reason") {
            *report.reasons.entry(reason.to_owned()).or_default() += metric.value;
        }
    }
    report
}
