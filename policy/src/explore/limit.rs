//! The gauge `limit` while the VMs come to a new configuration one by one: `src/succession/left.rs`.

use std::collections::VecDeque;

use super::{World, explore};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// A request of the service.
    Use,
    /// The configuration of this number, and its first tick.
    Configure(usize),
    /// It dies between two callbacks, and a new VM with the configuration of this number takes its place.
    Die(usize),
}

/// One hostcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// Puts the service into the index.
    List,
    /// Shows the limit of the VM's configuration.
    Show,
    /// Reads the index.
    Look,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vm {
    script: VecDeque<Op>,
    todo: VecDeque<Next>,
    configuration: usize,
    used: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Limit {
    vms: Vec<Vm>,
    /// By configuration; 0 where there is no limit, or no such service.
    limits: [u32; 3],
    listed: bool,
    gauge: u32,
}

impl World for Limit {
    fn vms(&self) -> usize {
        self.vms.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        let vm = &mut self.vms[vm];
        if let Some(next) = vm.todo.pop_front() {
            match next {
                Next::List => self.listed = true,
                Next::Show => self.gauge = self.limits[vm.configuration],
                Next::Look if self.listed => vm.todo.push_back(Next::Show),
                Next::Look => {}
            }
            return true;
        }
        match vm.script.pop_front() {
            None => return false,
            // A service that is not configured is used by no request.
            Some(Op::Use) if vm.used || self.limits[vm.configuration] == 0 => {}
            Some(Op::Use) => {
                vm.used = true;
                vm.todo.extend([Next::List, Next::Show]);
            }
            Some(Op::Configure(configuration)) => {
                vm.configuration = configuration;
                vm.todo.push_back(Next::Look);
            }
            Some(Op::Die(configuration)) => {
                vm.configuration = configuration;
                vm.used = false;
                vm.todo.push_back(Next::Look);
            }
        }
        true
    }

    fn always(&self) {}

    fn finally(&self) {
        let last = self.vms[0].configuration;
        assert!(self.vms.iter().all(|vm| vm.configuration == last));
        if self.listed {
            assert_eq!(self.gauge, self.limits[last], "{self:?}");
        }
    }
}

use Op::*;

#[test]
fn when_all_vms_run_one_configuration_the_limit_is_the_one_it_has() {
    let scripts: [[&[Op]; 3]; 4] = [
        [&[Use, Configure(2)], &[Configure(2), Use], &[Use, Die(2)]],
        [
            &[Use, Configure(1), Configure(2)],
            &[Use, Configure(2), Use],
            &[Configure(1), Use, Configure(2)],
        ],
        [
            &[Configure(1), Configure(2)],
            &[Use, Die(1), Use, Configure(2)],
            &[Use, Configure(2)],
        ],
        // It goes back to the one before.
        [
            &[Use, Configure(1), Configure(0)],
            &[Configure(1), Configure(0), Use],
            &[Use],
        ],
    ];
    for limits in [[3, 5, 0], [3, 0, 7], [3, 5, 3]] {
        for scripts in scripts {
            let vms = scripts.map(|script| Vm {
                script: script.iter().copied().collect(),
                todo: VecDeque::new(),
                configuration: 0,
                used: false,
            });
            let (states, ends) = explore(Limit {
                vms: vms.to_vec(),
                limits,
                listed: false,
                gauge: 0,
            });
            assert!(states > 50 && ends > 0);
        }
    }
}
