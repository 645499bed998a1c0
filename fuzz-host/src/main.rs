//! The fuzz run: many cases on a few threads, until one fails.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use fuzz_host::run::{Report, again, run};
use fuzz_host::world::{Options, Sabotage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Drives the filter natively with a host that lies, and looks for panics and for counts that do not balance.
#[derive(Parser)]
struct Args {
    /// How many cases. Each has a seed of its own, one more than the last's.
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// The first case's seed; without it, one that the clock gives.
    #[arg(long)]
    seed: Option<u64>,
    /// How many cases at a time; without it, one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Write all that happens to stderr, for a case that is repeated.
    #[arg(long)]
    trace: bool,
    /// Counts have to balance also where the host refuses to read or write shared data.
    #[arg(long)]
    strict: bool,
    /// A deliberate fault of the host's own, to see that it is found.
    #[arg(long)]
    sabotage: Option<Fault>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fault {
    /// One decrement of a count is lost.
    LoseOne,
    /// The SDK panics in a callback.
    Panic,
    /// A callback makes too many hostcalls.
    Spin,
}

/// A case that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(60);
/// The seed of a thread that has no case.
const NONE: u64 = u64::MAX;

/// What the threads share.
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    /// For each thread, the seed of its case.
    seeds: Vec<AtomicU64>,
    total: Mutex<(Report, Option<String>)>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(clock);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores).max(1);
    let options = Options {
        trace: args.trace,
        strict: args.strict,
        sabotage: args.sabotage.map(|fault| match fault {
            Fault::LoseOne => Sabotage::LoseOne,
            Fault::Panic => Sabotage::Panic,
            Fault::Spin => Sabotage::Spin,
        }),
    };
    println!(
        "seeds from {seed}, {} cases, {threads} at a time",
        args.cases
    );

    let bar = ProgressBar::new(args.cases);
    if !std::io::stderr().is_terminal() || args.trace {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {per_sec} eta {eta}")
    {
        bar.set_style(style);
    }
    let shared = Shared {
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        seeds: (0..threads).map(|_| AtomicU64::new(NONE)).collect(),
        total: Mutex::default(),
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let (shared, bar) = (&shared, &bar);
        let work: Vec<_> = (0..threads)
            .map(|me| scope.spawn(move || work(shared, me, seed, args.cases, options, bar)))
            .collect();
        watch(shared, || {
            work.iter().all(thread::ScopedJoinHandle::is_finished)
        });
    });
    bar.finish_and_clear();

    let (report, failure) = shared.total.into_inner().unwrap_or_default();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} cases in {seconds:.1} s ({:.0} a second), {} of them with counts to balance; {} callbacks, {} hostcalls",
        report.cases,
        report.cases as f64 / seconds,
        report.fair,
        report.callbacks,
        report.hostcalls
    );
    let reasons = report
        .reasons
        .iter()
        .map(|(reason, n)| format!("{reason} {n}"));
    println!("decisions: {}", reasons.collect::<Vec<_>>().join(", "));
    match failure {
        Some(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn work(shared: &Shared, me: usize, seed: u64, cases: u64, options: Options, bar: &ProgressBar) {
    let mut mine = Report::default();
    let mut failure = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let nth = shared.next.fetch_add(1, Ordering::Relaxed);
        if nth >= cases {
            break;
        }
        let seed = seed.wrapping_add(nth);
        shared.seeds[me].store(seed, Ordering::Relaxed);
        match run(seed, options) {
            Ok(report) => mine.add(report),
            Err(what) => {
                shared.stop.store(true, Ordering::Relaxed);
                failure = Some(format!("FAILED: seed {seed}: {what}\n{}", again(seed)));
            }
        }
        bar.inc(1);
    }
    shared.seeds[me].store(NONE, Ordering::Relaxed);
    if let Ok(mut total) = shared.total.lock() {
        total.0.add(mine);
        total.1 = total.1.take().or(failure);
    }
}

/// Until all is done, ends the process where a case hangs.
fn watch(shared: &Shared, done: impl Fn() -> bool) {
    let seeds = || -> Vec<u64> {
        let all = shared.seeds.iter();
        all.map(|seed| seed.load(Ordering::Relaxed)).collect()
    };
    let mut seen = seeds();
    let mut since = vec![Instant::now(); seen.len()];
    while !done() {
        thread::sleep(Duration::from_millis(20));
        for (me, seed) in seeds().into_iter().enumerate() {
            if seed != seen[me] || seed == NONE {
                (seen[me], since[me]) = (seed, Instant::now());
            } else if since[me].elapsed() > HANGS {
                eprintln!("FAILED: seed {seed}: hangs\n{}", again(seed));
                std::process::exit(101);
            }
        }
    }
}

fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64 >> 10)
}
