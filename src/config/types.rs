//! What a configuration says, once it is read.

use crate::policy::{Detection, Rule};

/// The configuration of one plugin in one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This cluster's name in the federation: what the marker of a spilled request says.
    pub cluster: String,
    /// Which side of a request the plugin is on. Default: the client's.
    pub role: Role,
    /// What the plugin does with its decisions, where a service does not say otherwise.
    pub mode: Mode,
    /// Say on each response what was decided. Default: false.
    pub debug_header: bool,
    /// SPIFFE trust domains whose markers are believed. Default, empty: the proxy's own.
    pub trust_domains: Vec<String>,
    /// The services looked after: at least one, but none where the role is edge.
    pub services: Vec<Service>,
    /// What was accepted and is not acted on: a line each, for the log.
    pub warnings: Vec<String>,
}

/// Which side of a request the plugin is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends: the surplus goes to the peer.
    Client,
    /// It receives: it tells guests from home's own requests, and counts both.
    Server,
    /// It guards an entrance to the mesh: it removes the filter's headers from what nobody of the mesh sent.
    Edge,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Client, Role::Server, Role::Edge];

    /// The word that users write and see.
    pub fn word(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
            Role::Edge => "edge",
        }
    }
}

/// What happens to decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are carried out.
    Enforce,
    /// They are counted, and change nothing.
    Observe,
    /// There are none.
    Off,
}

impl Mode {
    /// The word that users write and see.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        }
    }
}

/// How a spilled request is led to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// `:authority` becomes the peer's host.
    Authority,
    /// `x-peer-spillover-to` names the peer, for a route to match.
    Header,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its host in lower case, or `*` for whatever the proxy serves.
    pub host: String,
    /// Its own mode, or the plugin's.
    pub mode: Mode,
    /// As written; the default depends on the kind of proxy, which the shell knows.
    pub routing: Option<Routing>,
    /// What decisions need.
    pub rule: Rule,
    /// Which errors take home out; nothing where none do.
    pub detection: Option<Detection>,
    /// Where the surplus goes; nothing where the role is server.
    pub peer: Option<Peer>,
}

/// The same service in another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in the federation.
    pub name: String,
    /// The host whose route leads to it, in lower case.
    pub host: String,
}
