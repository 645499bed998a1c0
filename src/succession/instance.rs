//! What this VM knows of one of its root contexts, and says of it.

use core::cell::Cell;
use std::rc::Rc;

use super::announcement::{self, build, build_key, role_key};
use super::{Sides, Standing};
use crate::hostcalls::{self, Metric};
use crate::plugin::Plugin;
use crate::recovery;
use crate::succession::sign::Sign;
use config::Role;
use policy::recovery::shared_count::SharedCount;

/// What a root context runs.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) role: Role,
    /// `info`, then `configured`.
    pub(super) gauges: [Option<Sign>; 2],
    pub(super) heartbeat: Option<Metric>,
    pub(super) workers: Option<Metric>,
    pub(super) at_work: Rc<Plugin>,
}

pub(super) struct Instance {
    /// 0 where it has ended, and what it ran is kept for one that was refused.
    pub(super) root: u32,
    pub(super) plugin: String,
    pub(super) sides: Sides,
    /// Nothing where the configuration was refused and there was nothing to go on with.
    pub(super) work: Option<Work>,
    pub(super) refused: bool,
    /// That it was refused, where it was and Envoy keeps the count, and in which role.
    pub(super) refusal: Option<(Rc<SharedCount>, Option<Role>)>,
    /// The count includes it.
    pub(super) shows_refusal: bool,
    pub(super) standing: Rc<Cell<Standing>>,
    /// Its gauges include it.
    pub(super) announced: bool,
    /// Ticks since it last showed that it is alive.
    pub(super) silent: u8,
    /// They did at some time.
    pub(super) was_announced: bool,
    /// It does not tick.
    pub(super) rests: bool,
}

impl Instance {
    pub(super) fn new(
        root: u32,
        plugin: &str,
        work: Option<Work>,
        standing: &Rc<Cell<Standing>>,
    ) -> Instance {
        Instance {
            root,
            plugin: plugin.to_owned(),
            sides: 0,
            work,
            refused: false,
            refusal: None,
            shows_refusal: false,
            standing: Rc::clone(standing),
            announced: false,
            silent: 0,
            was_announced: false,
            rests: false,
        }
    }

    /// Whether it is of this plugin, and may be of a listener of this side.
    pub(super) fn is_of(&self, plugin: &str, side: Sides) -> bool {
        self.plugin == plugin && (self.sides == 0 || side == 0 || self.sides & side != 0)
    }

    /// Whether it was refused, and does not go on yet with what ran on this side.
    pub(super) fn may_want(&self, plugin: &str, side: Sides) -> bool {
        let goes_on = self.is_of(plugin, side) && self.standing.get() != Standing::Before;
        self.plugin == plugin && self.refused && !goes_on
    }

    /// What it runs of this plugin, in this role where one is asked for.
    pub(super) fn at_work(&self, plugin: &str, role: Option<Role>) -> Option<&Rc<Plugin>> {
        let work = self.work.as_ref().filter(|_| self.plugin == plugin)?;
        let its = role.is_none_or(|role| role == work.role);
        its.then_some(&work.at_work)
    }

    /// Whether it runs something of that.
    pub(super) fn runs(&self, plugin: &str, role: Option<Role>) -> bool {
        self.at_work(plugin, role).is_some()
    }

    /// Says that it runs, once, and that it is alive.
    pub(super) fn announce(&mut self) {
        let Some(work) = &self.work else { return };
        if !self.was_announced {
            self.was_announced = true;
            // Not again when it comes back: that may be in a VM of a module that was replaced, whose streams end one by one.
            // Where all went back to that module, the main thread was configured anew.
            hostcalls::remember(&role_key(&self.plugin), work.role.word());
            hostcalls::remember(&build_key(&self.plugin), &build());
        }
        if !self.announced {
            self.announced = true;
            work.gauges.iter().flatten().for_each(Sign::show);
            if !self.refused {
                announcement::begins(&work.at_work);
            }
        }
        self.silent = 0;
        if let Some(gauge) = work.heartbeat {
            hostcalls::record(gauge, hostcalls::now());
        }
        if let (Some(workers), [_, Some(configured)]) = (work.workers, &work.gauges) {
            // One of the VMs is the main thread's.
            let vms = hostcalls::read(configured.total()).unwrap_or(0);
            hostcalls::record(workers, vms.saturating_sub(1));
        }
    }

    /// Takes back that it runs. What comes in its place has the configuration of the digest `next`, if anything does.
    pub(super) fn retract(&mut self, next: u64) {
        if let Some(work) = self.work.as_ref().filter(|_| self.announced) {
            work.gauges.iter().flatten().for_each(Sign::hide);
            if !self.refused && work.at_work.digest != next {
                announcement::ends(&work.at_work);
            }
        }
        self.announced = false;
    }

    /// Says that its configuration was refused, and that none has come in its place, or takes that back. True where that
    /// changes anything.
    #[inline(never)]
    pub(super) fn show_refusal(&mut self, shows: bool) -> bool {
        let Some((count, _)) = self
            .refusal
            .as_ref()
            .filter(|_| shows != self.shows_refusal)
        else {
            return false;
        };
        self.shows_refusal = shows;
        if shows {
            recovery::add(count);
        } else {
            recovery::release(count);
        }
        true
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.retract(0);
        self.show_refusal(false);
    }
}
