//! What the answer to one request says of the destination that the request was sent to. Only what is needed for that is read.
//!
//! A machine of single steps, as [`crate::Admit`]: each [`Step`] is one hostcall or one report. The filter carries it out and
//! hands back what it read. An answer has up to three parts: its beginning ([`Assess::begins`]), its trailers
//! ([`Assess::trailers`]) and its end ([`Assess::ends`]). If one part does not settle what the answer says, the next one may.
//!
//! **Invariant: the end of a probe is reported once.** It is reported for every probe, except for one whose end is left to the
//! timeout of the probe ([`Assess::give_up`]).
//! **Invariant: an answer that the sampling skips is not read at all**, so it costs nothing.

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
/// If a timeout of the route ends a request this time before the client's deadline, it still counts as the client's, because
/// clocks are read in whole milliseconds.
const LATER: Millis = Millis(5);

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assess {
    /// The request is the probe, and its end was not reported yet.
    probe: bool,
    /// The request is known to be complete.
    whole: bool,
    deadline: Deadline,
    watch: Watch,
    read: Read,
    at: At,
}

impl Assess {
    /// For a request that was not sent, or whose answer is not read.
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

    /// The request is sent to the destination. `whole` says whether it is known to be complete. Returns false if the deadline
    /// of the request does not matter, because it is not the probe and not all answers are read.
    pub fn sent(&mut self, probe: bool, whole: bool, sampling: &Sampling) -> bool {
        self.probe = probe;
        self.whole = whole;
        self.at = At::Sent;
        probe || !sampling.calm()
    }

    /// Whether later parts of the answer matter: the request is the probe, or the rest of its answer is read.
    pub fn is_open(&self) -> bool {
        self.probe || self.watch != Watch::Nothing
    }

    /// The answer begins. `complete` says whether it has no further part. Returns false if nothing is to be done with it.
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

    /// The request was sent to a peer that could not be reached, and home answered it. That is an error of the peer.
    pub fn came_home(&mut self) {
        self.read.came_home = true;
        self.read.failure = BROKEN;
        self.at = At::CameHome;
    }

    /// No route led the request to the peer, so its answer says nothing of the peer. Returns false if nothing is to be done.
    pub fn strayed(&mut self) -> bool {
        self.at = At::Probe(Ended::Nothing);
        self.probe
    }

    /// The trailers of the answer have come. Returns false if nothing is to be done with them.
    pub fn trailers(&mut self) -> bool {
        self.at = At::Trailers;
        self.read.trailers = true;
        self.read.first = self.watch == Watch::Grpc;
        mem::replace(&mut self.watch, Watch::Nothing) != Watch::Nothing
    }

    /// The request has ended. Returns false if nothing is to be done.
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

    /// A description of the error that was reported last.
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

    /// The next step. `text` is what [`Step::Header`] or [`Step::Details`] read, `None` if that is absent. `seen` is what
    /// [`Step::Flags`] or [`Step::Clock`] read. After other steps both are ignored.
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

    /// The end of a request whose answer had begun. If the answer is not gRPC, it had begun well.
    fn by_end(&mut self, flags: u64) -> Step {
        self.read.flags = flags;
        self.read.grpc = false;
        if broke_off(flags) {
            self.error(BROKEN)
        } else if self.read.first {
            // It began well, and nothing contradicted that, so the client ended it.
            self.succeeded(Ended::Begun)
        } else {
            self.probe_ended(Ended::Nothing)
        }
    }

    /// The answer is an error of the destination, unless it says that a deadline was not met which the client chose, or may
    /// have chosen. Then it says nothing of the destination. If the headers of the request were not read, because all answers
    /// had been good for long, it is not known who chose the deadline; then the next answers are all read.
    #[inline(never)]
    fn error(&mut self, failure: Failure) -> Step {
        self.read.failure = failure;
        let timed_out = timed_out(self.read.flags);
        // The destination itself says so, because it was told of the deadline.
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

    /// The probe was not answered within the time that its client, or a limit of the stream, allowed. If the request may not be
    /// complete, that says nothing, and the probe is ended by its timeout, so that the next client does not try the same at
    /// once. At the end of the request there is nothing to wait for.
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
