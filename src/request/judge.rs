//! What home's answer to a request says of home, read as far as that takes. The verdicts are those of
//! [`policy::answer`].

use core::mem;

use super::{GRPC_STATUS, Request};
use crate::callback;
use crate::errors::{Errors, owner};
use crate::host::{self, Map};
use policy::answer::{self, Failure, Verdict};
use policy::attention::Look;
use policy::outlier::Ended;

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
    pub(super) fn judge(&mut self, errors: &Errors, end_of_stream: bool) {
        let look = if self.probe {
            Look::ToTheEnd
        } else {
            errors.look()
        };
        if look == Look::Away {
            return;
        }
        let all = self.probe || !errors.calm();
        if all {
            callback::begins();
        }
        let header = |name| host::header(Map::Response, name);
        let mut status = header(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let mut grpc = None;
        if end_of_stream {
            grpc = header(GRPC_STATUS);
        }
        if let Some(grpc) = &grpc {
            status = answer::grpc_to_http(grpc);
        }
        if !all && answer::suspect(status, &errors.detection) {
            callback::begins();
        }
        if answer::suspect(status, &errors.detection) {
            let flags = host::number(host::RESPONSE_FLAGS);
            let details = host::property(host::CODE_DETAILS).unwrap_or_default();
            let said = (status, grpc.is_some());
            match answer::verdict(said, flags, &details, &errors.detection, self.probe) {
                Verdict::Failed(_) if self.is_the_clients(errors, said, flags) => {
                    self.give_up_probe(errors);
                    return;
                }
                Verdict::Failed(failure) => {
                    self.failed(errors, failure, &format!("{} ({details})", what(said)));
                    return;
                }
                Verdict::Nothing if grpc.is_some() && answer::lasted_too_long(&details) => {
                    self.give_up_probe(errors);
                    return;
                }
                Verdict::Nothing => {
                    self.end_probe(errors, Ended::Nothing);
                    return;
                }
                Verdict::Well => {}
            }
        } else if all
            && !host::property(host::CODE_DETAILS)
                .is_some_and(|details| answer::came_from_home(&details))
        {
            self.end_probe(errors, Ended::Nothing);
            return;
        }
        if end_of_stream {
            self.succeeded(errors);
        } else if all && header("content-type").is_some_and(|kind| answer::is_grpc(&kind)) {
            self.watch = Watch::Grpc;
            if self.probe {
                errors.probe_begun(owner(self.id));
            }
        } else {
            self.succeeded(errors);
            self.watch = if look == Look::ToTheEnd {
                Watch::End
            } else {
                Watch::Trailers
            };
        }
    }

    pub(super) fn judge_trailers(&mut self, errors: &Errors) {
        let only_now = mem::replace(&mut self.watch, Watch::Nothing) == Watch::Grpc;
        let grpc = host::header(Map::ResponseTrailers, GRPC_STATUS);
        let status = grpc.map_or(200, |status| answer::grpc_to_http(&status));
        let said = (status, true);
        match answer::failure(status) {
            Some(_) if self.is_the_clients(errors, said, 0) => self.give_up_probe(errors),
            Some(failure) => self.failed(errors, failure, &what(said)),
            None if only_now => self.succeeded(errors),
            None => {}
        }
    }

    /// Sees to an answer that home broke off, to a gRPC stream that its client ended, and to a probe that told nothing.
    pub(super) fn judge_end(&mut self, errors: &Errors) {
        let grpc = self.watch == Watch::Grpc;
        if grpc || self.watch == Watch::End {
            let flags = host::number(host::RESPONSE_FLAGS);
            if !answer::broke_off(flags) {
                if grpc {
                    // It began well, and nothing contradicted that.
                    errors.succeeded();
                    self.end_probe(errors, Ended::Begun);
                }
            } else if !self.is_the_clients(errors, (0, grpc), flags) {
                self.failed(errors, answer::BROKEN, "broken off");
            }
        }
        self.end_probe(errors, Ended::Nothing);
    }

    /// Whether an error is that a deadline was not met which the client chose, or may have chosen: then it says nothing of
    /// home. Of a request before which all was well for long nobody knows, and those that come after it are looked at.
    #[inline(never)]
    fn is_the_clients(&self, errors: &Errors, (status, grpc): (u32, bool), flags: u64) -> bool {
        let timed_out = answer::timed_out(flags);
        // Home itself says so, having been told of the deadline.
        let told = grpc && !timed_out && status == DEADLINE_EXCEEDED;
        match self.deadline {
            _ if !timed_out && !told => false,
            Deadline::Unset => false,
            Deadline::Chosen(_) if told => true,
            Deadline::Chosen(at) => host::monotonic().saturating_add(LATER) >= at,
            Deadline::Unknown => {
                errors.doubted();
                true
            }
        }
    }

    fn succeeded(&mut self, errors: &Errors) {
        errors.succeeded();
        self.end_probe(errors, Ended::Well);
    }

    fn failed(&mut self, errors: &Errors, failure: Failure, what: &str) {
        errors.failed(failure, what);
        self.end_probe(errors, Ended::Failed);
    }

    #[inline(never)]
    fn end_probe(&mut self, errors: &Errors, how: Ended) {
        if mem::take(&mut self.probe) {
            errors.probe_ended(owner(self.id), how);
        }
    }

    /// A probe that home did not answer in the time that its client, or a limit of the stream, gave it. If its request may not
    /// be complete, that says nothing, but the next client need not try the same at once: it is let go when it is time.
    #[inline(never)]
    fn give_up_probe(&mut self, errors: &Errors) {
        if self.whole {
            self.end_probe(errors, Ended::Nothing);
        }
        self.probe = false;
    }

    pub(super) fn with_errors(&mut self, judge: impl FnOnce(&mut Request, &Errors)) {
        let plugin = self.plugin.clone();
        let service = self
            .said
            .and_then(|(index, _)| plugin.as_ref()?.service(index));
        if let Some(errors) = service.and_then(|service| service.errors()) {
            judge(self, errors);
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
    let text = host::header(Map::Request, name)?;
    answer::grpc_timeout(&(text + unit))
}

impl Deadline {
    /// Reads what the client of this request says. Envoy keeps its own headers from all but internal requests.
    #[inline(never)]
    pub fn read() -> Deadline {
        let mut millis = its("grpc-timeout", "");
        if host::header(Map::Request, "x-envoy-internal").is_some() {
            for name in TIMEOUTS {
                millis = its(name, "m").or(millis);
            }
        }
        millis.map_or(Deadline::Unset, |millis| {
            Deadline::Chosen(host::monotonic().saturating_add(millis))
        })
    }
}
