//! How an exploration came to a state, for a test that fails.

use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::recovery::Step;

/// The steps that led to a state, the last first. It is no part of the state.
#[derive(Clone, Default)]
pub(super) struct Trace(Option<Rc<(usize, Step, Trace)>>);

impl Trace {
    /// One step more.
    pub(super) fn then(&mut self, vm: usize, step: Step) {
        let before = std::mem::take(self);
        *self = Trace(Some(Rc::new((vm, step, before))));
    }
}

impl Hash for Trace {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Debug for Trace {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let mut steps = Vec::new();
        let mut trace = self;
        while let Some(last) = &trace.0 {
            steps.push(last);
            trace = &last.2;
        }
        for step in steps.iter().rev() {
            write!(f, "\n  VM {}: {:?}", step.0, step.1)?;
        }
        Ok(())
    }
}
