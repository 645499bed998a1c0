//! The threads of a case, of which one runs at a time.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};

use crate::world::World;

/// A case at work.
#[derive(Debug)]
pub struct Case {
    /// What repeats it.
    pub seed: u64,
    world: Mutex<World>,
    turn: AtomicUsize,
    threads: OnceLock<Vec<Thread>>,
}

impl Case {
    /// A case in which nobody runs yet but the runner, whose seat is behind those of the VMs.
    pub fn new(seed: u64, world: World) -> Case {
        let runner = world.vms.len();
        Case {
            seed,
            world: Mutex::new(world),
            turn: AtomicUsize::new(runner),
            threads: OnceLock::new(),
        }
    }

    /// Tells it its threads: those of the VMs, then the runner.
    pub fn seat(&self, threads: Vec<Thread>) {
        let _ = self.threads.set(threads);
    }

    /// All that the host knows. Whoever has it calls nothing of the filter's meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `other` run until it is the turn of `me` again.
    pub fn pass(&self, me: usize, other: usize) {
        self.leave_to(other);
        self.wait(me);
    }

    /// Lets `other` run.
    pub fn leave_to(&self, other: usize) {
        self.turn.store(other, Ordering::Release);
        if let Some(thread) = self.threads.get().and_then(|threads| threads.get(other)) {
            thread.unpark();
        }
    }

    /// Until it is the turn of `me`.
    pub fn wait(&self, me: usize) {
        while self.turn.load(Ordering::Acquire) != me {
            thread::park();
        }
    }
}

thread_local! {
    static SEAT: RefCell<Option<(Arc<Case>, usize)>> = const { RefCell::new(None) };
}

/// Makes this thread the VM `me` of `case`.
pub fn sit(case: &Arc<Case>, me: usize) {
    SEAT.with(|seat| *seat.borrow_mut() = Some((Arc::clone(case), me)));
}

/// Makes this thread nobody's: what it calls from now on has no effect.
pub fn stand_up() {
    SEAT.with(|seat| *seat.borrow_mut() = None);
}

/// The case and the VM of this thread, if it is one's.
pub fn seat() -> Option<(Arc<Case>, usize)> {
    SEAT.try_with(|seat| seat.borrow().clone()).ok().flatten()
}
