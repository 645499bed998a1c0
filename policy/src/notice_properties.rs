//! Properties of a notice that several workers change at the same time.

use proptest::prelude::*;

use super::*;

/// What one worker sees.
#[derive(Clone, Copy, Debug)]
enum Sees {
    Bad(u64),
    Good(u64),
    /// It asks about lines that were delayed.
    Tick,
}

/// A line: when it was written, and whether it says that the condition begins.
type Written = (u64, bool);

#[derive(Clone, Default)]
struct Worker {
    /// What it has read: the number of the last change, the bytes, and what it saw.
    read: Option<(u64, Vec<u8>, Sees)>,
    /// The delayed lines: when to write them, and whether the condition begins.
    later: Vec<(u64, bool)>,
}

/// Workers that share a notice by compare-and-swap. Each reads in one step and writes in another, so their changes can
/// conflict.
#[derive(Default)]
struct Proxy {
    bytes: Vec<u8>,
    number: u64,
    workers: [Worker; 3],
    lines: Vec<Written>,
}

impl Proxy {
    fn step(&mut self, worker: usize, sees: Sees, settle: u64, now: u64) {
        let known = self.workers[worker].read.take();
        let Some((number, bytes, sees)) = known else {
            self.workers[worker].read = Some((self.number, self.bytes.clone(), sees));
            return;
        };
        let before = Notice::from_bytes(&bytes);
        let later = self.workers[worker].later.clone();
        let due = later.into_iter().find(|(at, _)| *at <= now);
        let changed = match sees {
            Sees::Bad(of) => before.begins(of, Instant(now)),
            Sees::Good(of) => before.ends(of, Millis(settle), Instant(now)),
            Sees::Tick => {
                due.and_then(|(_, stands)| Some((before.due(stands, Instant(now))?, Line::Write)))
            }
        };
        if let Some((after, line)) = changed {
            if number != self.number {
                // Another worker has changed it, so it reads again.
                return self.step(worker, sees, settle, now);
            }
            (self.bytes, self.number) = (after.to_bytes(), number + 1);
            match line {
                // A delayed line has the text of the moment when it was delayed.
                Line::Write => self.lines.push((
                    now,
                    match (sees, due) {
                        (Sees::Tick, Some((_, stands))) => stands,
                        _ => after.stands,
                    },
                )),
                Line::Later(Instant(at)) => self.workers[worker].later.push((at, after.stands)),
                Line::Nothing => {}
            }
        }
        if matches!(sees, Sees::Tick) {
            self.workers[worker]
                .later
                .retain(|later| Some(*later) != due);
        }
    }

    fn notice(&self) -> Notice {
        Notice::from_bytes(&self.bytes)
    }
}

fn seen() -> impl Strategy<Value = Sees> {
    prop_oneof![
        (0..3u64).prop_map(Sees::Bad),
        (0..3u64).prop_map(Sees::Good),
        Just(Sees::Tick),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(usize, Sees, u64)>> {
    let pause = prop_oneof![Just(0), 0..2000u64, 0..90_000u64];
    proptest::collection::vec((0..3usize, seen(), pause), 1..200)
}

proptest! {
    #[test]
    fn lines_alternate_and_there_is_one_of_each_kind_in_a_minute(
        steps in steps(), settle in prop_oneof![Just(0), Just(10_000u64)],
    ) {
        let (mut proxy, mut now) = (Proxy::default(), 1);
        for (worker, sees, pause) in steps {
            now += pause;
            proxy.step(worker, sees, settle, now);
        }
        for (n, (at, begins)) in proxy.lines.iter().enumerate() {
            // The first line says that the condition begins.
            prop_assert_eq!(*begins, n % 2 == 0);
            if let Some((before, _)) = n.checked_sub(2).and_then(|n| proxy.lines.get(n)) {
                prop_assert!(at - before >= MINUTE, "{:?}", proxy.lines);
            }
        }
    }

    #[test]
    fn a_delayed_line_is_written_if_it_is_still_true(steps in steps()) {
        let (mut proxy, mut now) = (Proxy::default(), 1);
        for (worker, sees, pause) in steps {
            now += pause;
            proxy.step(worker, sees, 0, now);
        }
        let truth = |proxy: &Proxy| proxy.notice().stands;
        // Each worker completes its change. After that there are only ticks.
        for worker in 0..3 {
            while let Some((_, _, sees)) = proxy.workers[worker].read {
                proxy.step(worker, sees, 0, now);
            }
        }
        let stands = truth(&proxy);
        for _ in 0..2 * proxy.workers.iter().map(|w| w.later.len() + 1).sum::<usize>() {
            now += MINUTE;
            for worker in 0..3 {
                proxy.step(worker, Sees::Tick, 0, now);
                proxy.step(worker, Sees::Tick, 0, now);
            }
        }
        prop_assert_eq!(truth(&proxy), stands);
        let last = proxy.lines.last().is_some_and(|(_, begins)| *begins);
        prop_assert_eq!(last, stands, "{:?}", proxy.lines);
    }

    #[test]
    fn a_notice_with_any_bytes_recovers(bytes in proptest::collection::vec(any::<u8>(), 0..48), now in 1..u64::MAX / 2) {
        let wrong = Notice::from_bytes(&bytes);
        let wrong = wrong.begins(1, Instant(now)).map_or(wrong, |(after, _)| after);
        let now = now + LONG;
        let ended = wrong.ends(1, Millis(10_000), Instant(now));
        prop_assert!(ended.is_some_and(|(after, _)| !after.stands));
        let ended = ended.map(|(after, _)| after).unwrap_or_default();
        // The line about its next beginning is written at most a minute later.
        let (begun, line) = ended.begins(1, Instant(now + 1)).unwrap_or((ended, Line::Nothing));
        let told = match line {
            Line::Write => true,
            Line::Later(Instant(at)) => at <= now + 1 + MINUTE && begun.due(true, Instant(at)).is_some(),
            Line::Nothing => false,
        };
        prop_assert!(told || ended.told);
    }
}

#[test]
fn only_one_of_two_workers_that_see_a_condition_at_once_writes_the_line() {
    for sees in [Sees::Bad(1), Sees::Good(1)] {
        let mut proxy = Proxy::default();
        if let Sees::Good(_) = sees {
            proxy.bytes = Notice::default()
                .begins(1, Instant(1))
                .unwrap()
                .0
                .to_bytes();
        }
        // Both workers read before one of them writes.
        for worker in [0, 1, 0, 1] {
            proxy.step(worker, sees, 0, MINUTE);
        }
        assert_eq!(proxy.lines, [(MINUTE, matches!(sees, Sees::Bad(_)))]);
    }
}
