use super::super::{Change, LONGEST, Memory, Step, Task, Verdict};
use super::*;
use crate::draw::mix;
use crate::response::BROKEN;

/// One error ejects for half a minute, and the next time for a whole one.
fn detection() -> Detection {
    Detection {
        consecutive_5xx: 1,
        interval: Millis(10_000),
        base_ejection: Millis(30_000),
        max_percent: 100,
        ..Detection::default()
    }
}

/// Workers of one proxy: its record with the number of the last write, and what each worker remembers.
struct Proxy {
    record: (u32, Vec<u8>),
    workers: Vec<Memory>,
}

impl Proxy {
    fn new(workers: u64, seed: u64) -> Proxy {
        let worker = |n| Memory::new(mix(seed * workers + n + 1));
        Proxy {
            record: (0, Vec::new()),
            workers: (0..workers).map(worker).collect(),
        }
    }

    fn record(&self) -> Record {
        Record::from_bytes(&self.record.1)
    }

    /// A worker carries out a task at this time.
    fn run(&mut self, worker: usize, mut task: Task, now: u64) -> Verdict {
        let memory = &mut self.workers[worker];
        let (mut seen, mut read) = (0, 0);
        loop {
            match task.next(memory, &detection(), seen) {
                Step::Clock => seen = now,
                Step::Read => {
                    read = self.record.0;
                    task.read(&self.record.1);
                }
                Step::Write => {
                    seen = u64::from(read == self.record.0);
                    if seen == 1 {
                        self.record = (read + 1, task.record().to_bytes().to_vec());
                    }
                }
                Step::Done(verdict) => return verdict,
                _ => seen = 0,
            }
        }
    }

    fn error(&mut self, worker: usize, now: u64) {
        let change = Change::Failed {
            failure: BROKEN,
            successes: 0,
            enough: true,
        };
        self.run(worker, Task::change(change, Instant(now)), now);
    }

    fn request(&mut self, worker: usize, now: u64) -> Verdict {
        let gauge = self.record().phase.shown().cast_unsigned();
        let task = Task::check(gauge, worker as u64 + 1, true);
        task.map_or(Verdict::Home, |task| self.run(worker, task, now))
    }

    /// When the first request after this time is the probe, if one comes each millisecond.
    fn probed(&mut self, worker: usize, from: u64) -> u64 {
        let Phase::Ejected(until) = self.record().phase else {
            panic!("it is ejected");
        };
        assert_ne!(self.request(worker, until.0 - 1), Verdict::Probe);
        assert!(until.0 > from);
        let verdict = self.request(worker, until.0);
        assert_eq!(verdict, Verdict::Probe);
        until.0
    }
}

/// How many of these moments are in each of ten parts of a time that begins then.
fn parts(moments: &[u64], begin: u64, part: u64) -> Vec<usize> {
    let of = |n: u64| move |at: &&u64| (begin + n * part..begin + (n + 1) * part).contains(*at);
    (0..10)
        .map(|n| moments.iter().filter(of(n)).count())
        .collect()
}

/// All eject at one moment. Nine hundred are even to within half, which chance misses once in a million times.
#[test]
fn a_thousand_proxies_probe_at_times_that_are_spread_over_a_tenth() {
    let now = 1_000;
    let mut first = Vec::new();
    let mut second = Vec::new();
    for seed in 0..1_000 {
        let mut proxy = Proxy::new(1, seed);
        proxy.error(0, now);
        let probe = proxy.probed(0, now);
        first.push(probe);
        // It fails, and with all of them at one moment.
        let ended = Change::Ended(1, crate::ejection::Ended::Failed);
        let later = now + 40_000;
        proxy.run(0, Task::change(ended, Instant(later)), later);
        second.push(proxy.probed(0, later));
    }
    for (moments, begin, part) in [(first, now + 30_000, 300), (second, now + 100_000, 600)] {
        let parts = parts(&moments, begin, part);
        assert_eq!(parts.iter().sum::<usize>(), 1_000, "{parts:?}");
        assert!(parts.iter().all(|n| (50..150).contains(n)), "{parts:?}");
    }
}

/// The worker that ejects has drawn, and the others heed what it wrote, whatever they would draw.
#[test]
fn all_workers_of_a_proxy_agree_on_the_end_of_an_ejection() {
    for seed in 0..100 {
        let mut proxy = Proxy::new(4, seed);
        let now = 5_000;
        proxy.error(1, now);
        let record = proxy.record();
        for worker in 0..4 {
            proxy.error(worker, now + 1);
            assert_eq!(proxy.record(), record, "an error of an ejected one");
        }
        let Phase::Ejected(until) = record.phase else {
            panic!("it is ejected");
        };
        for worker in [0, 2, 3] {
            let away = Verdict::Away { ramp: false };
            assert_eq!(proxy.request(worker, until.0 - 1), away);
        }
        assert_eq!(proxy.probed(3, now), until.0);
    }
}

#[test]
fn the_longest_ejection_is_a_tenth_longer_at_most() {
    let d = detection();
    let longest = Record {
        phase: Phase::Ejected(Instant(LONGEST.0)),
        ejections: 10,
        ..Record::default()
    };
    let now = Instant(0);
    let longer = longest.with_jitter(now, u32::MAX);
    assert!(longer.lasts(now) > Millis(LONGEST.0 + LONGEST.0 / 11));
    assert!(longer.lasts(now) <= d.longest_with_jitter());
    assert_eq!(longer.healed(&d, now), longer);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_ejection_is_never_shorter_than_configured_and_at_most_a_tenth_longer(
            base in 1u64..1 << 40,
            now in 0u64..1 << 45,
            ejections in 0u32..1_000,
            draw: u32,
        ) {
            let d = Detection { base_ejection: Millis(base), ..detection() };
            let before = Record { ejections, ..Record::default() };
            let now = Instant(now);
            let ejected = before.failed(BROKEN, &d, 0, true, now).expect("it is available");
            let lasts = ejected.lasts(now).0;
            let jitter = ejected.with_jitter(now, draw);
            let longer = jitter.lasts(now).0;
            prop_assert!(longer >= lasts && longer <= lasts + lasts / 10, "{lasts} {longer}");
            // Whatever else is known is as it was, and nobody takes the end for one that others wrote.
            prop_assert_eq!(Record { phase: ejected.phase, ..jitter }, ejected);
            prop_assert_eq!(jitter.healed(&d, now), jitter);
            prop_assert_eq!(ejected.with_jitter(now, 0), ejected);
        }

        #[test]
        fn what_is_not_an_ejection_that_begins_stays_as_it_is(now in 1u64..1 << 45, draw: u32) {
            let now = Instant(now);
            for phase in [
                Phase::Available(now),
                Phase::Ramp(now),
                Phase::Ejected(now),
                Phase::Ejected(now.before(Millis(1))),
                Phase::Probing { owner: 1, since: now, begun: false, whole: true },
            ] {
                let record = Record { phase, ..Record::default() };
                prop_assert_eq!(record.with_jitter(now, draw), record);
            }
        }
    }
}
