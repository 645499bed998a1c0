//! What a configuration says, once it is read.

use super::declaration::words;
use policy::{Detection, Rule};

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
    /// What was accepted and does not do what one might expect of it: a line each, for the log.
    pub warnings: Vec<String>,
}

words! {
    /// Which side of a request the plugin is on.
    pub enum Role {
        /// It sends: the surplus goes to the peer.
        Client = "client",
        /// It receives: it tells guests from home's own requests, and counts both.
        Server = "server",
        /// It guards an entrance to the mesh: it removes the filter's headers from what nobody of the mesh sent.
        Edge = "edge",
    }
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Client, Role::Server, Role::Edge];

    /// Its bit in a set of roles.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

words! {
    /// What happens to decisions.
    pub enum Mode {
        /// They are carried out.
        Enforce = "enforce",
        /// They are counted, and change nothing.
        Observe = "observe",
        /// There are none.
        Off = "off",
    }
}

words! {
    /// What happens to a service's decisions.
    pub enum ServiceMode {
        /// As [`Mode::Enforce`].
        Enforce = "enforce",
        /// As [`Mode::Observe`].
        Observe = "observe",
        /// As [`Mode::Off`].
        Off = "off",
        /// Everything that may spill goes to the peer.
        Evacuate = "evacuate",
    }
}

words! {
    /// How a spilled request is led to its peer.
    pub enum Routing {
        /// `:authority` becomes the peer's host.
        Authority = "authority",
        /// `x-peer-spillover-to` names the peer, for a route to match.
        Header = "header",
    }
}

words! {
    /// What a request that finds no room is.
    pub enum Overflow {
        /// It leaves, and that is all.
        Surplus = "surplus",
        /// It is an error of home's besides.
        Eject = "eject",
    }
}

words! {
    /// What happens to a request that no peer may take.
    pub enum WhenFull {
        /// It goes home all the same.
        Home = "home",
        /// It is answered 503.
        Reject = "reject",
    }
}

words! {
    /// Whether a peer is sent anything new.
    pub enum PeerMode {
        /// It is.
        Enforce = "enforce",
        /// It is not.
        Drain = "drain",
    }
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

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use policy::names::metrics::LABELS;

    use super::{Mode, Role};
    use crate::declaration::Word;

    /// The page of metrics says what a label may be.
    #[test]
    fn a_label_has_every_word_that_a_configuration_gives_it() {
        let words = |name: &str| {
            LABELS
                .iter()
                .find(|label| label.name == name)
                .map(|label| label.words)
        };
        assert_eq!(words("role"), Some(Role::WORDS));
        assert_eq!(words("mode"), Some(Mode::WORDS));
    }
}
