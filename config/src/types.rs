//! The types of a configuration that was read.

use std::rc::Rc;

use super::declaration::words;
use policy::select::Candidate;
use policy::{Detection, Rule, Spill};

/// The configuration of one plugin in one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This cluster's name in the federation. The marker of a spilled request contains it.
    pub cluster: String,
    /// The place of the plugin. The default is the client.
    pub role: Role,
    /// What the plugin does with its decisions, unless a service has its own mode. The default is to carry them out.
    pub mode: Mode,
    /// Whether each response says in a header what was decided. The default is false.
    pub debug_header: bool,
    /// The SPIFFE trust domains from which a marker is accepted, in lower case. If it is empty, it is the trust domain of
    /// the proxy itself.
    pub trust_domains: Vec<String>,
    /// The services to which the plugin applies, 1 to [`super::MOST_SERVICES`]. In the role edge there are none.
    pub services: Vec<Service>,
    /// Lines for the log about values that are accepted and not acted on, or that may not do what a user expects.
    pub warnings: Vec<String>,
}

words! {
    /// The place of the plugin on the way of a request.
    pub enum Role {
        /// Where requests leave: the surplus is spilled to the peer.
        Client = "client",
        /// Where requests arrive: guests are distinguished from home's own requests, and both are counted.
        Server = "server",
        /// At an entrance to the mesh: the filter's headers are removed from requests that do not come from the mesh.
        Edge = "edge",
    }
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Client, Role::Server, Role::Edge];

    /// The bit of the role in a set of roles.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

words! {
    /// What the filter does with its decisions.
    pub enum Mode {
        /// Decisions are carried out.
        Enforce = "enforce",
        /// Decisions are only counted, and change no request.
        Observe = "observe",
        /// No decisions are made.
        Off = "off",
    }
}

words! {
    /// What the filter does with its decisions for a service.
    pub enum ServiceMode {
        /// As [`Mode::Enforce`].
        Enforce = "enforce",
        /// As [`Mode::Observe`].
        Observe = "observe",
        /// As [`Mode::Off`].
        Off = "off",
        /// Every request that may be spilled is sent to the peer.
        Evacuate = "evacuate",
    }
}

words! {
    /// What the route to the peer matches in a spilled request.
    pub enum Routing {
        /// `:authority` becomes the peer's host.
        Authority = "authority",
        /// The header `x-peer-spillover-to` contains the peer's name.
        Header = "header",
    }
}

words! {
    /// What a request that exceeds the limit counts as.
    pub enum Overflow {
        /// It is only spilled.
        Surplus = "surplus",
        /// It is spilled, and counts as an error of home.
        Eject = "eject",
    }
}

words! {
    /// What happens to a request that no peer may take.
    pub enum WhenFull {
        /// It is sent home although the limit is reached.
        Home = "home",
        /// It is answered with 503.
        Reject = "reject",
    }
}

words! {
    /// Whether new requests are sent to a peer.
    pub enum PeerMode {
        /// New requests are sent to it.
        Enforce = "enforce",
        /// No new requests are sent to it.
        Drain = "drain",
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The host in lower case, or `*` for everything that the proxy serves.
    pub host: String,
    /// The mode of the service, or else that of the plugin.
    pub mode: Mode,
    /// The routing as written. If it is `None`, the default depends on the kind of the proxy, which the filter finds out.
    pub routing: Option<Routing>,
    /// The parts of the configuration that decisions depend on.
    pub rule: Rule,
    /// Which requests may be spilled, and what tells their sessions. An `Rc` makes the module smaller, as that of a peer does.
    pub spill: Option<Rc<Spill>>,
    /// Which errors eject home. `None` if ejection is disabled.
    pub detection: Option<Detection>,
    /// The peers that may receive spilled requests, 1 to [`policy::select::MOST_PEERS`]. In the role server there are none.
    pub peers: Vec<Peer>,
}

/// The same service in another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of the peer in the federation.
    pub name: String,
    /// Its subset, and the host whose route leads to it, in lower case. They are one text, because another one makes the module
    /// 700 bytes larger. If there is no subset, it is the host.
    pub at: String,
    /// The length of the subset.
    pub(crate) subset: usize,
    /// The parts of its configuration that the choice of a peer depends on.
    pub candidate: Candidate,
    /// Which errors eject the peer. `None` if ejection is disabled.
    pub detection: Option<Detection>,
}

impl Peer {
    /// The host whose route leads to the peer, in lower case, and the subset of it that is the peer. The subset is empty if the
    /// host has none.
    pub fn host_and_subset(&self) -> (&str, &str) {
        let (subset, host) = self.at.split_at_checked(self.subset).unwrap_or_default();
        (host, subset)
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use policy::names::metrics::LABELS;

    use super::{Mode, Role};
    use crate::declaration::Word;

    /// The page of metrics lists the values of a label.
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
