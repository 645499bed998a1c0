//! A gauge of the process by which a VM shows something about itself. It adds itself once, whichever number of its root
//! contexts have a reason to.

use core::cell::Cell;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Metric};
use crate::recovery;
use policy::recovery::shared_count::SharedCount;

/// A gauge that includes a VM as long as any of the VM's root contexts has a reason.
#[derive(Clone)]
pub struct Sign {
    count: Rc<SharedCount>,
    /// The number of root contexts with a reason.
    reasons: Rc<Cell<u32>>,
}

/// The gauge with this name, if Envoy keeps it.
pub fn count(name: &str) -> Option<Rc<SharedCount>> {
    let total = hostcalls::metric(Kind::Gauge, name)?;
    recovery::count(name.to_owned(), total)
}

impl Sign {
    /// A sign without a reason.
    pub fn new(count: Rc<SharedCount>) -> Sign {
        Sign {
            count,
            reasons: Rc::default(),
        }
    }

    /// Whether this is the sign of that gauge. A VM has one for each gauge.
    pub fn is_of(&self, count: &Rc<SharedCount>) -> bool {
        Rc::ptr_eq(&self.count, count)
    }

    /// The gauge.
    pub fn total(&self) -> Metric {
        self.count.total()
    }

    /// One more root context has a reason.
    pub fn show(&self) {
        let before = self.reasons.get();
        self.reasons.set(before.saturating_add(1));
        if before == 0 {
            recovery::add(&self.count);
        }
    }

    /// One root context less has a reason.
    pub fn hide(&self) {
        let left = self.reasons.get().saturating_sub(1);
        self.reasons.set(left);
        if left == 0 {
            recovery::release(&self.count);
        }
    }
}
