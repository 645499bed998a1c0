//! What reading an answer takes: the steps that the filter carries out, and where the machine is between them.

use super::Failure;
use crate::ejection::Ended;
use crate::time::{Instant, Millis};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Show that this VM is inside a callback: what comes may be lost with it.
    Enter,
    /// Read this header.
    Header(Header),
    /// Read Envoy's response flags.
    Flags,
    /// Read how Envoy describes where the answer came from.
    Details,
    /// Read the clock that only goes forward, in milliseconds.
    Clock,
    /// Report a good answer of home's.
    Succeeded,
    /// Report an error of home's. [`super::Assess::what`] it was is for the log.
    Failed(Failure),
    /// Report an answer that may be an error of home's: the next are all to be read.
    Doubted,
    /// Report that the answer to the probe began well, and goes on.
    ProbeBegun,
    /// Report how the probe ended.
    ProbeEnded(Ended),
    /// Nothing, until the next part of the answer.
    Done,
}

/// A header that tells something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Of the request: the deadline of a client of gRPC.
    GrpcTimeout,
    /// Of the request: it comes from inside the mesh. Envoy keeps the next two from all others.
    Internal,
    /// Of the request: how long its client waits, in milliseconds.
    Timeout,
    /// Of the request: how long its client waits for each try, in milliseconds. The shorter of the two, or Envoy does not heed
    /// it.
    TryTimeout,
    /// Of the answer: its status.
    Status,
    /// Of the answer: its status of gRPC, if it has no more than headers.
    GrpcStatus,
    /// Of the answer: what its body is.
    ContentType,
    /// Of the answer's trailers: its status of gRPC.
    TrailerStatus,
}

/// Where a header stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// Among the headers of the request.
    Request,
    /// Among the headers of the answer.
    Answer,
    /// Among the trailers of the answer.
    Trailers,
}

impl Header {
    /// Where it stands, and its name.
    pub fn place(self) -> (In, &'static str) {
        match self {
            Header::GrpcTimeout => (In::Request, "grpc-timeout"),
            Header::Internal => (In::Request, "x-envoy-internal"),
            Header::Timeout => (In::Request, "x-envoy-upstream-rq-timeout-ms"),
            Header::TryTimeout => (In::Request, "x-envoy-upstream-rq-per-try-timeout-ms"),
            Header::Status => (In::Answer, ":status"),
            Header::GrpcStatus => (In::Answer, "grpc-status"),
            Header::ContentType => (In::Answer, "content-type"),
            Header::TrailerStatus => (In::Trailers, "grpc-status"),
        }
    }
}

/// What an error was, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// This status of HTTP, with details.
    Status(u32),
    /// A status of gRPC that stands for this one of HTTP, with details.
    Grpc(u32),
    /// As that, in the trailers, with no details.
    Trailers(u32),
    /// It had begun well, and was broken off.
    BrokenOff,
    /// Home answered it, though it was sent to a peer.
    CameHome,
}

/// Until when the client of a request waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// Nobody has looked. Envoy lets a filter see a request's headers while it is under way to home, and not later.
    Unknown,
    /// The client did not say.
    Unset,
    /// For this time from the moment at which the clock is read next.
    For(Millis),
    /// Until this moment.
    Until(Instant),
}

/// What is still to be seen of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Home has answered the request, which was sent to a peer.
    CameHome,
    /// Nothing is to be done.
    Idle,
    /// The request is sent, whose deadline may matter.
    Sent,
    /// This header was read.
    Header(Header),
    /// The clock was read, to which the time that the client gave is added.
    SetDeadline,
    /// The answer begins.
    Begin,
    ReadStatus,
    ReadFlags,
    Flags,
    /// The details were read of an answer whose status is suspect.
    Details,
    /// The details were read of one whose status is not.
    Origin,
    Trailers,
    End,
    EndFlags,
    /// The clock was read: an error of home's, unless the client's deadline is over.
    Late,
    GiveUp,
    /// What there is to say of the probe, if it is one.
    Probe(Ended),
}

/// What was read in this part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// All answers are read now, or this is the probe's.
    pub all: bool,
    pub to_the_end: bool,
    /// The answer has no more than this part.
    pub complete: bool,
    /// This part is its trailers.
    pub trailers: bool,
    /// This part is its end.
    pub ending: bool,
    /// Home answered what was sent to a peer.
    pub came_home: bool,
    /// The status is that of gRPC.
    pub grpc: bool,
    /// Nothing was said of the answer before this part.
    pub first: bool,
    pub failure: Failure,
    /// Of HTTP, or the one that gRPC's stands for.
    pub status: u32,
    pub flags: u64,
}
