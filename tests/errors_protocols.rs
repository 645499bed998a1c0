//! Home is judged by what it answers, whatever it speaks, and whether or not its clients wait for the end: a service comes
//! back as surely as one of plain HTTP, and nothing that a client chose is held against it.

use anyhow::Result;
use common::{Service, after, builder};
use envoy_test::World;
use envoy_test::client::{self, Answer, Client};
use envoy_test::world::{HOME, PEER};
use serde_json::{Value, json};

#[path = "errors/common.rs"]
mod common;

/// A good answer of home's, and whether its client waits for its end.
#[derive(Clone, Copy, Debug)]
enum Good {
    /// Of this content type, read to the end.
    Of(&'static str),
    /// Of this content type, and it never ends: the client goes away once it began.
    Cancelled(&'static str),
    /// A stream of gRPC without a body from the client, or with one that does not end; cancelled as above.
    Grpc { open: bool },
    /// A WebSocket.
    WebSocket,
    /// A body of the client's own, as all that is posted has.
    Post,
}

const GOOD: [Good; 10] = [
    Good::Of("application/grpc-web+proto"),
    Good::Of("application/grpc-web"),
    Good::Of("application/grpc-web-text"),
    Good::Of("application/connect+proto"),
    Good::Cancelled("application/grpc-web+proto"),
    Good::Cancelled("text/event-stream"),
    Good::Grpc { open: false },
    Good::Grpc { open: true },
    Good::WebSocket,
    Good::Post,
];

impl Good {
    /// Sends one by `client`, which is HTTP/2 or, for a WebSocket, HTTP/1.1. Returns who answered.
    async fn send(self, service: &Service<'_>) -> Result<String> {
        let host = &service.host;
        let mut client = service
            .world
            .client(!matches!(self, Good::WebSocket))
            .await?;
        let hold = ("x-hold-body", "never");
        let (open, end) = client::slow("a");
        let request = match self {
            Good::Of(kind) => client::get(host, &[("x-content-type", kind)])?,
            Good::Cancelled(kind) => client::get(host, &[("x-content-type", kind), hold])?,
            Good::Grpc { open: false } => {
                client::get(host, &[("content-type", "application/grpc"), hold])?
            }
            Good::Grpc { open: true } => {
                let headers = [("content-type", "application/grpc"), ("x-early", "1"), hold];
                client::request("POST", host, "/", &headers, open)?
            }
            Good::WebSocket => {
                let headers = [("upgrade", "websocket"), ("connection", "upgrade")];
                client::get(host, &headers)?
            }
            Good::Post => client::request("POST", host, "/", &[], client::full("a"))?,
        };
        let answer = client.start(request).await?;
        let by = answer.headers().get("x-served-by");
        let by = by.map(|by| by.to_str().map(str::to_owned)).transpose()?;
        if let Good::Of(_) | Good::Post = self {
            client::read(answer).await?;
        } else {
            drop(answer);
            drop(client);
            // Its connection lives as long as its body does.
            drop(end);
            service.wait_done().await?;
        }
        Ok(by.unwrap_or_default())
    }
}

#[tokio::test]
async fn errors_with_good_answers_between_them_eject_nobody_whatever_the_protocol() -> Result<()> {
    let world = builder(&vec![after(2); GOOD.len()]).start().await?;
    for (n, good) in GOOD.into_iter().enumerate() {
        let service = Service::new(&world, n);
        for _ in 0..3 {
            service.get(&[("x-status", "503")]).await?;
            assert_eq!(good.send(&service).await?, HOME, "{good:?}");
        }
        assert_eq!(service.errors_and_ejected().await?, (3, 0), "{good:?}");
        for _ in 0..2 {
            service.get(&[("x-status", "503")]).await?;
        }
        assert_eq!(service.errors_and_ejected().await?, (5, 1), "{good:?}");
    }
    Ok(())
}

fn soon() -> Value {
    json!({"consecutive5xxErrors": 1, "interval": "1ms", "baseEjectionTime": "200ms"})
}

async fn ejected(world: &World, n: usize) -> Result<Service<'_>> {
    let service = Service::new(world, n);
    service.get(&[("x-status", "500")]).await?;
    assert_eq!(service.stat("ejections").await?, 1);
    Ok(service)
}

#[tokio::test]
async fn a_service_comes_back_whatever_its_protocol_and_its_clients_patience() -> Result<()> {
    let world = builder(&vec![soon(); GOOD.len()]).start().await?;
    for (n, good) in GOOD.into_iter().enumerate() {
        let service = ejected(&world, n).await?;
        while good.send(&service).await? != HOME {}
        service.wait("ejected", 0).await?;
        assert_eq!(service.ejected_for(), [200], "{good:?}");
    }
    Ok(())
}

/// Routes of a service for requests that ask for them.
const ROUTES: &str = "
- match: {prefix: /, headers: [{name: x-route, string_match: {exact: idle}}]}
  route: {cluster: HOME_CLUSTER, timeout: 0s, idle_timeout: 0.2s}
- match: {prefix: /, headers: [{name: x-route, string_match: {exact: duration}}]}
  route: {cluster: HOME_CLUSTER, timeout: 0s, max_stream_duration: {max_stream_duration: 0.2s}}
- match: {prefix: /, headers: [{name: x-route, string_match: {exact: grpc}}]}
  route: {cluster: HOME_CLUSTER, timeout: 0s, max_grpc_timeout: 0s}
- match: {prefix: /, headers: [{name: x-route, string_match: {exact: both}}]}
  route: {cluster: HOME_CLUSTER, timeout: 0.1s, max_grpc_timeout: 0.1s}
";

/// Whichever of Envoy's timers ends it: each ejection costs one client, and is longer than the one before.
#[tokio::test]
async fn a_probe_that_hangs_has_failed() -> Result<()> {
    let world = builder(&vec![soon(); 4])
        .more_routes(ROUTES)
        .start()
        .await?;
    world.peer.release_all();
    for (n, route, post) in [
        (0, "idle", false),
        (1, "duration", false),
        (2, "idle", true),
        (3, "duration", true),
    ] {
        let service = ejected(&world, n).await?;
        let headers = [("x-route", route), ("x-hold", "never")];
        let mut lost = 0;
        while service.ejected_for().len() < 4 {
            let answer = match post {
                false => service.get(&headers).await?,
                true => post_to(&service, &headers).await?,
            };
            lost += u32::from(answer.status == 504);
            assert!(answer.status == 504 || answer.served_by() == PEER);
        }
        assert_eq!(lost, 3, "{route} {post}");
        assert_eq!(service.ejected_for(), [200, 400, 600, 800]);
    }
    Ok(())
}

async fn post_to(service: &Service<'_>, headers: &[(&str, &str)]) -> Result<Answer> {
    let request = client::request("POST", &service.host, "/", headers, client::full("a"))?;
    service.world.client(false).await?.send(request).await
}

/// Sends requests with a body that does not end until one is at home; returns its connection and what ends it.
async fn slow_probe(
    service: &Service<'_>,
    http2: bool,
    headers: &[(&str, &str)],
) -> Result<(
    Client,
    tokio::task::JoinHandle<Result<Answer>>,
    Vec<impl Sized + use<>>,
)> {
    let home = &service.world.home;
    let mut ends = Vec::new();
    loop {
        let seen = [home.count(), service.world.peer.count()];
        let mut client = service.world.client(http2).await?;
        let (body, end) = client::slow("a");
        let request = client::request("POST", &service.host, "/", headers, body)?;
        let answer = client.start(request);
        let answer = tokio::spawn(async move { client::read(answer.await?).await });
        ends.push(end);
        envoy_test::until("it is somewhere", || {
            [home.count(), service.world.peer.count()] != seen
        })
        .await?;
        if home.count() > seen[0] {
            return Ok((client, answer, ends));
        }
    }
}

/// It is let go after a second, and the next request is the probe; home is out no longer than that.
#[tokio::test]
async fn a_probe_whose_client_sends_slowly_does_not_fail_home() -> Result<()> {
    let world = builder(&vec![soon(); 4])
        .more_routes(ROUTES)
        .start()
        .await?;
    let length = ("content-length", "10");
    let grpc = ("content-type", "application/grpc");
    for (n, http2, headers) in [
        (0, false, vec![]),
        (1, true, vec![length]),
        (2, true, vec![grpc]),
        (3, true, vec![("x-route", "idle")]),
    ] {
        let service = ejected(&world, n).await?;
        let (_client, answer, _ends) = slow_probe(&service, http2, &headers).await?;
        loop {
            let answer = service.get(&[]).await?;
            if answer.header("x-peer-spillover") == "home; reason=probe" {
                break;
            }
            assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
        }
        service.wait("ejected", 0).await?;
        assert_eq!(service.ejected_for(), [200], "{headers:?}");
        answer.abort();
    }
    Ok(())
}

/// A service that only gets slow requests: what home answers one that was let go is heard.
#[tokio::test]
async fn a_service_that_gets_slow_bodies_alone_comes_back() -> Result<()> {
    let world = builder(&[soon()]).start().await?;
    let service = ejected(&world, 0).await?;
    let (_client, answer, ends) = slow_probe(&service, true, &[]).await?;
    let (_other, another, _ends) = slow_probe(&service, true, &[]).await?;
    drop(ends);
    assert_eq!(answer.await??.served_by(), HOME);
    service.wait("ejected", 0).await?;
    another.abort();
    assert_eq!(service.ejected_for(), [200]);
    Ok(())
}

/// Envoy takes these from internal requests alone. Here a filter before ours makes them so.
const INTERNAL: &str = "- name: internal
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
    default_source_code:
      inline_string: |
        function envoy_on_request(handle)
          local name = handle:headers():get('x-internal')
          if name then
            handle:headers():replace('x-envoy-internal', 'true')
            handle:headers():replace(name, '50')
          end
        end
";

const UPSTREAM: &str = "x-envoy-upstream-rq-timeout-ms";
const PER_TRY: &str = "x-envoy-upstream-rq-per-try-timeout-ms";

#[tokio::test]
async fn a_deadline_that_the_client_chose_says_nothing_of_home() -> Result<()> {
    let world = builder(&vec![after(1); 8])
        .more_routes(ROUTES)
        .filters_before(INTERNAL)
        .start()
        .await?;
    // What is diverted is answered, so that it shows.
    world.peer.release_all();
    let never = ("x-hold", "never");
    let deadline = ("grpc-timeout", "20m");
    // Requests of gRPC, and whether they are errors of home's.
    for (n, headers, error) in [
        (0, [deadline, never, ("x-route", "grpc")], false),
        (1, [deadline, never, ("x-route", "both")], false),
        (
            2,
            [("grpc-timeout", "9S"), never, ("x-route", "both")],
            true,
        ),
        (3, [("x-a", "b"), never, ("x-route", "both")], true),
        // Home was told of the deadline, and says that it was not met.
        (4, [deadline, ("x-grpc-status", "4"), ("x-a", "b")], false),
        (
            5,
            [deadline, ("x-grpc-trailer-status", "4"), ("x-a", "b")],
            false,
        ),
        (6, [deadline, ("x-grpc-status", "14"), ("x-a", "b")], true),
        (
            7,
            [deadline, ("x-grpc-trailer-status", "14"), ("x-a", "b")],
            true,
        ),
    ] {
        let service = Service::new(&world, n);
        for _ in 0..if error { 1 } else { 4 } {
            service.grpc(&headers).await?;
        }
        let error = i64::from(error);
        service.wait_done().await?;
        assert_eq!(
            service.errors_and_ejected().await?,
            (error, error),
            "{headers:?}"
        );
    }
    let world = builder(&vec![after(1); 2])
        .filters_before(INTERNAL)
        .start()
        .await?;
    for (n, name) in [UPSTREAM, PER_TRY].into_iter().enumerate() {
        let service = Service::new(&world, n);
        for _ in 0..3 {
            let answer = service.get(&[("x-internal", name), never]).await?;
            assert_eq!((answer.status, answer.served_by()), (504, ""), "{name}");
        }
        assert_eq!(service.errors_and_ejected().await?, (0, 0), "{name}");
        // From outside Envoy does not take it, and the application gets it to no effect.
        let answer = service.get(&[(name, "1"), ("x-delay-ms", "50")]).await?;
        assert_eq!(answer.status, 200, "{name}");
    }
    Ok(())
}

/// A worker that reads only some answers does not know their deadlines; those of gRPC are in doubt, and then it looks.
#[tokio::test]
async fn after_a_long_calm_a_clients_deadline_says_nothing_either() -> Result<()> {
    let world = builder(&[after(1), after(2)])
        .more_routes(ROUTES)
        .start()
        .await?;
    for (n, errors) in [(0, 1), (1, 2)] {
        let service = Service::new(&world, n);
        let mut client = world.client(false).await?;
        for _ in 0..1010 {
            client.get(&service.host, &[]).await?;
        }
        let never = ("x-hold", "never");
        for _ in 0..6 {
            let short = [("grpc-timeout", "10m"), never, ("x-route", "grpc")];
            service.grpc(&short).await?;
        }
        assert_eq!(service.errors_and_ejected().await?, (0, 0));
        for _ in 0..errors {
            service.grpc(&[never, ("x-route", "both")]).await?;
        }
        assert_eq!(service.errors_and_ejected().await?, (errors, 1));
    }
    Ok(())
}

/// A probe whose client's deadline was not met is no reason for the next client to try the same at once.
#[tokio::test]
async fn a_probe_that_misses_its_clients_deadline_fails_nobody() -> Result<()> {
    let world = builder(&[soon()]).more_routes(ROUTES).start().await?;
    let service = ejected(&world, 0).await?;
    let short = [
        ("grpc-timeout", "10m"),
        ("x-hold", "never"),
        ("x-route", "grpc"),
    ];
    world.peer.release_all();
    let seen = world.home.count();
    while world.home.count() < seen + 2 {
        service.grpc(&short).await?;
    }
    assert_eq!(
        (
            service.stat("ejected").await?,
            service.stat("ejections").await?
        ),
        (1, 1)
    );
    while service.stat("ejected").await? != 0 {
        service.get(&[]).await?;
    }
    assert_eq!(service.ejected_for(), [200]);
    Ok(())
}
