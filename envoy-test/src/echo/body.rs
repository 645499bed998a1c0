//! The body of an answer, and the moment at which its request stops counting.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::sleep;

use super::count::InFlight;

/// What must happen before the next frame.
type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body of given frames. Just before it hands over its last frame it lets go of the request's count.
pub(super) struct EchoBody {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// Between two chunks; also says that the length is not announced.
    pause: Option<Duration>,
    wait: Option<Wait>,
    /// Between the last chunk and the end.
    hold: Option<Wait>,
    /// After its chunks it fails, which resets the stream.
    fails: bool,
    counted: Option<InFlight>,
}

/// Bytes of a frame of a large body: small enough that a client who does not read is noticed.
const FRAME: usize = 16 * 1024;

impl EchoBody {
    /// Nothing, and nothing to count.
    pub fn empty() -> Self {
        EchoBody {
            chunks: VecDeque::new(),
            trailers: None,
            pause: None,
            wait: None,
            hold: None,
            fails: false,
            counted: None,
        }
    }

    /// `bytes` in one go, their length announced.
    pub fn whole(bytes: impl Into<Bytes>, counted: InFlight) -> Self {
        let mut bytes: Bytes = bytes.into();
        let mut chunks = VecDeque::new();
        while !bytes.is_empty() {
            chunks.push_back(bytes.split_to(bytes.len().min(FRAME)));
        }
        // With nothing to hand over, the answer's headers are its last bytes.
        let counted = (!chunks.is_empty()).then_some(counted);
        EchoBody {
            chunks,
            trailers: None,
            pause: None,
            wait: None,
            hold: None,
            fails: false,
            counted,
        }
    }

    /// `chunks` one by one with a pause between them.
    pub fn streamed(
        chunks: impl IntoIterator<Item = Bytes>,
        pause: Duration,
        counted: InFlight,
    ) -> Self {
        let chunks = chunks.into_iter().collect();
        EchoBody {
            chunks,
            trailers: None,
            pause: Some(pause),
            wait: None,
            hold: None,
            fails: false,
            counted: Some(counted),
        }
    }

    /// Ends with trailers, so that no length can be announced.
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }

    /// Breaks off after its chunks.
    pub fn failing(mut self) -> Self {
        self.fails = true;
        self
    }

    /// Waits for this between its last chunk and its end.
    pub fn held(mut self, until: Option<impl Future<Output = ()> + Send + 'static>) -> Self {
        if let Some(until) = until {
            self.hold = Some(Box::pin(until));
            // Its end comes late, so no length can be announced.
            self.pause = self.pause.or(Some(Duration::ZERO));
        }
        self
    }

    fn is_last(&self) -> bool {
        self.chunks.is_empty() && self.trailers.is_none() && !self.fails && self.hold.is_none()
    }
}

impl Body for EchoBody {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        if self.chunks.is_empty()
            && let Some(hold) = &mut self.hold
        {
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
        }
        let frame = if let Some(chunk) = self.chunks.pop_front() {
            self.wait = self
                .pause
                .filter(|pause| !pause.is_zero() && !self.chunks.is_empty())
                .map(|pause| Box::pin(sleep(pause)) as Wait);
            Some(Ok(Frame::data(chunk)))
        } else if self.fails {
            self.fails = false;
            Some(Err(anyhow!("reset in the middle, as asked")))
        } else {
            self.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers)))
        };
        if self.is_last() {
            self.counted = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_last()
    }

    fn size_hint(&self) -> SizeHint {
        if self.pause.is_some() || self.trailers.is_some() || self.fails {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum())
    }
}
