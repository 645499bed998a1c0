//! A request as the host knows it.

use policy::names::{HOME, REJECTED};

use crate::rng::Rng;
use crate::spill;
use crate::values as v;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its context was made.
    Created,
    /// The filter has seen its headers.
    Requested,
    /// And those of its answer.
    Responded,
    /// And the trailers of that.
    Trailed,
    /// It was logged.
    Logged,
    /// Its end is on its way.
    Ending,
}

/// A header map.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// A request.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Of its context.
    pub id: u32,
    /// Of its root context.
    pub root: u32,
    /// How far it is.
    pub stage: Stage,
    /// Header maps by the ABI's number: those of the request, its trailers, of the response, its trailers.
    pub maps: [Headers; 4],
    /// The filter changed a header by which a route may be chosen.
    pub rerouted: bool,
    /// What `wasm.peer_spillover` in the filter state says.
    pub said: Option<Vec<u8>>,
    /// The peer to which the filter has sent it, as it says.
    pub sent_to: Option<String>,
    /// The upstream has finished.
    pub finished: bool,
    /// It seemed to have finished before. Then a sweep may have found that.
    pub seemed_finished: bool,
    cluster: &'static str,
    cluster_after: &'static str,
    upstream: bool,
    /// The cluster of the federation that the upstream is said to be of.
    of: Option<&'static str>,
    flags: u64,
    details: &'static str,
    peer_san: Option<&'static str>,
    own_san: Option<&'static str>,
    tunnel: bool,
}

fn header(name: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.as_ref().into())
}

impl Stream {
    /// A request of any kind that Envoy can get.
    pub fn draw(rng: &mut Rng, id: u32, root: u32) -> Stream {
        let mut request = spill::headers(rng);
        request.push(header(":authority", rng.pick(v::AUTHORITIES)));
        let marked = rng.chance(150);
        if marked {
            let marker = match rng.below(6) {
                0 => v::garbage(rng),
                _ => rng.pick(v::CLUSTERS).into(),
            };
            request.push(header("x-peer-spillover-from", marker));
        }
        // A guest may still have the name that its sender gave us.
        if rng.chance(if marked { 300 } else { 50 }) {
            request.push(header("x-peer-spillover-to", rng.pick(v::CLUSTERS)));
        }
        // Mostly to the same service, so that it can be full.
        let cluster = if rng.chance(600) {
            v::UPSTREAMS[0]
        } else {
            rng.pick(v::UPSTREAMS)
        };
        let cluster_after = match rng.below(10) {
            0..5 => "outbound|80||a.istio.gke.global",
            5 | 6 => "outbound|80|gke|a.istio.svc.cluster.local",
            _ => rng.pick(v::UPSTREAMS),
        };
        Stream {
            id,
            root,
            stage: Stage::Created,
            maps: [request, Vec::new(), Vec::new(), Vec::new()],
            rerouted: false,
            said: rng.chance(20).then(|| b"gke; reason=limit".to_vec()),
            sent_to: None,
            finished: false,
            seemed_finished: false,
            cluster,
            cluster_after,
            upstream: rng.chance(900),
            of: rng.chance(500).then(|| rng.pick(v::CLUSTERS)),
            flags: 0,
            details: "",
            peer_san: rng.chance(500).then(|| rng.pick(v::SANS)),
            own_san: rng.chance(500).then(|| rng.pick(v::SANS)),
            tunnel: rng.chance(100),
        }
    }

    /// Its answer begins.
    pub fn answer(&mut self, rng: &mut Rng) {
        let mut response = vec![header(":status", rng.pick(v::STATUSES))];
        if rng.chance(300) {
            response.push(header("content-type", rng.pick(v::CONTENT_TYPES)));
        }
        if rng.chance(200) {
            response.push(header("grpc-status", rng.pick(v::GRPC_STATUSES)));
        }
        self.maps[2] = response;
        self.details = rng.pick(v::DETAILS);
        self.flag(rng);
    }

    /// Its answer has trailers.
    pub fn trail(&mut self, rng: &mut Rng) {
        if rng.chance(700) {
            self.maps[3] = vec![header("grpc-status", rng.pick(v::GRPC_STATUSES))];
        }
        self.seemed_finished = self.finished;
        self.finished = rng.chance(900);
    }

    /// Something may have happened to it.
    pub fn flag(&mut self, rng: &mut Rng) {
        if rng.chance(300) {
            self.flags |= 1 << rng.below(30);
        }
    }

    /// The filter says what it decided.
    pub fn tell(&mut self, said: &[u8]) {
        self.said = Some(said.to_vec());
        let said = String::from_utf8_lossy(said);
        let to = said.split_once(';').map(|(to, _)| to);
        let to = to.filter(|to| ![HOME, REJECTED].contains(to));
        self.sent_to = to.map(str::to_owned);
    }

    /// A property of it; nothing where it has no such.
    pub fn property(&self, path: &[u8]) -> Option<Vec<u8>> {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let direct = if self.tunnel { None } else { self.peer_san };
        match path {
            b"xds\0cluster_name" if self.rerouted && self.stage > Stage::Requested => {
                text(self.cluster_after)
            }
            b"xds\0cluster_name" => text(self.cluster),
            b"xds\0route_name" if self.flags & 1 != 0 => text("block_all"),
            b"peer_spillover" => self.said.clone(),
            b"response\0backend_latency" => self.finished.then(|| 5u64.to_le_bytes().to_vec()),
            b"upstream\0address" if self.upstream => text("127.0.0.1:80"),
            b"upstream\0locality\0region" => self.of.and_then(text),
            b"xds\0upstream_host_metadata\0filter_metadata\0istio\0workload" => {
                let of = self.of?;
                text(&format!("a;istio;a;;{of}"))
            }
            b"response\0flags" => Some(self.flags.to_le_bytes().to_vec()),
            b"response\0code_details" => text(self.details),
            b"connection\0uri_san_peer_certificate" => direct.and_then(text),
            b"connection\0uri_san_local_certificate" => self.own_san.and_then(text),
            b"filter_state\0io.istio.peer_principal"
            | b"filter_state\0io.istio.local_principal"
                if self.tunnel =>
            {
                self.peer_san.and_then(text)
            }
            _ => None,
        }
    }
}
