//! An HTTP client on one connection: HTTP/1.1 kept alive, or HTTP/2 by prior knowledge.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A request's body, of whatever kind.
pub type RequestBody = BoxBody<Bytes, anyhow::Error>;

type Dialled = Pin<Box<dyn Future<Output = Result<TcpStream>> + Send>>;

/// How connections are made.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Dialled + Send + Sync>);

impl Dial {
    /// To this address.
    pub fn to(addr: SocketAddr) -> Dial {
        Dial::by(move || tcp(addr))
    }

    /// By whatever `connect` does: from another network namespace, for instance.
    pub fn by<F>(connect: impl Fn() -> F + Send + Sync + 'static) -> Dial
    where
        F: Future<Output = Result<TcpStream>> + Send + 'static,
    {
        Dial(Arc::new(move || Box::pin(connect())))
    }

    /// A new connection, by HTTP/2 or HTTP/1.1.
    /// # Errors
    /// Nobody listens there.
    pub async fn client(&self, http2: bool) -> Result<Client> {
        Client::over((self.0)().await?, http2).await
    }
}

/// One connection. Dropped, it closes, and with it whatever request is open.
pub struct Client {
    sender: Sender,
    connection: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers; none is the same as empty.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The first value of a header, or an empty text where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Which echo answered, by its name; empty where none did.
    pub fn served_by(&self) -> &str {
        self.header("x-served-by")
    }

    /// The body read as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// Connects by HTTP/1.1.
    /// # Errors
    /// Nobody listens there.
    pub async fn http1(addr: SocketAddr) -> Result<Client> {
        Client::http1_over(tcp(addr).await?).await
    }

    async fn http1_over(stream: TcpStream) -> Result<Client> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // A connection that ends badly is told to whoever has a request on it.
            let _ = connection.with_upgrades().await;
        });
        Ok(Client {
            sender: Sender::Http1(sender),
            connection,
        })
    }

    /// Connects by HTTP/2.
    /// # Errors
    /// Nobody listens there.
    pub async fn http2(addr: SocketAddr) -> Result<Client> {
        Client::http2_with_window(addr, None).await
    }

    /// As [`Client::http2`], with a receive window of `window` bytes for each stream: a reader that stalls, if it does
    /// not read its body.
    /// # Errors
    /// Nobody listens there.
    pub async fn http2_with_window(addr: SocketAddr, window: Option<u32>) -> Result<Client> {
        Client::http2_over(tcp(addr).await?, window).await
    }

    async fn http2_over(stream: TcpStream, window: Option<u32>) -> Result<Client> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        if let Some(window) = window {
            builder.initial_stream_window_size(window);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Client {
            sender: Sender::Http2(sender),
            connection,
        })
    }

    /// Connects by HTTP/2 or HTTP/1.1.
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(addr: SocketAddr, http2: bool) -> Result<Client> {
        Client::over(tcp(addr).await?, http2).await
    }

    /// Speaks HTTP/2 or HTTP/1.1 over a connection that stands.
    /// # Errors
    /// The other side does not.
    pub async fn over(stream: TcpStream, http2: bool) -> Result<Client> {
        if http2 {
            Client::http2_over(stream, None).await
        } else {
            Client::http1_over(stream).await
        }
    }

    /// Whether the connection is still there. One that fails a request often is not.
    pub fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Sends `request` and returns as soon as the answer's headers are there; its body is the caller's to read or not.
    /// The future owns what it needs, so that several can run at once over HTTP/2; dropped, it aborts the request.
    /// Over HTTP/1.1 the next request waits until the answer before was read.
    /// # Errors
    /// The connection broke or the stream was reset.
    pub fn start(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Incoming>>> + Send>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                // hyper wants the path alone here, and the authority as a header.
                if let Err(error) = origin_form(&mut request) {
                    return Box::pin(async { Err(error) });
                }
                let sent = sender.send_request(request);
                Box::pin(async { Ok(sent.await?) })
            }
            Sender::Http2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                let sent = sender.send_request(request);
                Box::pin(async { Ok(sent.await?) })
            }
        }
    }

    /// Sends `request` and reads the whole answer.
    /// # Errors
    /// The connection broke or the stream was reset, before the answer or in it.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Answer> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await?,
            Sender::Http2(sender) => sender.ready().await?,
        }
        read(self.start(request).await?).await
    }

    /// `GET /` of `host` with these headers.
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&mut self, host: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send(get(host, headers)?).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Reads the rest of an answer.
/// # Errors
/// It breaks off.
pub async fn read(response: Response<Incoming>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.context("the answer breaks off")?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: collected.to_bytes(),
        trailers,
    })
}

/// A request `GET /` of `host` with these headers.
/// # Errors
/// A name or value is no header's.
pub fn get(host: &str, headers: &[(&str, &str)]) -> Result<Request<RequestBody>> {
    request("GET", host, "/", headers, empty())
}

/// A request.
/// # Errors
/// A part of it is not HTTP's.
pub fn request(
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: RequestBody,
) -> Result<Request<RequestBody>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    Ok(builder.body(body)?)
}

/// No body.
pub fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body of these bytes, its length announced.
pub fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A body that a client sends slowly: these bytes at once, and its end when the sender is dropped.
pub fn slow(bytes: impl Into<Bytes>) -> (RequestBody, oneshot::Sender<()>) {
    let (end, ended) = oneshot::channel();
    let body = Slow {
        bytes: Some(bytes.into()),
        ended,
    };
    (body.boxed(), end)
}

struct Slow {
    bytes: Option<Bytes>,
    ended: oneshot::Receiver<()>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut self.ended).poll(cx).map(|_| None),
        }
    }
}

fn origin_form(request: &mut Request<RequestBody>) -> Result<()> {
    let uri = request.uri();
    let host = uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let path = uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .parse()?;
    *request.uri_mut() = path;
    if let Some(host) = host {
        request.headers_mut().entry("host").or_insert(host.parse()?);
    }
    Ok(())
}

async fn tcp(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr)
        .await
        .with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
