//! A short fuzz with every `cargo test`, and that what is looked for would be found.

use std::process::{Command, Output};
use std::thread;

use fuzz_host::run::{Report, run};
use fuzz_host::world::{Options, Sabotage};

/// Cases of each of two threads, which a dev build makes in some seconds.
const CASES: u64 = 2000;

fn many(first: u64, cases: u64, options: Options) -> Report {
    let mut total = Report::default();
    for seed in first..first + cases {
        match run(seed, options) {
            Ok(report) => total.add(report),
            Err(what) => panic!("seed {seed}: {what}\n{}", fuzz_host::run::again(seed)),
        }
    }
    total
}

fn on_two_threads(options: Options) -> Report {
    let other = thread::spawn(move || many(CASES, CASES, options));
    let mut total = many(0, CASES, options);
    total.add(other.join().expect("what the other thread found is above"));
    total
}

#[test]
fn nothing_panics_and_counts_balance_whatever_the_host_answers() {
    let total = on_two_threads(Options::default());
    assert_eq!(total.cases, 2 * CASES);
    assert!(
        total.fair > CASES / 2,
        "counts are seldom checked: {total:?}"
    );
    assert!(
        total.longer > 0,
        "chance makes no ejection longer: {total:?}"
    );
    // A fuzz that never gets anywhere finds nothing.
    for reason in [
        "room",
        "guest",
        "returned",
        "when-full",
        "misroute",
        "uncounted",
        "limit",
        "evacuate",
        "ejected",
        "probe",
    ] {
        assert!(total.reasons.contains_key(reason), "no {reason}: {total:?}");
    }
}

#[test]
fn counts_balance_also_where_shared_data_is_refused() {
    on_two_threads(Options {
        strict: true,
        ..Options::default()
    });
}

#[test]
fn a_seed_repeats_a_case() {
    for seed in 0..100 {
        let options = Options::default();
        assert_eq!(run(seed, options), run(seed, options), "seed {seed}");
    }
}

#[test]
fn a_lost_decrement_is_found() {
    let options = Options {
        sabotage: Some(Sabotage::LoseOne),
        ..Options::default()
    };
    let found = (0..200).filter_map(|seed| run(seed, options).err());
    let found: Vec<String> = found.collect();
    assert!(found.len() > 10, "{} of 200 cases", found.len());
    for what in found {
        assert!(
            what.starts_with("nothing is in flight, and peer_spillover_"),
            "{what}"
        );
    }
}

/// What ends the process is looked at from outside of it.
fn sabotaged(how: &str) -> (Output, String) {
    let mut fuzz = Command::new(env!("CARGO_BIN_EXE_fuzz-host"));
    let output = fuzz
        .args([
            "--seed",
            "3",
            "--cases",
            "200",
            "--threads",
            "1",
            "--sabotage",
            how,
        ])
        .output()
        .expect("the fuzz runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn a_panic_in_the_sdk_is_reported_with_its_seed() {
    let (output, text) = sabotaged("panic");
    assert_eq!(output.status.code(), Some(101), "{text}");
    assert!(text.contains("FAILED: seed "), "{text}");
    assert!(text.contains("invalid context_id"), "{text}");
    assert!(
        text.contains("again: cargo run -p fuzz-host -- --seed "),
        "{text}"
    );
}

#[test]
fn a_callback_without_an_end_is_reported_with_its_seed() {
    let (output, text) = sabotaged("spin");
    assert_eq!(output.status.code(), Some(101), "{text}");
    assert!(text.contains("hostcalls in one callback"), "{text}");
}

#[test]
fn a_count_that_does_not_balance_fails_the_run() {
    let (output, text) = sabotaged("lose-one");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("nothing is in flight, and "), "{text}");
}
