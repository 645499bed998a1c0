//! What a VM says of itself in a gauge of the process, once, however many of its root contexts have reason to.

use core::cell::Cell;
use std::rc::Rc;

use crate::hostcalls::{self, Kind, Metric};
use crate::recovery;
use crate::recovery::account::Account;

/// A gauge of which a VM is 1 as long as any of its root contexts has reason to say so.
#[derive(Clone)]
pub struct Sign {
    account: Rc<Account>,
    /// How many have.
    reasons: Rc<Cell<u32>>,
}

/// The count by this name, if Envoy keeps it.
pub fn account(name: &str) -> Option<Rc<Account>> {
    let total = hostcalls::metric(Kind::Gauge, name)?;
    recovery::account(name.to_owned(), total)
}

impl Sign {
    /// One that nobody shows yet.
    pub fn new(account: Rc<Account>) -> Sign {
        Sign {
            account,
            reasons: Rc::default(),
        }
    }

    /// Whether it is that of this count, of which a VM has one.
    pub fn is_of(&self, account: &Rc<Account>) -> bool {
        Rc::ptr_eq(&self.account, account)
    }

    /// The gauge.
    pub fn total(&self) -> Metric {
        self.account.total()
    }

    /// There is one reason more.
    pub fn show(&self) {
        let before = self.reasons.get();
        self.reasons.set(before.saturating_add(1));
        if before == 0 {
            self.account.add(1);
        }
    }

    /// There is one reason less.
    pub fn hide(&self) {
        let left = self.reasons.get().saturating_sub(1);
        self.reasons.set(left);
        if left == 0 {
            self.account.release(1);
        }
    }
}
