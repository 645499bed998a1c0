//! What Envoy does next, in one VM.

use std::sync::Arc;

use policy::recovery::roster::SILENT;

use crate::call::Call;
use crate::case::Case;
use crate::check;
use crate::configs;
use crate::outsider;
use crate::peers;
use crate::spill;
use crate::stream::{Stage, Stream};
use crate::values::PLUGINS;
use crate::world::{MILLI, Phase, Root, Sabotage, Standing, World};

/// Rounds of ticks after the last stream in which counts have to come right: longer than what it takes VMs to find another
/// dead, and that one to come back.
const LAST_ROUNDS: u32 = 60;
/// As that, where a VM that was wrongly declared dead has taken the mark of a dead one off.
const ROUNDS_WITHOUT_A_MARK: u32 = LAST_ROUNDS + 2 * SILENT;
/// Those that there are even where counts are right before.
const FEW_ROUNDS: u32 = 2;

/// What a VM does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is called.
    Run(Call),
    /// It lets another run.
    Pass(usize),
    /// It ends, and lets the next run; the last one the runner.
    End,
}

/// What the VM `me`, in which no callback is under way, does next.
pub fn next(world: &mut World, me: usize) -> Next {
    if let Some(call) = world.vms[me].calls.pop_front() {
        return Next::Run(call);
    }
    match world.phase {
        Phase::Run if world.steps == 0 => {
            // From here on only what lives is there to mend what the dead have left.
            world.patient |= world.vms.iter().any(|vm| vm.dead) || world.outsider;
            world.fair &= world.can_mend();
            world.vms.iter_mut().for_each(|vm| vm.dying = false);
            world.phase = Phase::Drain;
            Next::Pass(0)
        }
        Phase::Run if world.vms[me].dead => Next::Pass(world.other(me)),
        Phase::Run if world.vms.len() > 1 && world.rng.chance(250) => Next::Pass(world.other(me)),
        Phase::Run => {
            world.steps -= 1;
            step(world, me)
        }
        Phase::Drain => match world.vms[me].streams.last().map(|stream| stream.id) {
            Some(id) => end_stream(world, me, id),
            None => done(world, me),
        },
        Phase::Tick => {
            queue_ticks(world, me);
            let call = world.vms[me].calls.pop_front();
            call.map_or_else(|| done(world, me), Next::Run)
        }
        Phase::Close => match world.vms[me].roots.first().map(|root| root.id) {
            Some(id) => end_root(world, me, id),
            None => Next::End,
        },
    }
}

/// The VM `me` has done its part of a phase of the end. The last one of a phase begins the next.
fn done(world: &mut World, me: usize) -> Next {
    if me + 1 < world.vms.len() {
        return Next::Pass(me + 1);
    }
    if world.phase == Phase::Tick {
        let wrong = check::when_idle(world);
        let usual = LAST_ROUNDS.max(outsider::rounds(world));
        let most = wrong
            .as_ref()
            .map_or(usual, |_| usual.max(ROUNDS_WITHOUT_A_MARK));
        let over = world.rounds >= most;
        if over || (wrong.is_none() && !world.patient && world.rounds >= FEW_ROUNDS) {
            if let Some(wrong) = wrong {
                world.fail(wrong);
            }
            world.phase = Phase::Close;
            return Next::Pass(0);
        }
    }
    world.phase = Phase::Tick;
    world.rounds += 1;
    elapse(world, 200);
    Next::Pass(0)
}

fn step(world: &mut World, me: usize) -> Next {
    outsider::may_write(world);
    if world.sabotage == Some(Sabotage::Panic) && world.steps == 0 {
        return Next::Run(Call::Tick(u32::MAX));
    }
    let good = |root: &&Root| root.standing == Standing::Good;
    let Some(newest) = world.vms[me].roots.iter().rfind(good).map(|root| root.id) else {
        return new_root(world, me);
    };
    let living = world.vms.iter().filter(|vm| !vm.dead && !vm.dying);
    if world.traps && living.count() > 1 && world.rng.chance(40) {
        world.vms[me].dying = true;
    }
    let alone = me == 0 && world.deployments.is_empty() && world.vms.len() > 1;
    if alone && world.rng.chance(300) {
        return new_root(world, me);
    }
    match world.rng.below(100) {
        0..25 => new_stream(world, me, newest),
        25..76 => {
            let count = world.vms[me].streams.len();
            if count == 0 {
                return new_stream(world, me, newest);
            }
            let nth = world.rng.below(count);
            advance(world, me, nth)
        }
        76..82 => {
            let roots = &world.vms[me].roots;
            let ticking: Vec<u32> = roots.iter().filter(|r| r.ticks).map(|r| r.id).collect();
            if ticking.is_empty() || world.timely {
                return pass_time(world, me);
            }
            Next::Run(Call::Tick(world.rng.pick(&ticking)))
        }
        82..90 => pass_time(world, me),
        90..95 => new_root(world, me),
        _ => {
            let vm = &world.vms[me];
            let idle: Vec<u32> = vm
                .roots
                .iter()
                .map(|root| root.id)
                .filter(|id| !vm.serves(*id))
                .collect();
            if idle.is_empty() {
                return new_stream(world, me, newest);
            }
            let id = world.rng.pick(&idle);
            end_root(world, me, id)
        }
    }
}

/// The main thread is configured before the others are, and they with nothing that it refused.
fn new_root(world: &mut World, me: usize) -> Next {
    let known = world.deployments.len();
    let runs = if known > 0 && (me > 0 || world.rng.chance(400)) {
        // The last one, mostly.
        let back = world.rng.pick(&[0, 0, 0, 1, 2]).min(known - 1);
        world.deployments[known - 1 - back].clone()
    } else if me == 0 {
        let plugin = PLUGINS[world.rng.pick(&[0, 0, 0, 0, 1, 2])];
        let config = configs::draw(&mut world.rng, &world.spill);
        world.same_spill &= !configs::differs(&config, &world.spill);
        let config = Arc::from(config);
        (plugin, config, world.rng.pick(&[0, 0, 0, 1, 2]))
    } else {
        return Next::Pass(0);
    };
    let vm = &mut world.vms[me];
    let (id, size) = (vm.new_id(), runs.1.len());
    vm.ran.push(runs.clone());
    vm.roots.push(Root {
        id,
        runs,
        standing: Standing::Starting,
        ticks: false,
        due: false,
    });
    vm.calls
        .extend([Call::VmStart(id), Call::Configure(id, size)]);
    Next::Run(Call::Create(id, 0))
}

fn new_stream(world: &mut World, me: usize, newest: u32) -> Next {
    let vm = &mut world.vms[me];
    let mut root = newest;
    // Another plugin's in the same chain, or one that Envoy goes back to.
    if world.rng.chance(300) {
        let all = vm.roots.iter().filter(|r| r.standing == Standing::Good);
        let all: Vec<u32> = all.map(|root| root.id).collect();
        root = world.rng.pick(&all);
    }
    let id = vm.new_id();
    vm.streams.push(Stream::draw(&mut world.rng, id, root));
    Next::Run(Call::Create(id, root))
}

fn advance(world: &mut World, me: usize, nth: usize) -> Next {
    let rng = &mut world.rng;
    let stream = &mut world.vms[me].streams[nth];
    let id = stream.id;
    let (lot, all) = (rng.below(100), rng.chance(400));
    match (stream.stage, lot) {
        // Another filter may have answered before this one saw the request.
        (Stage::Created, 0..4) | (Stage::Requested, 5..80) => {
            stream.stage = Stage::Responded;
            stream.answer(rng);
            Next::Run(Call::ResponseHeaders(id, all))
        }
        (Stage::Created, 8..) => {
            stream.stage = Stage::Requested;
            Next::Run(Call::RequestHeaders(id, all))
        }
        (Stage::Requested, 0..3) => Next::Run(Call::RequestBody(id)),
        (Stage::Requested, 3..5) => Next::Run(Call::RequestTrailers(id)),
        (Stage::Responded, 0..10) => Next::Run(Call::ResponseBody(id)),
        // The upstream is done, and the client does not read.
        (Stage::Responded, 10..20) => {
            stream.finished = true;
            Next::Run(Call::ResponseBody(id))
        }
        (Stage::Responded, 20..60) => {
            stream.stage = Stage::Trailed;
            stream.trail(rng);
            Next::Run(Call::ResponseTrailers(id))
        }
        _ => end_stream(world, me, id),
    }
}

/// Envoy logs a request, then ends it; one that was cut off early it may end without.
fn end_stream(world: &mut World, me: usize, id: u32) -> Next {
    let rng = &mut world.rng;
    let vm = &mut world.vms[me];
    let Some(stream) = vm.streams.iter_mut().find(|stream| stream.id == id) else {
        return Next::Pass(me);
    };
    stream.flag(rng);
    if stream.stage < Stage::Logged && rng.chance(900) {
        stream.stage = Stage::Logged;
        if rng.chance(500) {
            return Next::Run(Call::Log(id));
        }
        vm.calls.push_back(Call::Log(id));
    }
    stream.stage = Stage::Ending;
    vm.calls.extend([Call::Done(id), Call::Delete(id)]);
    Next::Pass(me)
}

fn end_root(world: &mut World, me: usize, id: u32) -> Next {
    let vm = &mut world.vms[me];
    if let Some(root) = vm.roots.iter_mut().find(|root| root.id == id) {
        root.standing = Standing::Ending;
    }
    vm.calls.extend([Call::Done(id), Call::Delete(id)]);
    Next::Pass(me)
}

/// Time passes. Where no VM stands still, those that time has passed for tick first.
fn pass_time(world: &mut World, me: usize) -> Next {
    let longest = if world.timely { 4 } else { 9 };
    let lot = world.rng.below(longest);
    if world.timely {
        for vm in 0..world.vms.len() {
            queue_ticks(world, vm);
        }
        let waiting = (0..world.vms.len()).rfind(|vm| !world.vms[*vm].calls.is_empty());
        if let Some(waiting) = waiting {
            return Next::Pass(waiting);
        }
    }
    let millis = [1, 20, 100, 200, 1_000, 4_000, 10_000, 60_000, 3_600_000];
    elapse(world, millis[lot]);
    Next::Pass(me)
}

/// Lets time pass, after which all that tick have reason to.
fn elapse(world: &mut World, millis: u64) {
    world.now = world.now.saturating_add(millis * MILLI);
    let roots = world.vms.iter_mut().flat_map(|vm| &mut vm.roots);
    roots.for_each(|root| root.due = root.ticks);
}

fn queue_ticks(world: &mut World, me: usize) {
    let vm = &mut world.vms[me];
    for root in vm.roots.iter_mut().filter(|root| root.due) {
        root.due = false;
        if matches!(root.standing, Standing::Good | Standing::Refused) {
            vm.calls.push_back(Call::Tick(root.id));
        }
    }
}

/// Makes a callback in the VM `me`, and draws from it what Envoy would.
pub fn run(case: &Case, me: usize, call: Call) {
    let id = call.context();
    let before = {
        let mut world = case.world();
        world.callbacks += 1;
        world.now = world.now.saturating_add(MILLI / 100);
        world.tell(|| format!("vm {me} {call:?}"));
        let vm = &mut world.vms[me];
        (vm.effective, vm.hostcalls) = (id, 0);
        (vm.replied, vm.misled) = (false, false);
        let is_request = matches!(call, Call::RequestHeaders(..));
        is_request.then(|| spill::before(&mut world, me)).flatten()
    };
    let answer = call.make();
    let mut world = case.world();
    let wrong = before.and_then(|before| spill::after(&mut world, me, &before));
    if let Some(wrong) = wrong {
        world.fail(wrong);
    }
    let balances = world.balances;
    let vm = &mut world.vms[me];
    let root = vm.roots.iter_mut().find(|root| root.id == id);
    match (call, answer) {
        (Call::Configure(..), _) => {
            let Some(root) = root else { return };
            let good = answer != 0;
            root.standing = if good {
                Standing::Good
            } else {
                Standing::Refused
            };
            // One that was misled may have taken a good configuration for a bad one, and prepared nothing for the others.
            if good && me == 0 && (!vm.misled || !balances) {
                let runs = root.runs.clone();
                world.deployments.push(runs);
            }
        }
        (Call::Delete(_), _) => {
            vm.roots.retain(|root| root.id != id);
            vm.streams.retain(|stream| stream.id != id);
        }
        (Call::VmStart(_) | Call::Done(_), 0) => world.fail(format!("{call:?} answered false")),
        (Call::VmStart(_) | Call::Done(_), _) => {}
        // A request that is held up and not answered would wait for ever.
        (Call::RequestHeaders(..), 1) if vm.replied => {}
        (_, 0) => {}
        _ => world.fail(format!("{call:?} answered {answer}")),
    }
    if let Some(wrong) = peers::when_outside(&world) {
        world.fail(wrong);
    }
}
