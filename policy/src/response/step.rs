//! The steps by which the filter reads an answer, and the states of the machine between them.

use super::Failure;
use crate::ejection::Ended;
use crate::time::{Instant, Millis};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Show that this VM is inside a callback, so that the other VMs notice if it dies there.
    Enter,
    /// Read this header.
    Header(Header),
    /// Read Envoy's response flags.
    Flags,
    /// Read how Envoy describes where the answer came from.
    Details,
    /// Read the monotonic clock, in milliseconds.
    Clock,
    /// Report a good answer of the destination.
    Succeeded,
    /// Report an error of the destination. [`super::Assess::what`] describes it for the log.
    Failed(Failure),
    /// Report an answer that may be an error of the destination. From then on all answers are read.
    Doubted,
    /// Report that the answer to the probe began well and goes on.
    ProbeBegun,
    /// Report how the probe ended.
    ProbeEnded(Ended),
    /// Do nothing until the next part of the answer.
    Done,
}

/// A header that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Of the request: the deadline that a gRPC client set.
    GrpcTimeout,
    /// Of the request: it comes from inside the mesh. Envoy removes the next two headers from all other requests.
    Internal,
    /// Of the request: how long its client waits, in milliseconds.
    Timeout,
    /// Of the request: how long its client waits for each try, in milliseconds. Envoy ignores it unless it is shorter than the
    /// other.
    TryTimeout,
    /// Of the answer: its status.
    Status,
    /// Of the answer: its gRPC status, if the answer consists of headers only.
    GrpcStatus,
    /// Of the answer: its content type.
    ContentType,
    /// Of the answer's trailers: its gRPC status.
    TrailerStatus,
}

/// Where a header is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// In the headers of the request.
    Request,
    /// In the headers of the answer.
    Answer,
    /// In the trailers of the answer.
    Trailers,
}

impl Header {
    /// Where the header is found, and its name.
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
    /// This HTTP status. The details say more.
    Status(u32),
    /// A gRPC status that stands for this HTTP status. The details say more.
    Grpc(u32),
    /// A gRPC status in the trailers that stands for this HTTP status. There are no details.
    Trailers(u32),
    /// The answer had begun well, and was broken off.
    BrokenOff,
    /// Home answered the request, which had been sent to a peer.
    CameHome,
}

/// The time until which the client of a request waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The headers of the request were not read. A filter can read them only until the answer begins.
    Unknown,
    /// The client did not set one.
    Unset,
    /// This time after the clock is read next.
    For(Millis),
    /// Until this moment.
    Until(Instant),
}

/// Which parts of the answer are still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// None.
    Nothing,
    /// The trailers. The answer began well, but they may say otherwise.
    Trailers,
    /// The trailers and the end. The answer began well, but they may say otherwise.
    End,
    /// The trailers of a gRPC answer, which alone say how it ended.
    Grpc,
}

/// The last step of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Home has answered the request, which had been sent to a peer.
    CameHome,
    /// None, or the last one of a part.
    Idle,
    /// The request was sent, and its deadline may matter.
    Sent,
    /// This header was read.
    Header(Header),
    /// The clock was read. The time that the client gave is added to it.
    SetDeadline,
    /// The answer begins.
    Begin,
    ReadStatus,
    ReadFlags,
    Flags,
    /// The details of an answer whose status is suspect were read.
    Details,
    /// The details of an answer whose status is not suspect were read.
    Origin,
    Trailers,
    End,
    EndFlags,
    /// The clock was read. It is an error of the destination unless the client's deadline is over.
    Late,
    GiveUp,
    /// What is left is to say how the probe ended, if the request is the probe.
    Probe(Ended),
}

/// What was read in this part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// All answers are read at the moment, or the request is the probe.
    pub all: bool,
    pub to_the_end: bool,
    /// The answer has no further part.
    pub complete: bool,
    /// This part is the trailers of the answer.
    pub trailers: bool,
    /// This part is the end of the answer.
    pub ending: bool,
    /// Home answered a request that had been sent to a peer.
    pub came_home: bool,
    /// The status is a gRPC status.
    pub grpc: bool,
    /// No earlier part of the answer said anything.
    pub first: bool,
    pub failure: Failure,
    /// The HTTP status, or the one that the gRPC status stands for.
    pub status: u32,
    pub flags: u64,
}
