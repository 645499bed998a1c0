//! What an echo answers. A request chooses by its headers:
//!
//! | header | what the echo does |
//! |---|---|
//! | `x-delay-ms: N` | answers N ms after the request's end, instead of the echo's own delay |
//! | `x-hold: KEY` | answers when the test says `release(KEY)` or `release_all()` |
//! | `x-status: N` | answers with this status |
//! | `x-content-type: KIND` | the answer's content type |
//! | `x-body-bytes: N` | a body of N bytes instead of the JSON |
//! | `x-chunks: N` | the body in N chunks (of `x-body-bytes` each, or 10), length not announced |
//! | `x-chunk-delay-ms: N` | a pause between two chunks |
//! | `x-trailers: 1` | trailers after the body: `x-echo-trailer: NAME` |
//! | `x-reset: before` or `mid` | closes (HTTP/1.1) or resets (HTTP/2) before the headers, or in the middle of the body |
//! | `x-redirect: PATH` | answers 302 to that path of the same host at once, unless that is the request's |
//! | `x-early: 1` | answers without reading the request's body |
//! | `x-hold-body: KEY` | the body's last chunk is sent, and its end (trailers, a reset in the middle) waits for `release(KEY)` |
//! | `content-type: application/grpc` | an empty message and trailers `grpc-status: 0`; with `x-grpc-trailer-status: N` that status there; with `x-grpc-status: N` that status, trailers only |
//! | `upgrade: websocket` (or CONNECT with `:protocol`) | switches, then gives every byte back until the client closes |
//!
//! Otherwise: 200, `x-served-by: NAME` and a JSON of name, pod, host, path, from (the marker, or null), body_len.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE,
};
use hyper::http::response::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::EchoBody;
use super::count::{InFlight, Shared};

/// Answers one request. An error closes the connection or resets the stream.
pub(super) async fn answer(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
) -> Result<Response<EchoBody>> {
    let counted = InFlight::new(shared.clone());
    let headers = request.headers().clone();
    let wish = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| wish(name).and_then(|value| value.parse::<u64>().ok());

    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let host = authority
        .or_else(|| headers.get(HOST).map(text))
        .unwrap_or_default();
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str())
        .to_owned();
    let id = shared.record(request.method().as_str(), &host, &path, &headers);

    let options = &shared.options;
    let response = Response::builder().header("x-served-by", &options.name);
    let tunnel =
        request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_some();
    if tunnel || wish("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return upgrade(request, response, tunnel, counted);
    }

    if let Some(to) = wish("x-redirect").filter(|to| *to != path) {
        let to = format!("http://{host}{to}");
        let response = response.status(StatusCode::FOUND).header(LOCATION, to);
        return Ok(response.body(EchoBody::whole("elsewhere", counted))?);
    }

    let mut body_len = 0;
    if wish("x-early").is_none() {
        while let Some(frame) = request.body_mut().frame().await {
            let bytes = frame?.data_ref().map_or(0, Bytes::len);
            body_len += bytes;
            shared.read_body(id, bytes);
        }
    }
    let delay = number("x-delay-ms").map_or(options.delay, Duration::from_millis);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some(key) = wish("x-hold") {
        released(shared.clone(), key.to_owned()).await;
    }
    let hold_body = wish("x-hold-body").map(|key| released(shared.clone(), key.to_owned()));
    let reset = wish("x-reset");
    if reset == Some("before") {
        bail!("reset before the headers, as asked");
    }
    if wish("content-type").is_some_and(|value| value.starts_with("application/grpc")) {
        let trailers_only = wish("x-grpc-status");
        let status = trailers_only
            .or(wish("x-grpc-trailer-status"))
            .unwrap_or("0");
        let mut answer = grpc(response, status, trailers_only.is_some(), counted)?;
        if reset == Some("mid") {
            answer = answer.map(EchoBody::failing);
        }
        return Ok(answer.map(|body| body.held(hold_body)));
    }

    let size = number("x-body-bytes").map(usize::try_from).transpose()?;
    let json = || {
        let from = wish("x-peer-spillover-from");
        let (name, pod) = (&options.name, &options.pod);
        serde_json::json!({ "name": name, "pod": pod, "host": host, "path": path, "from": from, "body_len": body_len })
            .to_string()
    };
    let filling = |size: usize| Bytes::from(vec![b'x'; size]);
    let mut body = match number("x-chunks") {
        Some(n) => {
            let pause = Duration::from_millis(number("x-chunk-delay-ms").unwrap_or(0));
            let chunk = filling(size.unwrap_or(10));
            EchoBody::streamed((0..n).map(|_| chunk.clone()), pause, counted)
        }
        None if reset == Some("mid") => {
            EchoBody::streamed([filling(size.unwrap_or(10))], Duration::ZERO, counted)
        }
        None if wish("x-trailers").is_some() => EchoBody::streamed(
            [size.map_or_else(|| json().into(), filling)],
            Duration::ZERO,
            counted,
        ),
        None => EchoBody::whole(size.map_or_else(|| json().into(), filling), counted),
    };
    if wish("x-trailers").is_some() {
        let name = HeaderName::from_static("x-echo-trailer");
        body = body.with_trailers(HeaderMap::from_iter([(
            name,
            HeaderValue::from_str(&options.name)?,
        )]));
    }
    if reset == Some("mid") {
        body = body.failing();
    }
    let body = body.held(hold_body);
    let status = number("x-status").map_or(Ok(StatusCode::OK), |status| {
        StatusCode::from_u16(status.try_into()?).map_err(anyhow::Error::from)
    })?;
    let kind = match size {
        _ if wish("x-content-type").is_some() => wish("x-content-type").unwrap_or_default(),
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    Ok(response
        .status(status)
        .header(CONTENT_TYPE, kind)
        .body(body)?)
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Waits until the test lets requests with this key go.
async fn released(shared: Arc<Shared>, key: String) {
    // The sender lives in `shared`, so this ends only by a release.
    let _ = shared
        .releases
        .subscribe()
        .wait_for(|releases| releases.all || releases.keys.contains(&key))
        .await;
}

fn grpc(
    response: Builder,
    status: &str,
    trailers_only: bool,
    counted: InFlight,
) -> Result<Response<EchoBody>> {
    let response = response.header(CONTENT_TYPE, "application/grpc");
    if trailers_only {
        return Ok(response
            .header("grpc-status", status)
            .body(EchoBody::whole(Bytes::new(), counted))?);
    }
    // An empty message: not compressed, length 0.
    let message = Bytes::from_static(&[0; 5]);
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_str(status)?,
    )]);
    Ok(response
        .body(EchoBody::streamed([message], Duration::ZERO, counted).with_trailers(trailers))?)
}

fn upgrade(
    request: Request<Incoming>,
    response: Builder,
    tunnel: bool,
    counted: InFlight,
) -> Result<Response<EchoBody>> {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // Counted until the client closes, or the connection turns out to be gone.
        let counted = counted;
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut buffer = vec![0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        drop(counted);
    });
    let response = match tunnel {
        true => response.status(StatusCode::OK),
        false => response
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "Upgrade"),
    };
    Ok(response.body(EchoBody::empty())?)
}
