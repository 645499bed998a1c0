//! Error detection of one destination of a service in one VM: what its answers say, and how it is ejected for them.
//!
//! The workers share one record under a key of shared data, and change it by compare-and-swap. The gauge `ejected` tells every
//! request whether it has to read the record. It is moved by increments, one for each change of the record, so it is right
//! whatever the order in which the workers come to it. There is no record until the first error. If two workers write the
//! first record at once, one of them fails and finds that of the other.

mod lines;

use core::cell::Cell;

use crate::draws;
use crate::hostcalls::{self, Kind, Metric};
use crate::metrics::{Subject, counts};
use crate::recovery;
use policy::ejection::{self, Change, Detection, Ended, Memory, Step, Task, Verdict};
use policy::error_rate::{ErrorRate, Note};
use policy::names::keys;
use policy::response::Failure;
use policy::sampling::Sampling;
use policy::time::Instant;

/// Error detection at work.
pub struct Health {
    pub detection: Detection,
    /// For log lines: the host of the service, and the peer where its requests go while home is ejected, or the peer that this
    /// is about.
    host: String,
    peer: String,
    /// Whether this is about a peer.
    pub of_peer: bool,
    key: String,
    ejected: Metric,
    successes: Metric,
    ejections: Metric,
    errors: Metric,
    sampling: Cell<Sampling>,
    memory: Cell<Memory>,
    /// How large a part of the answers are errors.
    error_rate: Cell<ErrorRate>,
}

impl Health {
    /// The detection for this destination. `peer` is where home's requests go while it is ejected, or the peer itself.
    /// # Errors
    /// The name of a metric that Envoy does not keep.
    pub fn new(detection: Detection, of: Subject<'_>, peer: &str) -> Result<Health, String> {
        let gauge = |name: &str| {
            let name = of.name(name);
            let gauge = hostcalls::metric(Kind::Gauge, &name);
            gauge.filter(|gauge| counts(*gauge)).ok_or(name)
        };
        let counter = |name: &str| {
            let name = of.name(name);
            hostcalls::metric(Kind::Counter, &name).ok_or(name)
        };
        Ok(Health {
            detection,
            host: of.service.host.clone(),
            peer: peer.to_owned(),
            of_peer: of.peer.is_some(),
            ejected: gauge("ejected")?,
            successes: gauge("good_answers")?,
            ejections: counter("ejections")?,
            errors: counter("errors")?,
            sampling: Cell::default(),
            memory: Cell::new(Memory::new(draws::number())),
            error_rate: Cell::default(),
            key: key(of),
        })
    }

    /// The same detection with the fields of a new configuration.
    pub fn configured(&self, detection: Detection, peer: &str) -> Health {
        Health {
            detection,
            host: self.host.clone(),
            peer: peer.to_owned(),
            key: self.key.clone(),
            sampling: Cell::default(),
            memory: Cell::new(Memory::new(draws::number())),
            // Otherwise no run of errors would be complete while the configuration changes often.
            error_rate: Cell::new(self.error_rate.get()),
            ..*self
        }
    }

    /// What to do with the request of this stream. `whole` says whether the request is known to be complete.
    pub fn verdict(&self, stream: u32, whole: bool) -> Verdict {
        match hostcalls::read(self.ejected) {
            None | Some(0) => Verdict::Home,
            Some(gauge) => self.check(gauge, stream, whole),
        }
    }

    #[inline(never)]
    fn check(&self, gauge: u64, stream: u32, whole: bool) -> Verdict {
        // The owner of the probe, if the request becomes it.
        match Task::check(gauge, owner(stream), whole) {
            Some(task) => self.run(task, ""),
            None => Verdict::Home,
        }
    }

    /// Calls `with` with the sampling of answers, and with the n of its rule that every n-th answer is read while all is well.
    pub fn sampled<T>(&self, with: impl FnOnce(&mut Sampling, u32) -> T) -> T {
        let mut sampling = self.sampling.get();
        let result = with(&mut sampling, self.detection.every());
        self.sampling.set(sampling);
        result
    }

    /// Whether only some of the answers are read.
    fn calm(&self) -> bool {
        self.sampling.get().calm()
    }

    /// Reports a good answer.
    pub fn succeeded(&self) {
        // If the number of good answers matters, one that is read stands for those that are skipped.
        let weight = if self.percent() > 0 && self.calm() {
            self.detection.every()
        } else {
            1
        };
        self.saw(true);
        hostcalls::add(self.successes, weight.into());
    }

    /// Reports an answer that may be an error. From now on all answers are read.
    pub fn doubted(&self) {
        self.saw(false);
    }

    /// Reports that a request found no place. That is an error, whatever share of the requests it is.
    pub fn overflowed(&self, failure: Failure) {
        self.erred(failure, "no room", true);
    }

    /// Reports an error. `what` describes it in a few words.
    pub fn failed(&self, failure: Failure, what: &str) {
        self.erred(failure, what, false);
    }

    fn erred(&self, failure: Failure, what: &str, enough: bool) {
        self.saw(false);
        hostcalls::add(self.errors, 1);
        // The lower half is the number, as in a count. In the upper half VMs test whether Envoy keeps the gauge.
        let successes = hostcalls::read(self.successes).map_or(0, |n| u64::from(n as u32));
        let now = hostcalls::monotonic();
        let detection = &self.detection;
        let note = self.note(now);
        let enough = enough
            || self
                .error_rate
                .get()
                .reached(self.percent(), detection.interval, note);
        let change = Change::Failed {
            failure,
            successes,
            enough,
        };
        self.change(change, now, what);
    }

    /// The percentage of errors below which errors do not eject.
    fn percent(&self) -> u32 {
        self.detection.min_percent.unwrap_or(0)
    }

    fn note(&self, now: Instant) -> Note {
        // If there is no percentage to compare, nothing is read.
        let of = |metric| match self.percent() {
            0 => 0,
            _ => hostcalls::read(metric).unwrap_or(0),
        };
        Note {
            at: now,
            errors: of(self.errors),
            good: of(self.successes),
        }
    }

    /// Reports how the probe of `owner` ended, as [`Record::probe_ended`] says.
    pub fn probe_ended(&self, owner: u64, how: Ended) {
        let now = hostcalls::monotonic();
        self.change(Change::Ended(owner, how), now, "");
    }

    /// Ends a ramp that is over, even if no request comes, and a probe whose VM is dead or that was not answered in time.
    pub fn tick(&self) {
        let gauge = hostcalls::read(self.ejected).unwrap_or(0);
        if self.percent() > 0 {
            self.take_note();
        }
        self.run(Task::tick(gauge, recovery::id()), "");
    }

    /// Reports that the answer to the probe of `owner` began well, as [`Record::probe_begun`] says.
    pub fn probe_begun(&self, owner: u64) {
        self.change(Change::Begun(owner), Instant::default(), "");
    }

    #[inline(never)]
    fn take_note(&self) {
        let (interval, now) = (self.detection.interval, hostcalls::monotonic());
        let mut error_rate = self.error_rate.get();
        if error_rate.is_due(interval, now) {
            error_rate.note(self.note(now));
            self.error_rate.set(error_rate);
        }
    }

    fn saw(&self, well: bool) {
        let mut sampling = self.sampling.get();
        sampling.saw(well);
        self.sampling.set(sampling);
    }

    #[inline(never)]
    fn change(&self, change: Change, now: Instant, why: &str) {
        self.run(Task::change(change, now), why);
    }

    /// Carries out a task. `why` describes the last error.
    #[inline(never)]
    fn run(&self, mut task: Task, why: &str) -> Verdict {
        let mut memory = self.memory.get();
        let verdict = carry_out(
            &mut task,
            &mut memory,
            &self.detection,
            (&self.key, self.ejected),
        );
        self.memory.set(memory);
        if let Some(line) = task.line() {
            self.say(line, why);
        }
        verdict
    }
}

/// Carries out a task on the record under `key` and its gauge.
#[inline(never)]
fn carry_out(
    task: &mut Task,
    memory: &mut Memory,
    detection: &Detection,
    (key, gauge): (&str, Metric),
) -> Verdict {
    let (mut seen, mut bytes, mut number) = (0, Vec::new(), None);
    loop {
        match task.next(memory, detection, seen) {
            Step::Clock => seen = hostcalls::monotonic().0,
            Step::Read => {
                (bytes, number) = hostcalls::shared(key)
                    .map_or((Vec::new(), None), |(bytes, number)| (bytes, Some(number)));
                task.read(&bytes);
            }
            Step::Write => {
                let after = task.record().to_bytes();
                seen = hostcalls::write_again(key, &after, number).into();
            }
            Step::Again => seen = hostcalls::write_again(key, &bytes, number).into(),
            Step::Move(by) => {
                hostcalls::add(gauge, by);
            }
            Step::Dead(vm) => seen = recovery::is_declared_dead(vm).into(),
            Step::Done(verdict) => return verdict,
        }
    }
}

/// Makes a destination available if its errors do not eject it any more. The gauge is `ejected`, and `memory` is what the last call
/// for it left.
pub fn forget(of: Subject<'_>, gauge: Metric, memory: &mut Memory) {
    if let Some(mut task) = Task::forget(hostcalls::read(gauge).unwrap_or(0)) {
        let key = key(of);
        // The detection is not used by this task.
        let detection = Detection::default();
        carry_out(&mut task, memory, &detection, (&key, gauge));
        lines::forget(&key);
    }
}

/// The key of the record. All plugins of a proxy share one space of keys, so it contains the labels.
fn key(of: Subject<'_>) -> String {
    of.name(keys::ERRORS)
}

/// The number by which a stream of this VM is known as the owner of a probe in the whole proxy.
pub fn owner(stream: u32) -> u64 {
    ejection::owner(recovery::id(), stream)
}
