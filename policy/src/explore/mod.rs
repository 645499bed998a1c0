//! Every order of the hostcalls of a few VMs, and of their deaths, followed to its end.
//!
//! A VM here does what the filter does, hostcall by hostcall, with the policy's own steps in between; one hostcall is one
//! move. States that were seen are not followed again, so all orders of some dozen hostcalls of three VMs are a matter of
//! seconds. [`counts`] has the counts, their shares and the repair; [`dispatch`] where each request goes; [`ejection`] the
//! errors, the probe and the gauge; [`peers`] both of these at two peers, while a VM dies; [`limit`] which configuration's limit is shown, and what is not watched any more.

mod counts;
mod dispatch;
mod ejection;
mod limit;
mod peers;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A world of VMs.
trait World: Clone + Hash {
    /// How many VMs there are.
    fn vms(&self) -> usize;
    /// Makes the next hostcall of a VM; false where it has none.
    fn step(&mut self, vm: usize) -> bool;
    /// What must hold at any time.
    fn always(&self);
    /// What must hold when no VM has anything to do.
    fn finally(&self);
}

/// Follows every order from `world`. Returns how many states and how many ends there were.
fn explore<W: World>(world: W) -> (usize, usize) {
    // Of a state its hash is kept: of a million, two have the same once in thirty million times.
    let mut seen = HashSet::new();
    let mut ends = 0;
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        if !seen.insert(hasher.finish()) {
            continue;
        }
        world.always();
        let mut ended = true;
        for vm in 0..world.vms() {
            let mut next = world.clone();
            if next.step(vm) {
                ended = false;
                open.push(next);
            }
        }
        if ended {
            ends += 1;
            world.finally();
        }
    }
    (seen.len(), ends)
}
