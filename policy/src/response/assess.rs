//! What home's answer to one request says of home, read as far as that takes.
//!
//! A machine of single steps, as [`crate::Admit`]: each [`Step`] is one hostcall or one report, and the filter carries it out and
//! hands back what it read. An answer has up to three parts, its beginning ([`Assess::begins`]), its trailers
//! ([`Assess::trailers`]) and its end ([`Assess::ends`]); what one leaves open the next may settle.
//!
//! **Invariant: what a probe's answer says is said once**, and every probe's answer says something in the end, but for one that
//! is left to time ([`Assess::give_up`]).
//! **Invariant: what is not looked at costs nothing**: an answer that the sampling passes over is not read at all.

use core::mem;

use super::step::{At, Deadline, Header, Read, Step, Watch, What};
use super::{
    BROKEN, Failure, Finding, broke_off, came_from_home, failure, grpc_timeout, grpc_to_http,
    is_grpc, lasted_too_long, number, suspect, timed_out, verdict,
};
use crate::ejection::{Detection, Ended};
use crate::sampling::{Look, Sampling};
use crate::time::{Instant, Millis};

/// The status of HTTP that gRPC's DEADLINE_EXCEEDED stands for.
const DEADLINE_EXCEEDED: u32 = 504;
/// A route's timeout that ends this time before a client's deadline is taken for it: clocks are read in whole milliseconds.
const LATER: Millis = Millis(5);

/// One answer of home's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assess {
    /// It is the probe's, and nothing was said of its end.
    probe: bool,
    /// Its request is known to be complete.
    whole: bool,
    deadline: Deadline,
    watch: Watch,
    read: Read,
    at: At,
}

impl Assess {
    /// Of a request that home does not get, or is yet to get.
    pub const NOTHING: Assess = Assess {
        probe: false,
        whole: false,
        deadline: Deadline::Unknown,
        watch: Watch::Nothing,
        read: Read {
            all: false,
            to_the_end: false,
            complete: false,
            trailers: false,
            ending: false,
            came_home: false,
            grpc: false,
            first: false,
            failure: BROKEN,
            status: 0,
            flags: 0,
        },
        at: At::Idle,
    };

    /// The request goes home; `whole`: it is known to be complete. False if its deadline does not matter: it is no probe, and not
    /// all answers are read.
    pub fn sent(&mut self, probe: bool, whole: bool, sampling: &Sampling) -> bool {
        self.probe = probe;
        self.whole = whole;
        self.at = At::Sent;
        probe || !sampling.calm()
    }

    /// Whether something may yet come of it: it is a probe, or the rest of its answer is looked at.
    pub fn is_open(&self) -> bool {
        self.probe || self.watch != Watch::Nothing
    }

    /// The answer begins; `complete`: and is complete. False if there is nothing to do with it.
    pub fn begins(&mut self, sampling: &mut Sampling, every: u32, complete: bool) -> bool {
        let look = if self.probe {
            Look::ToTheEnd
        } else {
            sampling.next(every)
        };
        self.read.all = self.probe || !sampling.calm();
        self.read.to_the_end = look == Look::ToTheEnd;
        self.read.complete = complete;
        self.at = At::Begin;
        look != Look::Away
    }

    /// The request was sent to a peer, and home answered it, since the peer could not be reached: an error of the peer's.
    pub fn came_home(&mut self) {
        self.read.came_home = true;
        self.read.failure = BROKEN;
        self.at = At::CameHome;
    }

    /// No route led the request to the peer, so its answer says nothing of the peer. False if there is nothing to do.
    pub fn strayed(&mut self) -> bool {
        self.at = At::Probe(Ended::Nothing);
        self.probe
    }

    /// The trailers of the answer have come. False if there is nothing to do with them.
    pub fn trailers(&mut self) -> bool {
        self.at = At::Trailers;
        self.read.trailers = true;
        self.read.first = self.watch == Watch::Grpc;
        mem::replace(&mut self.watch, Watch::Nothing) != Watch::Nothing
    }

    /// The request has ended. False if there is nothing to do.
    pub fn ends(&mut self) -> bool {
        let watch = mem::replace(&mut self.watch, Watch::Nothing);
        self.read.ending = true;
        self.read.first = watch == Watch::Grpc;
        let looked_at = matches!(watch, Watch::End | Watch::Grpc);
        self.at = if looked_at {
            At::End
        } else {
            At::Probe(Ended::Nothing)
        };
        self.probe || looked_at
    }

    /// What the error was that was reported last.
    pub fn what(&self) -> What {
        match self.read {
            Read {
                came_home: true, ..
            } => What::CameHome,
            Read { ending: true, .. } => What::BrokenOff,
            Read {
                trailers: true,
                status,
                ..
            } => What::Trailers(status),
            Read {
                grpc: true, status, ..
            } => What::Grpc(status),
            Read { status, .. } => What::Status(status),
        }
    }

    /// The next step. `text` is what was read where the last step was [`Step::Header`] or [`Step::Details`], `None` if it is
    /// absent; `seen` where it was [`Step::Flags`] or [`Step::Clock`]. They are not looked at otherwise.
    #[inline(never)]
    pub fn next(&mut self, text: Option<&str>, seen: u64, detection: &Detection) -> Step {
        match self.at {
            At::Idle => Step::Done,
            At::Sent => self.read(Header::GrpcTimeout),
            At::Header(header) => self.by_header(header, text, detection),
            At::SetDeadline => {
                if let Deadline::For(time) = self.deadline {
                    self.deadline = Deadline::Until(Instant(seen).after(time));
                }
                self.done()
            }
            At::Begin if self.read.all => self.go(At::ReadStatus, Step::Enter),
            At::Begin | At::ReadStatus => self.read(Header::Status),
            At::ReadFlags => self.go(At::Flags, Step::Flags),
            At::Flags => {
                self.read.flags = seen;
                self.go(At::Details, Step::Details)
            }
            At::Details => self.by_details(text.unwrap_or(""), detection),
            At::Origin if text.is_some_and(came_from_home) => self.well(),
            At::Origin => self.probe_ended(Ended::Nothing),
            At::Trailers => self.read(Header::TrailerStatus),
            At::End => self.go(At::EndFlags, Step::Flags),
            At::EndFlags => self.by_end(seen),
            At::Late => match self.deadline {
                Deadline::Until(at) if Instant(seen).after(LATER) < at => self.failed(),
                _ => self.give_up(),
            },
            At::CameHome => self.failed(),
            At::GiveUp => self.give_up(),
            At::Probe(ended) => self.probe_ended(ended),
        }
    }

    fn go(&mut self, at: At, step: Step) -> Step {
        self.at = at;
        step
    }

    fn read(&mut self, header: Header) -> Step {
        self.go(At::Header(header), Step::Header(header))
    }

    fn done(&mut self) -> Step {
        self.go(At::Idle, Step::Done)
    }

    fn by_header(&mut self, header: Header, text: Option<&str>, detection: &Detection) -> Step {
        match header {
            Header::GrpcTimeout => {
                let time = text.and_then(grpc_timeout);
                self.deadline = time.map_or(Deadline::Unset, Deadline::For);
                self.read(Header::Internal)
            }
            Header::Internal if text.is_some() => self.read(Header::Timeout),
            Header::Timeout => {
                self.waits(text);
                self.read(Header::TryTimeout)
            }
            Header::Internal | Header::TryTimeout => {
                self.waits(text);
                match self.deadline {
                    Deadline::For(_) => self.go(At::SetDeadline, Step::Clock),
                    _ => self.done(),
                }
            }
            Header::Status => {
                let status = text
                    .and_then(number)
                    .and_then(|status| status.try_into().ok());
                self.read.status = status.unwrap_or(0);
                if self.read.complete {
                    self.read(Header::GrpcStatus)
                } else {
                    self.by_status(detection)
                }
            }
            Header::GrpcStatus => {
                if let Some(status) = text {
                    self.read.grpc = true;
                    self.read.status = grpc_to_http(status);
                }
                self.by_status(detection)
            }
            Header::ContentType if text.is_some_and(is_grpc) => {
                self.watch = Watch::Grpc;
                let step = if self.probe {
                    Step::ProbeBegun
                } else {
                    Step::Done
                };
                self.go(At::Idle, step)
            }
            Header::ContentType => self.began_well(),
            Header::TrailerStatus => {
                self.read.status = text.map_or(200, grpc_to_http);
                self.read.grpc = true;
                self.read.flags = 0;
                match failure(self.read.status) {
                    Some(failure) => self.error(failure),
                    None if self.read.first => self.succeeded(Ended::Well),
                    None => self.done(),
                }
            }
        }
    }

    /// The client of an internal request waits for so long.
    fn waits(&mut self, text: Option<&str>) {
        if let Some(millis) = text.and_then(number) {
            self.deadline = Deadline::For(Millis(millis));
        }
    }

    #[inline(never)]
    fn by_status(&mut self, detection: &Detection) -> Step {
        match (suspect(self.read.status, detection), self.read.all) {
            (true, true) => self.go(At::Flags, Step::Flags),
            (true, false) => self.go(At::ReadFlags, Step::Enter),
            (false, true) => self.go(At::Origin, Step::Details),
            (false, false) => self.well(),
        }
    }

    fn by_details(&mut self, details: &str, detection: &Detection) -> Step {
        let Read {
            status,
            grpc,
            flags,
            ..
        } = self.read;
        match verdict((status, grpc), flags, details, detection, self.probe) {
            Finding::Failed(failure) => self.error(failure),
            Finding::Nothing if grpc && lasted_too_long(details) => self.give_up(),
            Finding::Nothing => self.probe_ended(Ended::Nothing),
            Finding::Well => self.well(),
        }
    }

    /// The answer began well.
    #[inline(never)]
    fn well(&mut self) -> Step {
        if self.read.all && !self.read.complete {
            self.read(Header::ContentType)
        } else {
            self.began_well()
        }
    }

    #[inline(never)]
    fn began_well(&mut self) -> Step {
        self.watch = match (self.read.complete, self.read.to_the_end) {
            (true, _) => Watch::Nothing,
            (false, true) => Watch::End,
            (false, false) => Watch::Trailers,
        };
        self.succeeded(Ended::Well)
    }

    /// The request has ended whose answer had begun, and began well if it is not gRPC.
    fn by_end(&mut self, flags: u64) -> Step {
        self.read.flags = flags;
        self.read.grpc = false;
        if broke_off(flags) {
            self.error(BROKEN)
        } else if self.read.first {
            // It began well, and nothing contradicted that: its client ended it.
            self.succeeded(Ended::Begun)
        } else {
            self.probe_ended(Ended::Nothing)
        }
    }

    /// An error of home's; unless it is that a deadline was not met which the client chose, or may have chosen: then it says
    /// nothing of home. Of a request before which all was well for long nobody knows, and those that come after it are looked
    /// at.
    #[inline(never)]
    fn error(&mut self, failure: Failure) -> Step {
        self.read.failure = failure;
        let timed_out = timed_out(self.read.flags);
        // Home itself says so, having been told of the deadline.
        let told = self.read.grpc && !timed_out && self.read.status == DEADLINE_EXCEEDED;
        match self.deadline {
            _ if !timed_out && !told => self.failed(),
            Deadline::Unset => self.failed(),
            Deadline::For(_) | Deadline::Until(_) if told => self.give_up(),
            Deadline::For(_) | Deadline::Until(_) => self.go(At::Late, Step::Clock),
            Deadline::Unknown => self.go(At::GiveUp, Step::Doubted),
        }
    }

    fn succeeded(&mut self, ended: Ended) -> Step {
        self.go(At::Probe(ended), Step::Succeeded)
    }

    fn failed(&mut self) -> Step {
        self.go(At::Probe(Ended::Failed), Step::Failed(self.read.failure))
    }

    /// A probe that home did not answer in the time that its client, or a limit of the stream, gave it. If its request may not
    /// be complete, that says nothing, but the next client need not try the same at once: it is let go when it is time. At the
    /// end of the request there is nothing to wait for.
    #[inline(never)]
    fn give_up(&mut self) -> Step {
        if !self.whole && !self.read.ending {
            self.probe = false;
        }
        self.probe_ended(Ended::Nothing)
    }

    #[inline(never)]
    fn probe_ended(&mut self, ended: Ended) -> Step {
        let step = if mem::take(&mut self.probe) {
            Step::ProbeEnded(ended)
        } else {
            Step::Done
        };
        self.go(At::Idle, step)
    }
}

#[cfg(test)]
#[path = "assess_test.rs"]
mod tests;
