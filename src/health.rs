//! Error detection of one service in one VM: what its answers say, and what that does to home.
//!
//! What all workers know is one record under a shared key, changed by compare-and-swap. What every request must know, whether
//! there is anything to know at all, is the gauge `ejected`; it is moved by increments, one for each change of the record,
//! so it is right whatever the order in which the workers come to it. There is no record until the first error, and whoever
//! comes first writes it as any other change: one of two workers who do so at once finds the other's.

mod lines;

use core::cell::Cell;

use crate::hostcalls::{self, Kind, Metric};
use crate::metrics::Labels;
use crate::metrics::counts;
use crate::recovery;
use policy::ejection::{Detection, Ended, Phase, Record, Verdict};
use policy::error_rate::{ErrorRate, Note};
use policy::names::metric;
use policy::recovery::roster::Vm;
use policy::response::Failure;
use policy::sampling::{Look, Sampling};
use policy::time::{Instant, Millis};

/// Between two numbers of the sequence of draws (Weyl's, by the golden ratio): even over any stretch.
const STEP: u32 = 0x9E37_79B9;

/// Turns in the ticks between two looks whether record and gauge are what this filter made them. A turn comes every tick, or
/// once a second where many services were used: so these are one to five seconds.
const LOOK_AFTER: u32 = 5;
/// So many looks in a row must see the same fault before it is mended: another VM may just be between its changes of the two.
/// And fewer than [`SPREAD`] more, by the number of the VM, so that one comes first.
const LOOKS: u32 = 2;
const SPREAD: u32 = 3;

/// Error detection at work.
pub struct Health {
    pub detection: Detection,
    /// For log lines.
    host: String,
    peer: String,
    key: String,
    ejected: Metric,
    successes: Metric,
    ejections: Metric,
    errors: Metric,
    sampling: Cell<Sampling>,
    draw: Cell<u32>,
    turn: Cell<u32>,
    /// The record as last read, and what the gauge was then.
    last: Cell<Option<(u64, Record)>>,
    /// How large a part of the answers are errors.
    error_rate: Cell<ErrorRate>,
    /// Gauge and record as they last were seen to differ, and how many looks in a row saw that.
    differ: Cell<(u64, Record, u32)>,
}

impl Health {
    /// Detection for a service of these labels.
    /// # Errors
    /// The name of a metric that Envoy does not keep.
    pub fn new(detection: Detection, labels: &Labels, peer: &str) -> Result<Health, String> {
        let gauge = |name: &str| {
            let name = metric(&labels.pairs(), name);
            let gauge = hostcalls::metric(Kind::Gauge, &name);
            gauge.filter(|gauge| counts(*gauge)).ok_or(name)
        };
        let counter = |name: &str| {
            let name = metric(&labels.pairs(), name);
            hostcalls::metric(Kind::Counter, &name).ok_or(name)
        };
        Ok(Health {
            detection,
            host: labels.host.clone(),
            peer: peer.to_owned(),
            ejected: gauge("ejected")?,
            successes: gauge("good_answers")?,
            ejections: counter("ejections")?,
            errors: counter("errors")?,
            sampling: Cell::default(),
            draw: Cell::default(),
            turn: Cell::default(),
            last: Cell::default(),
            error_rate: Cell::default(),
            differ: Cell::default(),
            key: key(labels),
        })
    }

    /// The same, as a new configuration has it.
    pub fn configured(&self, detection: Detection, peer: &str) -> Health {
        Health {
            detection,
            host: self.host.clone(),
            peer: peer.to_owned(),
            key: self.key.clone(),
            sampling: Cell::default(),
            draw: Cell::default(),
            turn: Cell::default(),
            last: Cell::default(),
            // Otherwise a configuration that changes often would never let anything be ejected.
            error_rate: Cell::new(self.error_rate.get()),
            differ: Cell::default(),
            ..*self
        }
    }

    /// What to do with a request; `owner` is who it would be as a probe. `whole`: it is known to be complete.
    pub fn course(&self, owner: u64, whole: bool) -> Verdict {
        let gauge = hostcalls::read(self.ejected).unwrap_or(0);
        if gauge == 0 {
            return Verdict::Home;
        }
        let now = hostcalls::monotonic().0;
        let draw = self.draw.get().wrapping_add(STEP);
        self.draw.set(draw);
        let known = self.last.get().filter(|(seen, _)| *seen == gauge);
        let record = known.map_or_else(|| self.read(gauge), |(_, record)| record);
        let mut course = record.course(&self.detection, now, draw, whole);
        if known.is_some() && course == Verdict::Probe {
            course = self.read(gauge).course(&self.detection, now, draw, whole);
        }
        match course {
            // Another was faster.
            Verdict::Probe
                if self
                    .change(|record| record.probed_by(owner, whole, &self.detection, now))
                    .is_none() =>
            {
                Verdict::Away { ramp: false }
            }
            Verdict::Overdue => {
                self.give_up(now);
                Verdict::Away { ramp: false }
            }
            Verdict::Back => {
                self.back(now);
                Verdict::Home
            }
            course => course,
        }
    }

    /// How to look at the next answer.
    pub fn look(&self) -> Look {
        let mut sampling = self.sampling.get();
        let look = sampling.next(self.detection.every());
        self.sampling.set(sampling);
        look
    }

    /// Whether only some answers are looked at.
    pub fn calm(&self) -> bool {
        self.sampling.get().calm()
    }

    /// A good answer of home's.
    pub fn succeeded(&self) {
        // Where their number matters, one that is read in a calm stands for those that are not.
        let weight = if self.percent() > 0 && self.calm() {
            self.detection.every()
        } else {
            1
        };
        self.saw(true);
        hostcalls::add(self.successes, weight.into());
    }

    /// An answer that may be an error of home's: from now on all are read.
    pub fn doubted(&self) {
        self.saw(false);
    }

    /// A request found no room, which is an error of home's however few there are.
    pub fn overflowed(&self, failure: Failure) {
        self.erred(failure, "no room", true);
    }

    /// An error of home's: `what` it was, in a few words.
    pub fn failed(&self, failure: Failure, what: &str) {
        self.erred(failure, what, false);
    }

    fn erred(&self, failure: Failure, what: &str, enough: bool) {
        self.saw(false);
        hostcalls::add(self.errors, 1);
        // The lower half, as of a count: in the upper one VMs test whether Envoy keeps the gauge.
        let successes = hostcalls::read(self.successes).map_or(0, |n| u64::from(n as u32));
        let now = hostcalls::monotonic().0;
        let detection = &self.detection;
        let note = self.note(now);
        let enough = enough
            || self
                .error_rate
                .get()
                .reached(self.percent(), Millis(detection.interval), note);
        let changed =
            self.change(|record| record.failed(failure, detection, successes, enough, now));
        if let Some(after) = changed.filter(|after| matches!(after.phase, Phase::Ejected(_))) {
            self.say_ejected(&after, now, what);
        }
    }

    /// Health eject only where they are so many percent of the answers.
    fn percent(&self) -> u32 {
        self.detection.min_percent.unwrap_or(0)
    }

    fn note(&self, now: u64) -> Note {
        // Where nothing is to be compared, nothing is read.
        let of = |metric| match self.percent() {
            0 => 0,
            _ => hostcalls::read(metric).unwrap_or(0),
        };
        Note {
            at: Instant(now),
            errors: of(self.errors),
            good: of(self.successes),
        }
    }

    /// The probe of `owner` ended, as in [`Record::probe_ended`].
    pub fn probe_ended(&self, owner: u64, how: Ended) {
        let now = hostcalls::monotonic().0;
        let ended = self.change(|record| record.probe_ended(owner, how, &self.detection, now));
        let Some(after) = ended else { return };
        match how {
            Ended::Well | Ended::Begun => self.say_answered(),
            Ended::Failed => self.say_ejected(&after, now, "the probe failed"),
            Ended::Nothing => {}
        }
    }

    /// Ends a ramp that is over, whether or not a request comes, and a probe whose VM is dead or that is not answered.
    pub fn tick(&self) {
        let gauge = hostcalls::read(self.ejected).unwrap_or(0);
        if self.percent() > 0 {
            self.take_note();
        }
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        if turn.checked_rem(LOOK_AFTER) == Some(0) {
            self.look_after(gauge);
        }
        if gauge == 0 {
            return;
        }
        match self.read(gauge).phase {
            Phase::Ramp(_) => self.back(hostcalls::monotonic().0),
            Phase::Probing { owner, .. } if recovery::is_declared_dead(vm_of(owner)) => {
                self.probe_ended(owner, Ended::Nothing);
            }
            Phase::Probing { .. } => self.give_up(hostcalls::monotonic().0),
            _ => {}
        }
    }

    /// The answer to the probe of `owner` began well, as in [`Record::probe_begun`].
    pub fn probe_begun(&self, owner: u64) {
        self.change(|record| record.probe_begun(owner));
    }

    /// Ejects home anew where its probe is not answered in time, or lets the probe go.
    fn give_up(&self, now: u64) {
        let Some(after) = self.change(|record| record.overdue(&self.detection, now)) else {
            return;
        };
        if matches!(after.phase, Phase::Ramp(_)) {
            self.say_answered();
        } else if after.lasts(now) > 0 {
            self.say_ejected(&after, now, "the probe is not answered");
        }
    }

    #[inline(never)]
    fn take_note(&self) {
        let (interval, now) = (self.detection.interval, hostcalls::monotonic().0);
        let mut error_rate = self.error_rate.get();
        if error_rate.is_due(Millis(interval), Instant(now)) {
            error_rate.note(self.note(now));
            self.error_rate.set(error_rate);
        }
    }

    /// Mends what others have done to the record or to its gauge, which any module of the proxy can write: a record that is
    /// gone is written again, and the gauge driven to what the record says.
    #[inline(never)]
    fn look_after(&self, gauge: u64) {
        let Some((bytes, number)) = hostcalls::shared(&self.key) else {
            // There is none before the first error.
            if gauge != 0 {
                prepare(&self.key);
            }
            return;
        };
        let record = Record::from_bytes(&bytes);
        let by = record.phase.shown().wrapping_sub(gauge.cast_signed());
        let seen = match self.differ.get() {
            (its, of, seen) if by != 0 && (its, of) == (gauge, record) => seen.saturating_add(1),
            _ => 0,
        };
        self.differ.set((gauge, record, seen));
        if by == 0 || seen < LOOKS.saturating_add(recovery::id() % SPREAD) {
            return;
        }
        // Whoever wrote meanwhile, or mends too, makes this fail.
        if hostcalls::write_again(&self.key, &bytes, Some(number)) {
            hostcalls::add(self.ejected, by);
        }
    }

    fn back(&self, now: u64) {
        if self
            .change(|record| record.back(&self.detection, now))
            .is_some()
        {
            self.say_back();
        }
    }

    fn saw(&self, well: bool) {
        let mut sampling = self.sampling.get();
        sampling.saw(well);
        self.sampling.set(sampling);
    }

    fn read(&self, gauge: u64) -> Record {
        let bytes = hostcalls::recall_bytes(&self.key).unwrap_or_default();
        let record = Record::from_bytes(&bytes);
        self.last.set(Some((gauge, record)));
        record
    }

    fn change(&self, to: impl Fn(&Record) -> Option<Record>) -> Option<Record> {
        change(&self.key, self.ejected, &to)
    }
}

/// Changes the record under `key`, and the gauge with it: what it is now. Nothing where `to` says that there is nothing to
/// change.
#[inline(never)]
fn change(key: &str, gauge: Metric, to: &dyn Fn(&Record) -> Option<Record>) -> Option<Record> {
    let (before, after) = hostcalls::exchange(key, |bytes| {
        let before = Record::from_bytes(bytes);
        let after = to(&before)?;
        Some((after.to_bytes().to_vec(), (before, after)))
    })?;
    let moved = after.phase.shown().saturating_sub(before.phase.shown());
    if moved != 0 {
        hostcalls::add(gauge, moved);
    }
    Some(after)
}

#[inline(never)]
fn prepare(key: &str) {
    hostcalls::prepare(key, &Record::default().to_bytes());
}

/// Makes home available where it was ejected and errors eject nobody any more. The gauge is `ejected`.
pub fn forget(labels: &Labels, gauge: Metric) {
    if hostcalls::read(gauge).is_some_and(|value| value != 0) {
        change(&key(labels), gauge, &|record| {
            (record.phase.shown() != 0).then(Record::default)
        });
        lines::forget(&key(labels));
    }
}

/// Shared data is one space for all plugins of a proxy, so the key says whose it is.
fn key(labels: &Labels) -> String {
    metric(&labels.pairs(), "errors")
}

/// Who a stream of this VM is as a probe, among all of the proxy.
pub fn owner(stream: u32) -> u64 {
    u64::from(recovery::id()) << 32 | u64::from(stream)
}

fn vm_of(owner: u64) -> Vm {
    // The upper half of 64 bits has 32.
    (owner >> 32) as Vm
}
