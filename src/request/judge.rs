//! What home's answer to a request says of home, read as far as that takes. The verdicts are those of
//! [`policy::response`].

use core::mem;

use super::{GRPC_STATUS, Request};
use crate::health::{Health, owner};
use crate::hostcalls::{self, Map};
use crate::recovery;
use policy::ejection::Ended;
use policy::response::{self, Assessment, Failure};
use policy::sampling::Look;

/// By which an internal request chooses its timeouts, in milliseconds.
const TIMEOUTS: [&str; 2] = [
    "x-envoy-upstream-rq-timeout-ms",
    // The shorter of the two, or Envoy does not heed it.
    "x-envoy-upstream-rq-per-try-timeout-ms",
];
/// The status of HTTP that gRPC's DEADLINE_EXCEEDED stands for.
const DEADLINE_EXCEEDED: u32 = 504;
/// A route's timeout that ends so many milliseconds before a client's deadline is taken for it: clocks are read in whole ones.
const LATER: u64 = 5;

/// What is still to be seen of home's answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing.
    Nothing,
    /// It began well. Its trailers may say otherwise.
    Trailers,
    /// It began well. Its trailers or its end may say otherwise.
    End,
    /// It is gRPC: only its trailers tell.
    Grpc,
}

/// Until when its client waits for the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// Nobody has looked. Envoy lets a filter see a request's headers while it is under way to home, and not later.
    Unknown,
    /// The client did not say.
    Unset,
    /// Until this moment, in milliseconds of the clock that only goes forward.
    Chosen(u64),
}

impl Request {
    /// What the beginning of home's answer says of home.
    pub(super) fn judge(&mut self, health: &Health, end_of_stream: bool) {
        let look = if self.probe {
            Look::ToTheEnd
        } else {
            health.look()
        };
        if look == Look::Away {
            return;
        }
        let all = self.probe || !health.calm();
        if all {
            recovery::begins();
        }
        let header = |name| hostcalls::header(Map::Response, name);
        let mut status = header(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let mut grpc = None;
        if end_of_stream {
            grpc = header(GRPC_STATUS);
        }
        if let Some(grpc) = &grpc {
            status = response::grpc_to_http(grpc);
        }
        if !all && response::suspect(status, &health.detection) {
            recovery::begins();
        }
        if response::suspect(status, &health.detection) {
            let flags = hostcalls::number(hostcalls::RESPONSE_FLAGS);
            let details = hostcalls::property(hostcalls::CODE_DETAILS).unwrap_or_default();
            let said = (status, grpc.is_some());
            match response::verdict(said, flags, &details, &health.detection, self.probe) {
                Assessment::Failed(_) if self.is_the_clients(health, said, flags) => {
                    self.give_up_probe(health);
                    return;
                }
                Assessment::Failed(failure) => {
                    self.failed(health, failure, &format!("{} ({details})", what(said)));
                    return;
                }
                Assessment::Nothing if grpc.is_some() && response::lasted_too_long(&details) => {
                    self.give_up_probe(health);
                    return;
                }
                Assessment::Nothing => {
                    self.end_probe(health, Ended::Nothing);
                    return;
                }
                Assessment::Well => {}
            }
        } else if all
            && !hostcalls::property(hostcalls::CODE_DETAILS)
                .is_some_and(|details| response::came_from_home(&details))
        {
            self.end_probe(health, Ended::Nothing);
            return;
        }
        if end_of_stream {
            self.succeeded(health);
        } else if all && header("content-type").is_some_and(|kind| response::is_grpc(&kind)) {
            self.watch = Watch::Grpc;
            if self.probe {
                health.probe_begun(owner(self.id));
            }
        } else {
            self.succeeded(health);
            self.watch = if look == Look::ToTheEnd {
                Watch::End
            } else {
                Watch::Trailers
            };
        }
    }

    pub(super) fn judge_trailers(&mut self, health: &Health) {
        let only_now = mem::replace(&mut self.watch, Watch::Nothing) == Watch::Grpc;
        let grpc = hostcalls::header(Map::ResponseTrailers, GRPC_STATUS);
        let status = grpc.map_or(200, |status| response::grpc_to_http(&status));
        let said = (status, true);
        match response::failure(status) {
            Some(_) if self.is_the_clients(health, said, 0) => self.give_up_probe(health),
            Some(failure) => self.failed(health, failure, &what(said)),
            None if only_now => self.succeeded(health),
            None => {}
        }
    }

    /// Sees to an answer that home broke off, to a gRPC stream that its client ended, and to a probe that told nothing.
    pub(super) fn judge_end(&mut self, health: &Health) {
        let grpc = self.watch == Watch::Grpc;
        if grpc || self.watch == Watch::End {
            let flags = hostcalls::number(hostcalls::RESPONSE_FLAGS);
            if !response::broke_off(flags) {
                if grpc {
                    // It began well, and nothing contradicted that.
                    health.succeeded();
                    self.end_probe(health, Ended::Begun);
                }
            } else if !self.is_the_clients(health, (0, grpc), flags) {
                self.failed(health, response::BROKEN, "broken off");
            }
        }
        self.end_probe(health, Ended::Nothing);
    }

    /// Whether an error is that a deadline was not met which the client chose, or may have chosen: then it says nothing of
    /// home. Of a request before which all was well for long nobody knows, and those that come after it are looked at.
    #[inline(never)]
    fn is_the_clients(&self, health: &Health, (status, grpc): (u32, bool), flags: u64) -> bool {
        let timed_out = response::timed_out(flags);
        // Home itself says so, having been told of the deadline.
        let told = grpc && !timed_out && status == DEADLINE_EXCEEDED;
        match self.deadline {
            _ if !timed_out && !told => false,
            Deadline::Unset => false,
            Deadline::Chosen(_) if told => true,
            Deadline::Chosen(at) => hostcalls::monotonic().0.saturating_add(LATER) >= at,
            Deadline::Unknown => {
                health.doubted();
                true
            }
        }
    }

    fn succeeded(&mut self, health: &Health) {
        health.succeeded();
        self.end_probe(health, Ended::Well);
    }

    fn failed(&mut self, health: &Health, failure: Failure, what: &str) {
        health.failed(failure, what);
        self.end_probe(health, Ended::Failed);
    }

    #[inline(never)]
    fn end_probe(&mut self, health: &Health, how: Ended) {
        if mem::take(&mut self.probe) {
            health.probe_ended(owner(self.id), how);
        }
    }

    /// A probe that home did not answer in the time that its client, or a limit of the stream, gave it. If its request may not
    /// be complete, that says nothing, but the next client need not try the same at once: it is let go when it is time.
    #[inline(never)]
    fn give_up_probe(&mut self, health: &Health) {
        if self.whole {
            self.end_probe(health, Ended::Nothing);
        }
        self.probe = false;
    }

    pub(super) fn with_errors(&mut self, judge: impl FnOnce(&mut Request, &Health)) {
        let plugin = self.plugin.clone();
        let service = self
            .said
            .and_then(|(index, _)| plugin.as_ref()?.service(index));
        if let Some(health) = service.and_then(|service| service.health()) {
            judge(self, health);
        }
    }
}

/// What an error was, for the log.
fn what((status, grpc): (u32, bool)) -> String {
    let kind = if grpc { "gRPC, as status" } else { "status" };
    format!("{kind} {status}")
}

/// The time in milliseconds that a header gives in this unit, or in one of its own.
#[inline(never)]
fn its(name: &str, unit: &str) -> Option<u64> {
    let text = hostcalls::header(Map::Request, name)?;
    response::grpc_timeout(&(text + unit))
}

impl Deadline {
    /// Reads what the client of this request says. Envoy keeps its own headers from all but internal requests.
    #[inline(never)]
    pub fn read() -> Deadline {
        let mut millis = its("grpc-timeout", "");
        if hostcalls::header(Map::Request, "x-envoy-internal").is_some() {
            for name in TIMEOUTS {
                millis = its(name, "m").or(millis);
            }
        }
        millis.map_or(Deadline::Unset, |millis| {
            Deadline::Chosen(hostcalls::monotonic().0.saturating_add(millis))
        })
    }
}
