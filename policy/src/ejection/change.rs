//! The changes of a record that a VM makes.

use super::{Detection, Ended, Record};
use crate::response::Failure;
use crate::time::Instant;

/// A change of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// An error of the destination, as in [`Record::failed`].
    Failed {
        /// The kind of the error.
        failure: Failure,
        /// The count of good answers.
        successes: u64,
        /// Whether errors are as large a part of the answers as is configured.
        enough: bool,
    },
    /// A request becomes the probe, as in [`Record::probed_by`].
    Claim {
        /// The owner of the probe.
        owner: u64,
        /// Whether its request is known to be complete.
        whole: bool,
    },
    /// The answer to the probe of this owner began well, as in [`Record::probe_begun`].
    Begun(u64),
    /// The probe of this owner ended, as in [`Record::probe_ended`].
    Ended(u64, Ended),
    /// The probe has not ended in time, as in [`Record::overdue`].
    Overdue,
    /// The ramp is over, as in [`Record::back`].
    Back,
    /// Ejection is disabled from now on.
    Forget,
}

impl Change {
    pub(super) fn of(self, record: &Record, detection: &Detection, now: Instant) -> Option<Record> {
        match self {
            Change::Failed {
                failure,
                successes,
                enough,
            } => record.failed(failure, detection, successes, enough, now),
            Change::Claim { owner, whole } => record.probed_by(owner, whole, detection, now),
            Change::Begun(owner) => record.probe_begun(owner),
            Change::Ended(owner, how) => record.probe_ended(owner, how, detection, now),
            Change::Overdue => record.overdue(detection, now),
            Change::Back => record.back(detection, now),
            Change::Forget => (record.phase.shown() != 0).then(Record::default),
        }
    }
}
