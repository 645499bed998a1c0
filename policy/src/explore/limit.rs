//! What is shown of services that were used, while the VMs come to a new configuration one by one: VMs that drive [`Left`], one
//! for the root context of each of two listeners. The host, the index with its writes, and a first use are a model.

use std::collections::VecDeque;

use super::{World, explore};
use crate::left::{Left, Stands, Step};

/// The service of this number of a configuration: its limit, and whether its errors are looked at; none where it is not there.
type Configuration = [Option<(u32, bool)>; 2];

/// In the index, of another plugin.
const FOREIGN: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// A request of a service.
    Use(usize),
    /// The errors of one that was asked for before eject it.
    Eject(usize),
    /// The listener of the first number has the configuration of the second, and all root contexts tick.
    Configure(usize, usize),
    /// Envoy goes back to the root context that a listener had before, and all root contexts tick.
    Again(usize),
    /// The root context of a listener ends, and the other one ticks.
    End(usize),
    /// It dies between two callbacks, and a new VM with the configuration of this number in the first listener takes its place.
    Die(usize),
}

/// One hostcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// Reads the index for the first use of a service, and writes it with that, if nobody else wrote.
    Read(usize),
    Write(usize, usize),
    /// Shows the limit that was configured when it was used.
    Show(usize, u32),
    /// A tick of a listener's root context begins.
    Tick(usize),
    /// What its machine asks for.
    Left(usize, Step),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Root {
    configuration: Option<usize>,
    left: Left,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Vm {
    script: VecDeque<Op>,
    todo: VecDeque<Next>,
    roots: [Root; 2],
    /// What took the place of another, and what it took the place of.
    before: [Root; 2],
    changes: u32,
    used: [bool; 2],
    /// The index as it was last read.
    known: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Limits {
    vms: Vec<Vm>,
    configurations: [Configuration; 4],
    index: Vec<usize>,
    limit: [u32; 2],
    ejected: [bool; 2],
}

impl Vm {
    fn new(configuration: usize) -> Vm {
        let mut vm = Vm {
            changes: 1,
            ..Vm::default()
        };
        vm.roots[0].configuration = Some(configuration);
        vm
    }

    fn changed(&mut self) {
        self.changes += 1;
        self.tick();
    }

    fn tick(&mut self) {
        let run = |root: &usize| self.roots[*root].configuration.is_some();
        let ticks = (0..2).filter(run).map(Next::Tick);
        self.todo.extend(ticks);
    }
}

impl Limits {
    /// How a service is configured in a listener of a VM.
    fn of(&self, vm: usize, root: usize, service: usize) -> Option<(u32, bool)> {
        let configuration = self.vms[vm].roots[root].configuration?;
        self.configurations[configuration][service]
    }

    /// As that, in whichever listener has it.
    fn anywhere(&self, vm: usize, service: usize) -> Option<(u32, bool)> {
        (0..2).find_map(|root| self.of(vm, root, service))
    }

    fn stands(&self, vm: usize, root: usize, n: usize) -> Stands {
        match self.vms[vm].known.get(n) {
            None => Stands::End,
            Some(&FOREIGN) => Stands::Others,
            Some(&service) => match (self.of(vm, root, service), self.of(vm, 1 - root, service)) {
                (Some((limit, watched)), _) => Stands::Here { limit, watched },
                (None, Some(_)) => Stands::Others,
                (None, None) => Stands::Nowhere,
            },
        }
    }

    /// Goes on with the machine of a root context up to its next hostcall.
    fn go_on(&mut self, vm: usize, root: usize) {
        let mut stands = Stands::End;
        loop {
            match self.vms[vm].roots[root].left.next(stands) {
                Step::Ask(n) => stands = self.stands(vm, root, n),
                Step::Done => return,
                step => return self.vms[vm].todo.push_front(Next::Left(root, step)),
            }
        }
    }

    fn call(&mut self, vm: usize, next: Next) {
        let one = &mut self.vms[vm];
        match next {
            Next::Read(service) if !self.index.contains(&service) => {
                one.todo.push_front(Next::Write(service, self.index.len()));
            }
            Next::Read(_) => {}
            // The index only grows, so its length tells whether it was written.
            Next::Write(service, length) if self.index.len() == length => self.index.push(service),
            Next::Write(service, _) => one.todo.push_front(Next::Read(service)),
            Next::Show(service, limit) => self.limit[service] = limit,
            Next::Tick(root) => {
                let changes = one.changes;
                one.roots[root].left.tick(changes);
                self.go_on(vm, root);
            }
            Next::Left(root, step) => {
                match step {
                    Step::List => one.known.clone_from(&self.index),
                    Step::Show(n, limit) => self.limit[one.known[n]] = limit,
                    Step::Available(n) => self.ejected[one.known[n]] = false,
                    Step::Ask(_) | Step::Done => panic!("no hostcall: {step:?}"),
                }
                self.go_on(vm, root);
            }
        }
    }

    fn begin(&mut self, vm: usize, op: Op) {
        let of = |service| self.anywhere(vm, service);
        match op {
            Op::Use(service) => {
                // A service that is not configured is used by no request.
                if let Some((limit, _)) = of(service).filter(|_| !self.vms[vm].used[service]) {
                    let one = &mut self.vms[vm];
                    one.used[service] = true;
                    let first = [Next::Read(service), Next::Show(service, limit)];
                    one.todo.extend(first);
                }
            }
            Op::Eject(service) => self.ejected[service] |= self.vms[vm].used[service],
            Op::Configure(root, configuration) => {
                let one = &mut self.vms[vm];
                let new = Root {
                    configuration: Some(configuration),
                    left: Left::default(),
                };
                one.before[root] = std::mem::replace(&mut one.roots[root], new);
                one.changed();
            }
            Op::Again(root) => {
                let one = &mut self.vms[vm];
                std::mem::swap(&mut one.roots[root], &mut one.before[root]);
                one.changed();
            }
            Op::End(root) => {
                let one = &mut self.vms[vm];
                one.roots[root] = Root::default();
                one.changed();
            }
            Op::Die(configuration) => {
                let mut new = Vm::new(configuration);
                new.script = self.vms[vm].script.clone();
                new.tick();
                self.vms[vm] = new;
            }
        }
    }
}

impl World for Limits {
    fn vms(&self) -> usize {
        self.vms.len()
    }

    fn step(&mut self, vm: usize) -> bool {
        if let Some(next) = self.vms[vm].todo.pop_front() {
            self.call(vm, next);
        } else if let Some(op) = self.vms[vm].script.pop_front() {
            self.begin(vm, op);
        } else {
            return false;
        }
        true
    }

    fn always(&self) {}

    fn finally(&self) {
        let runs = |vm: &Vm| vm.roots.each_ref().map(|root| root.configuration);
        assert!(self.vms.iter().all(|vm| runs(vm) == runs(&self.vms[0])));
        for service in self.index.iter().filter(|service| **service != FOREIGN) {
            let right = self.anywhere(0, *service).map_or(0, |(limit, _)| limit);
            assert_eq!(self.limit[*service], right, "{service}: {self:?}");
        }
        // What a request ejected late is seen to in turns.
        let mut world = self.clone();
        for vm in (0..self.vms.len()).cycle().take(12) {
            world.vms[vm].tick();
            while world.step(vm) {}
        }
        for service in 0..2 {
            let watched = self
                .anywhere(0, service)
                .is_some_and(|(_, watched)| watched);
            assert!(watched || !world.ejected[service], "{service}: {self:?}");
        }
    }
}

use Op::*;

/// Explores scripts of VMs that begin with the first configuration in their first listener.
#[track_caller]
fn check(configurations: [Configuration; 4], scripts: &[&[Op]]) {
    let vm = |script: &&[Op]| Vm {
        script: script.iter().copied().collect(),
        ..Vm::new(0)
    };
    let (states, ends) = explore(Limits {
        vms: scripts.iter().map(vm).collect(),
        configurations,
        index: vec![FOREIGN],
        limit: [0; 2],
        ejected: [false; 2],
    });
    assert!(states > 50 && ends > 0, "{states} states, {ends} ends");
}

/// Configurations of one service, which has these limits; none where that is 0.
fn limits(of: [u32; 3]) -> [Configuration; 4] {
    let [a, b, c] = of.map(|n| [(n > 0).then_some((n, true)), None]);
    [a, b, c, [None; 2]]
}

#[test]
fn when_all_vms_run_one_configuration_the_limit_is_the_one_it_has() {
    let [to_1, to_2] = [Configure(0, 1), Configure(0, 2)];
    let scripts: [[&[Op]; 3]; 5] = [
        [&[Use(0), to_2], &[to_2, Use(0)], &[Use(0), Die(2)]],
        [
            &[Use(0), to_1, to_2],
            &[Use(0), to_2, Use(0)],
            &[to_1, Use(0), to_2],
        ],
        [
            &[to_1, to_2],
            &[Use(0), Die(1), Use(0), to_2],
            &[Use(0), to_2],
        ],
        // It goes back to the one before.
        [
            &[Use(0), to_1, Configure(0, 0)],
            &[to_1, Configure(0, 0), Use(0)],
            &[Use(0)],
        ],
        [
            &[Use(0), to_1, Again(0)],
            &[to_1, Again(0), Use(0)],
            &[to_1, Use(0), Again(0)],
        ],
    ];
    for of in [[3, 5, 0], [3, 0, 7], [3, 5, 3]] {
        for scripts in &scripts {
            check(limits(of), scripts);
        }
    }
}

/// A service of each, and one that both have.
#[test]
fn what_another_listener_serves_is_shown_until_that_ends() {
    let (a, b) = (Some((3, true)), Some((5, true)));
    let configurations = [[a, None], [None, b], [a, b], [None; 2]];
    for other in [1, 2] {
        let other = Configure(1, other);
        check(
            configurations,
            &[&[other, Use(0), Use(1)], &[Use(0), other], &[other, Use(1)]],
        );
        check(
            configurations,
            &[
                &[other, Use(1), Configure(0, 3)],
                &[Use(0), other, Configure(0, 3)],
            ],
        );
        check(
            configurations,
            &[
                &[other, Use(1), Use(0), End(1)],
                &[Use(0), other, End(1), Use(0)],
                &[Use(0)],
            ],
        );
    }
}

#[test]
fn a_service_whose_errors_are_not_looked_at_any_more_is_available_in_the_end() {
    let watched = |watched| [Some((3, watched)), Some((5, true))];
    let configurations = [watched(true), watched(false), [None; 2], [None; 2]];
    for next in [1, 2] {
        let next = Configure(0, next);
        check(
            configurations,
            &[
                &[Use(0), Use(1), Eject(0), next, Eject(0)],
                &[Use(0), next, Eject(0)],
            ],
        );
        check(
            configurations,
            &[&[Use(1), Eject(1), Configure(0, 2)], &[Configure(0, 2)]],
        );
    }
}
