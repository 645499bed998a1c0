//! What a VM says of itself in a gauge of the process, once, however many of its root contexts have reason to.

use core::cell::Cell;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Metric};
use crate::recovery;
use policy::recovery::shared_count::SharedCount;

/// A gauge of which a VM is 1 as long as any of its root contexts has reason to say so.
#[derive(Clone)]
pub struct Sign {
    count: Rc<SharedCount>,
    /// How many have.
    reasons: Rc<Cell<u32>>,
}

/// The count by this name, if Envoy keeps it.
pub fn count(name: &str) -> Option<Rc<SharedCount>> {
    let total = hostcalls::metric(Kind::Gauge, name)?;
    recovery::count(name.to_owned(), total)
}

impl Sign {
    /// One that nobody shows yet.
    pub fn new(count: Rc<SharedCount>) -> Sign {
        Sign {
            count,
            reasons: Rc::default(),
        }
    }

    /// Whether it is that of this count, of which a VM has one.
    pub fn is_of(&self, count: &Rc<SharedCount>) -> bool {
        Rc::ptr_eq(&self.count, count)
    }

    /// The gauge.
    pub fn total(&self) -> Metric {
        self.count.total()
    }

    /// There is one reason more.
    pub fn show(&self) {
        let before = self.reasons.get();
        self.reasons.set(before.saturating_add(1));
        if before == 0 {
            recovery::add(&self.count);
        }
    }

    /// There is one reason less.
    pub fn hide(&self) {
        let left = self.reasons.get().saturating_sub(1);
        self.reasons.set(left);
        if left == 0 {
            recovery::release(&self.count);
        }
    }
}
