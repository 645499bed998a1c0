//! All that the host knows in one case. One thread at a time has it.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use serde_json::Value;

use crate::call::Call;
use crate::fault::{Family, Faults};
use crate::metrics::Metrics;
use crate::rng::Rng;
use crate::shared::Shared;
use crate::spill::{self, Sessions};
use crate::stream::Stream;
use crate::values::{self, NODES};

/// A nanosecond is 1.
pub const MILLI: u64 = 1_000_000;
/// Hostcalls in one callback, beyond which it will hardly come to an end. A roster of garbage has thousands of VMs, each of
/// which is looked at.
const MOST_HOSTCALLS: u32 = 1_000_000;

/// What a case does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Anything.
    Run,
    /// All streams end.
    Drain,
    /// Root contexts tick, in Envoy's time.
    Tick,
    /// Root contexts end, and their VMs.
    Close,
}

/// How a root context stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being configured.
    Starting,
    /// Streams can come to it.
    Good,
    /// It refused its configuration.
    Refused,
    /// Its end is on its way.
    Ending,
}

/// What Envoy was told to run: the plugin's name, its configuration, and the direction of its listener.
pub type Deployment = (&'static str, Arc<[u8]>, u64);

/// A root context.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its context.
    pub id: u32,
    /// What it is given to run.
    pub runs: Deployment,
    /// How it stands.
    pub standing: Standing,
    /// It has asked for ticks.
    pub ticks: bool,
    /// Time has passed since its last one.
    pub due: bool,
}

/// One VM.
#[derive(Debug, Default)]
pub struct Vm {
    /// The root contexts that live, in the order in which they came.
    pub roots: Vec<Root>,
    /// The streams that live.
    pub streams: Vec<Stream>,
    /// What is called next, before anything is drawn.
    pub calls: VecDeque<Call>,
    /// Its metrics, by number: their places among all.
    pub metrics: Vec<usize>,
    /// The context that hostcalls concern.
    pub effective: u32,
    /// The request was answered from here in this callback.
    pub replied: bool,
    /// Hostcalls of this callback.
    pub hostcalls: u32,
    /// One of them was refused, or lied to.
    pub misled: bool,
    /// It has trapped: it is never called again, and nobody tells it that its contexts are gone.
    pub dead: bool,
    /// It traps in the next callback in which it shows that it is inside.
    pub dying: bool,
    /// What it was ever given to run: what it refused goes on with what was before.
    pub ran: Vec<Deployment>,
    last_id: u32,
}

/// A deliberate fault of the host's own, to see that the check sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// One decrement of a count is lost.
    LoseOne,
    /// A root context that is not there is ticked, at which the SDK panics.
    Panic,
    /// A callback's hostcalls are counted as too many.
    Spin,
}

/// What is asked of a case beside its seed. Nothing that happens in it depends on this, but for the sabotage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Write all that happens to stderr.
    pub trace: bool,
    /// Counts have to balance also where shared data is refused.
    pub strict: bool,
    /// A deliberate fault of the host's own.
    pub sabotage: Option<Sabotage>,
}

/// All that the host knows.
#[derive(Debug)]
pub struct World {
    /// The source of all that is drawn.
    pub rng: Rng,
    /// What goes wrong.
    pub faults: Faults,
    /// Of the process.
    pub metrics: Metrics,
    /// Of the process.
    pub shared: Shared,
    /// The first is the main thread's, which is configured before the others are.
    pub vms: Vec<Vm>,
    /// What the main thread runs, which the others may.
    pub deployments: Vec<Deployment>,
    /// Nanoseconds of the clock that only goes forward.
    pub now: u64,
    /// No VM stands still while time passes.
    pub timely: bool,
    /// Callbacks that are yet to be drawn.
    pub steps: u32,
    /// VMs may trap.
    pub traps: bool,
    /// Another module of the proxy writes what is not its own.
    pub outsider: bool,
    /// What the case does now.
    pub phase: Phase,
    /// Counts are to balance.
    pub fair: bool,
    /// They would be if the check were strict, on which nothing that happens depends.
    pub balances: bool,
    /// Rounds of ticks since all streams are gone.
    pub rounds: u32,
    /// Counts are looked at only after all of them.
    pub patient: bool,
    /// A metric's number that was handed out is that of none.
    pub misnumbered: bool,
    /// The first thing that was wrong.
    pub failure: Option<String>,
    /// What every service says of spilling.
    pub spill: Value,
    /// Every configuration so far that the filter may run says this.
    pub same_spill: bool,
    /// Where the requests of sessions went.
    pub sessions: Sessions,
    /// Write all that happens to stderr.
    pub trace: bool,
    /// A deliberate fault.
    pub sabotage: Option<Sabotage>,
    /// Callbacks so far.
    pub callbacks: u64,
    /// Hostcalls so far.
    pub hostcalls: u64,
    /// Ejections that chance made longer.
    pub longer: u64,
    /// The kind of proxy.
    pub node: &'static str,
    /// Of a thousand hostcalls, those before which another VM runs.
    pub switches: u32,
    running: usize,
}

impl World {
    /// The world of a case.
    pub fn draw(seed: u64, options: Options) -> World {
        let mut rng = Rng::new(seed);
        let vms = rng.pick(&[1, 1, 1, 2, 2, 3]);
        let node = rng.pick(NODES);
        // Mostly short; what takes an ejection, a probe and a ramp is long.
        let most = rng.pick(&[50, 50, 50, 50, 50, 50, 50, 50, 50, 300]);
        let steps = 10 + rng.below(most) as u32;
        let faults = Faults::draw(&mut rng);
        World {
            metrics: Metrics::draw(&mut rng),
            shared: Shared::default(),
            vms: (0..vms).map(|_| Vm::default()).collect(),
            deployments: Vec::new(),
            now: rng.pick(&[0, 1_000_000 * MILLI, u64::MAX / 2]),
            timely: rng.chance(600),
            steps,
            phase: Phase::Run,
            fair: faults.fair(options.strict),
            balances: faults.fair(true),
            misnumbered: false,
            failure: None,
            rounds: 0,
            patient: rng.chance(20),
            traps: vms > 1 && rng.chance(150),
            outsider: rng.chance(150),
            spill: spill::draw(&mut rng),
            same_spill: true,
            sessions: Sessions::new(),
            trace: options.trace,
            sabotage: options.sabotage,
            callbacks: 0,
            hostcalls: 0,
            longer: 0,
            node,
            running: 0,
            switches: rng.pick(&[0, 0, 5, 30, 100]),
            faults,
            rng,
        }
    }

    /// Writes what happens, where that is asked for.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            // Whoever reads it may have gone.
            let _ = writeln!(std::io::stderr(), "{}", what());
        }
    }

    /// Remembers what was wrong, if it is the first.
    pub fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.tell(|| format!("FAILED: {what}"));
        self.failure.get_or_insert(what);
    }

    /// Another VM than `me`, where at this hostcall it is to run first.
    pub fn interrupted(&mut self, me: usize) -> Option<usize> {
        let may = self.phase == Phase::Run && self.steps > 0 && self.vms.len() > 1;
        (may && self.rng.chance(self.switches)).then(|| self.other(me))
    }

    /// Whether what dead VMs counted is taken off: whichever VM finds them dead knows all that they ran, by the same names.
    pub fn can_mend(&self) -> bool {
        let mut dead = self.vms.iter().filter(|vm| vm.dead).peekable();
        if dead.peek().is_none() {
            return true;
        }
        let spared = [Family::Shared, Family::Property, Family::Other];
        let honest = spared.iter().all(|family| self.faults.spares(*family));
        let ticks = |root: &&Root| root.ticks && root.standing != Standing::Ending;
        let finders = self.vms.iter().map(|vm| &vm.roots);
        let finders = finders.filter(|roots| roots.iter().any(|root| ticks(&root)));
        let knows = |runs: &Deployment| {
            let mut each = finders.clone();
            each.all(|roots| {
                let mut roots = roots.iter();
                roots.any(|root| root.standing == Standing::Good && root.runs == *runs)
            })
        };
        honest && finders.clone().next().is_some() && dead.all(|vm| vm.ran.iter().all(knows))
    }

    /// Any VM but `me`.
    pub fn other(&mut self, me: usize) -> usize {
        let count = self.vms.len();
        (me + 1 + self.rng.below(count - 1)) % count
    }

    /// Counts a hostcall. An error where the callback will hardly come to an end.
    pub fn hostcall(&mut self, me: usize) -> Result<(), String> {
        self.hostcalls += 1;
        self.running = me;
        self.now = self.now.saturating_add(1000);
        let vm = &mut self.vms[me];
        vm.hostcalls += 1;
        if vm.hostcalls > MOST_HOSTCALLS
            || (self.sabotage == Some(Sabotage::Spin) && vm.hostcalls > 20)
        {
            return Err(format!("{} hostcalls in one callback", vm.hostcalls));
        }
        Ok(())
    }

    /// The status of a call that is refused, if this one is.
    pub fn refusal(&mut self, family: Family) -> Option<u32> {
        let refusal = self.faults.refusal(&mut self.rng, family);
        self.vms[self.running].misled |= refusal.is_some();
        refusal
    }

    /// Whether a call that is not refused answers something untrue.
    pub fn lies(&mut self, family: Family) -> bool {
        let lies = self.faults.lies(&mut self.rng, family);
        self.vms[self.running].misled |= lies;
        lies
    }

    /// What it answers then, where `truth` would be true.
    pub fn lie(&mut self, truth: Option<Vec<u8>>) -> Vec<u8> {
        match truth {
            Some(truth) if self.rng.chance(400) => values::bent(&mut self.rng, truth),
            _ => values::garbage(&mut self.rng),
        }
    }
}

impl Vm {
    /// The id of a new context.
    pub fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// The stream that hostcalls concern.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        let id = self.effective;
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// The root context that hostcalls concern, or that of the stream.
    pub fn root(&mut self) -> Option<&mut Root> {
        let id = self.stream().map(|stream| stream.root);
        let id = id.unwrap_or(self.effective);
        self.roots.iter_mut().find(|root| root.id == id)
    }

    /// Ends without a word.
    pub fn die(&mut self) {
        self.dead = true;
        self.dying = false;
        self.roots.clear();
        self.streams.clear();
        self.calls.clear();
    }

    /// Whether any stream is left of a root context.
    pub fn serves(&self, root: u32) -> bool {
        self.streams.iter().any(|stream| stream.root == root)
    }
}
