//! Load: clients that each send a request, wait for its answer and send the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{self, Answer, Client, Dial};
use crate::world::HOST;

/// When a load ends. What is open then is finished.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// No request is begun after this time.
    Elapsed(Duration),
    /// This many requests in all.
    Requests(usize),
}

/// What is told of each answer as it comes.
pub type Progress = Arc<dyn Fn(&Outcome) + Send + Sync>;

/// A load.
#[derive(Clone)]
pub struct LoadOptions {
    /// How its clients connect.
    pub dial: Dial,
    /// The path that requests name.
    pub path: String,
    /// The authority that requests name.
    pub host: String,
    /// Clients at once, each on a connection of its own.
    pub clients: usize,
    /// When it ends.
    pub until: Until,
    /// HTTP/2 instead of HTTP/1.1.
    pub http2: bool,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// Bytes of each request's body; with any, it is a POST.
    pub body_bytes: usize,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// A client begins at most one request in this time; zero: each as soon as the one before has ended.
    pub pace: Duration,
    /// Who answered: read from an answer, or empty.
    pub served_by: fn(&Answer) -> String,
    /// Called for each answer, from the client's task.
    pub progress: Option<Progress>,
}

impl LoadOptions {
    /// `clients` on `url` (HTTP/1.1, no headers, no body, 30 s timeout), asking for [`HOST`].
    ///
    /// `url` is `http://IP:PORT/PATH`; where it is not, no connection can be made.
    pub fn new(url: &str, clients: usize, until: Until) -> Self {
        match address(url) {
            Ok((addr, path)) => LoadOptions::by(Dial::to(addr), &path, clients, until),
            Err(error) => {
                let wrong = format!("{error:#}");
                let nowhere = Dial::by(move || std::future::ready(Err(anyhow!("{wrong}"))));
                LoadOptions::by(nowhere, "/", clients, until)
            }
        }
    }

    /// As [`LoadOptions::new`], with connections made by `dial`.
    pub fn by(dial: Dial, path: &str, clients: usize, until: Until) -> Self {
        LoadOptions {
            dial,
            path: path.to_owned(),
            host: HOST.to_owned(),
            clients,
            until,
            http2: false,
            headers: Vec::new(),
            body_bytes: 0,
            timeout: Duration::from_secs(30),
            pace: Duration::ZERO,
            served_by: |answer| answer.served_by().to_owned(),
            progress: None,
        }
    }

    /// With this header on each request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Over HTTP/2, if so.
    pub fn http2(mut self, http2: bool) -> Self {
        self.http2 = http2;
        self
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Index of the client that sent it.
    pub client: usize,
    /// From the load's start to the request's end.
    pub at: Duration,
    /// From the request's start to its end.
    pub latency: Duration,
    /// Its status; 0 where there was no whole answer.
    pub status: u16,
    /// The echo that answered; empty where none did.
    pub served_by: String,
    /// The answer's `x-peer-spillover` (`debugHeader: true`), or empty.
    pub decision: String,
    /// Why there was no whole answer, or empty.
    pub error: String,
}

impl Outcome {
    /// Answered, with a 2xx.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// How many of these the echo `name` answered with a 2xx.
pub fn answered_by(outcomes: &[Outcome], name: &str) -> usize {
    outcomes
        .iter()
        .filter(|outcome| outcome.is_ok() && outcome.served_by == name)
        .count()
}

/// How many of these were not answered with a 2xx.
pub fn failed(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| !outcome.is_ok()).count()
}

/// Runs a load and returns what became of its requests, in the order in which they ended.
/// All connections stand before the first request. A client whose connection broke makes a new one.
/// # Errors
/// A connection cannot be made at the start. A request that fails is an [`Outcome`].
pub async fn closed_loop(options: LoadOptions) -> Result<Vec<Outcome>> {
    let mut clients = Vec::with_capacity(options.clients);
    for _ in 0..options.clients {
        clients.push(options.dial.client(options.http2).await?);
    }
    let shared = Arc::new(Shared {
        options,
        start: Instant::now(),
        begun: AtomicUsize::new(0),
    });
    let mut tasks = JoinSet::new();
    for (index, client) in clients.into_iter().enumerate() {
        tasks.spawn(run(shared.clone(), index, client));
    }
    let mut outcomes = Vec::new();
    while let Some(done) = tasks.join_next().await {
        outcomes.extend(done.context("a client of the load panicked")?);
    }
    outcomes.sort_by_key(|outcome: &Outcome| outcome.at);
    Ok(outcomes)
}

struct Shared {
    options: LoadOptions,
    start: Instant,
    begun: AtomicUsize,
}

impl Shared {
    fn goes_on(&self) -> bool {
        match self.options.until {
            Until::Elapsed(time) => self.start.elapsed() < time,
            Until::Requests(n) => self.begun.fetch_add(1, Ordering::Relaxed) < n,
        }
    }

    async fn request(&self, client: &mut Client) -> Result<Answer> {
        let headers: Vec<(&str, &str)> = self
            .options
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let (method, body) = match self.options.body_bytes {
            0 => ("GET", client::empty()),
            n => ("POST", client::full(vec![b'x'; n])),
        };
        if !client.is_open() {
            *client = self.options.dial.client(self.options.http2).await?;
        }
        client
            .send(client::request(
                method,
                &self.options.host,
                &self.options.path,
                &headers,
                body,
            )?)
            .await
    }
}

async fn run(shared: Arc<Shared>, index: usize, mut client: Client) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while shared.goes_on() {
        let begin = Instant::now();
        let limit = shared.options.timeout;
        let answer = match timeout(limit, shared.request(&mut client)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow!("no answer in {} s", limit.as_secs_f32())),
        };
        let (at, latency) = (shared.start.elapsed(), begin.elapsed());
        let mut outcome = Outcome {
            client: index,
            at,
            latency,
            status: 0,
            served_by: String::new(),
            decision: String::new(),
            error: String::new(),
        };
        match answer {
            Ok(answer) => {
                outcome.status = answer.status;
                outcome.served_by = (shared.options.served_by)(&answer);
                outcome.decision = answer.header("x-peer-spillover").to_owned();
            }
            Err(error) => {
                outcome.error = format!("{error:#}");
                // An HTTP/1.1 connection with an answer half read is of no further use; a new one is made if it can be.
                if let Ok(fresh) = shared.options.dial.client(shared.options.http2).await {
                    client = fresh;
                }
            }
        }
        if let Some(progress) = &shared.options.progress {
            progress(&outcome);
        }
        outcomes.push(outcome);
        sleep_until(begin + shared.options.pace).await;
    }
    outcomes
}

/// Address and path of `http://IP:PORT/PATH`.
fn address(url: &str) -> Result<(SocketAddr, String)> {
    let uri: hyper::Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let Some(authority) = uri.authority() else {
        bail!("{url} names no address")
    };
    let addr = authority
        .as_str()
        .parse()
        .with_context(|| format!("{url} must be http://IP:PORT/PATH"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((addr, path.to_owned()))
}
