//! The slots of the roster: who this VM is in it, and the gauges of each.

use crate::hostcalls::{self, Kind, Metric};
use crate::metrics::counts;
use crate::recovery::account::Account;
use policy::names;
use policy::recovery::index;
use policy::recovery::roster::{Roster, Vm};

/// The roster, under one key for all plugins of the process: a VM may run several. The number is the version of the roster and of
/// the shares: modules of two versions in one process, as in an upgrade, each repair what their own VMs counted.
pub const ROSTER: &str = "peer_spillover_roster.2";
/// The index of all accounts that any of them has opened.
pub const INDEX: &str = "peer_spillover_accounts";
/// Counts the changes of the roster, so that it is read only after one.
const CHANGES: &str = "roster_changes";

/// What this VM is.
pub struct Place {
    pub vm: Vm,
    pub slot: usize,
    pub process: u32,
    pub beat: Option<Metric>,
}

impl Place {
    pub fn new(vm: Vm, slot: usize, process: u32) -> Place {
        Place {
            vm,
            slot,
            process,
            beat: beat(process, slot).filter(|beat| counts(*beat)),
        }
    }

    /// Our share in this slot, driven to what we hold: what a VM before us has left there goes. None where Envoy would not
    /// keep it: then the total is kept all the same, and survives no crash.
    pub fn give_share(&self, account: &Account) {
        let share = share_of(account, self.process, self.slot).filter(|share| counts(*share));
        account.go_on(share);
    }
}

/// Makes the first write of roster and index, if nobody did.
pub fn prepare() {
    // In units of 17 ms, in which no process of a hot restart begins after another: it takes longer to compile the module.
    let process = (hostcalls::now_nanos() >> 24) as u32;
    hostcalls::prepare(ROSTER, &Roster::new(process).to_bytes());
    hostcalls::prepare(INDEX, &index::with(b"", ""));
}

/// An account's share in a slot, which is defined once in this VM.
pub fn share_of(account: &Account, process: u32, slot: usize) -> Option<Metric> {
    account.share_in(slot, |name| {
        hostcalls::metric(Kind::Gauge, &label(process, slot, name))
    })
}

/// Changes the roster, and says that it was changed: what `to` gives beside it.
pub fn change<T>(to: impl Fn(&Roster) -> Option<(Roster, T)>) -> Option<T> {
    let (process, result) = hostcalls::exchange(ROSTER, |bytes| {
        let (roster, result) = to(&Roster::from_bytes(bytes)?)?;
        Some((roster.to_bytes(), (roster.process, result)))
    })?;
    if let Some(changes) = changes(process) {
        hostcalls::add(changes, 1);
    }
    Some(result)
}

/// The gauge that counts the changes of the roster.
pub fn changes(process: u32) -> Option<Metric> {
    let name = names::metric(&[("worker", &process.to_string())], CHANGES);
    hostcalls::metric(Kind::Gauge, &name)
}

/// The beat of a slot's owner.
pub fn beat(process: u32, slot: usize) -> Option<Metric> {
    hostcalls::metric(Kind::Gauge, &label(process, slot, "beats"))
}

/// Metrics of one slot say whose they are: `peer_spillover_worker=.=PROCESS-SLOT;.;` and then `name`.
fn label(process: u32, slot: usize, name: &str) -> String {
    names::metric(&[("worker", &format!("{process}-{slot}"))], name)
}
