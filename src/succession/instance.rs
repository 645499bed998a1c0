//! What this VM knows of one of its root contexts, and what it announces of it.

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

/// The configuration that a root context runs, and the metrics that show it.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) role: Role,
    /// The gauge `info`, then the gauge `configured`.
    pub(super) gauges: [Option<Sign>; 2],
    pub(super) heartbeat: Option<Metric>,
    pub(super) workers: Option<Metric>,
    pub(super) at_work: Rc<Plugin>,
}

pub(super) struct Instance {
    /// 0 if it has ended, and its configuration is kept for a root context whose own was refused.
    pub(super) root: u32,
    pub(super) plugin: String,
    pub(super) sides: Sides,
    /// `None` if its configuration was refused and there was no other to go on with.
    pub(super) work: Option<Work>,
    pub(super) refused: bool,
    /// The count of refusals, and the role that the refused configuration said. `None` if it was not refused, or Envoy keeps
    /// no such count.
    pub(super) refusal: Option<(Rc<SharedCount>, Option<Role>)>,
    /// Whether the count of refusals includes it.
    pub(super) shows_refusal: bool,
    pub(super) standing: Rc<Cell<Standing>>,
    /// Whether its gauges include it.
    pub(super) announced: bool,
    /// The number of ticks since it last showed that it is alive.
    pub(super) silent: u8,
    /// Whether its gauges have included it at some time.
    pub(super) was_announced: bool,
    /// Whether its ticks are stopped.
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

    /// Whether it belongs to this plugin, and may belong to a listener of this side.
    pub(super) fn is_of(&self, plugin: &str, side: Sides) -> bool {
        self.plugin == plugin && (self.sides == 0 || side == 0 || self.sides & side != 0)
    }

    /// Whether its configuration was refused, and it does not go on yet with one that ran on this side.
    pub(super) fn may_want(&self, plugin: &str, side: Sides) -> bool {
        let goes_on = self.is_of(plugin, side) && self.standing.get() != Standing::Before;
        self.plugin == plugin && self.refused && !goes_on
    }

    /// The configuration that it runs for this plugin, and in this role if one is given.
    pub(super) fn at_work(&self, plugin: &str, role: Option<Role>) -> Option<&Rc<Plugin>> {
        let work = self.work.as_ref().filter(|_| self.plugin == plugin)?;
        let its = role.is_none_or(|role| role == work.role);
        its.then_some(&work.at_work)
    }

    /// Whether it runs a configuration of this plugin and role.
    pub(super) fn runs(&self, plugin: &str, role: Option<Role>) -> bool {
        self.at_work(plugin, role).is_some()
    }

    /// Announces that it runs, if it has not done so, and shows that it is alive.
    pub(super) fn announce(&mut self) {
        let Some(work) = &self.work else { return };
        if !self.was_announced {
            self.was_announced = true;
            // This is not written again when it comes back, because that may happen in a VM of a module that was replaced,
            // whose streams end one by one. If the whole proxy went back to that module, its main thread was configured anew.
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
            // One of the VMs belongs to the main thread.
            let vms = hostcalls::read(configured.total()).unwrap_or(0);
            hostcalls::record(workers, vms.saturating_sub(1));
        }
    }

    /// Retracts what it announced. `next` is the digest of the configuration that comes in its place, or 0.
    pub(super) fn retract(&mut self, next: u64) {
        if let Some(work) = self.work.as_ref().filter(|_| self.announced) {
            work.gauges.iter().flatten().for_each(Sign::hide);
            if !self.refused && work.at_work.digest != next {
                announcement::ends(&work.at_work);
            }
        }
        self.announced = false;
    }

    /// Shows that its configuration was refused and that none has come in its place, or stops showing it. Returns whether that
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
