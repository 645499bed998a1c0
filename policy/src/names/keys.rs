//! All keys of shared data. Envoy has one space of keys for all plugins of a process, and the value under a key outlives the
//! VM that has written it. So two versions of the module may use the same key in an upgrade. A value whose bytes change gets
//! a new version, which is part of the key. A key without a number has version 1.
//!
//! The table itself is compiled for native targets only. `fuzz-host/` checks each write of the filter with it.

/// What a key consists of. All keys begin with [`super::PREFIX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The key is the whole text.
    Whole,
    /// The labels, then the text.
    Labelled,
    /// The labels, then the text; for a peer, its label too, and `peer_` before the text.
    OfDestination,
    /// The labels, if there are any, then the text and [`NOTICE`].
    Notice,
    /// The labels, [`ERRORS`] or the same of a peer, then the text.
    OfErrors,
    /// The labels, the peer's host, a cluster of home and the text, with spaces between the last three.
    OfWay,
}

/// A key of shared data.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The text that tells it from other keys.
    pub text: &'static str,
    /// What is around the text.
    pub form: Form,
    /// The version of the value.
    pub version: u32,
    /// Whether a VM may replace the value without a look at it. If not, a VM writes only by compare-and-swap.
    pub replaced: bool,
    /// What the value is, and which VMs write it.
    pub about: &'static str,
}

/// The end of the key of a notice, with its version.
pub const NOTICE: &str = ".notice.1";

macro_rules! keys {
    ($($(#[doc = $about:literal])+ $name:ident = $text:literal: $form:ident, $version:literal, $write:ident;)+) => {
        $($(#[doc = $about])+ pub const $name: &str = $text;)+

        /// All keys.
        #[cfg(not(target_arch = "wasm32"))]
        pub const KEYS: &[Key] = &[$(Key {
            text: $text,
            form: Form::$form,
            version: $version,
            replaced: keys!(@$write),
            about: concat!($($about),+),
        }),+];
    };
    (@exchanged) => { false };
    (@replaced) => { true };
}

keys! {
    /// The roster of all VMs of the process. The version is also that of the shares. Two versions of the module in one process
    /// each repair what their own VMs counted. Any VM writes it.
    ROSTER = "peer_spillover_roster.2": Whole, 2, exchanged;
    /// The index of all counts that any VM of the process has opened. Any VM that opens a count writes it.
    INDEX = "peer_spillover_accounts": Whole, 1, exchanged;
    /// The record of the errors of a destination. Any VM that sees an error, sends a probe or ends an ejection writes it.
    /// Its numbers of VMs are those of the roster. In an upgrade, a VM of the other roster may end a probe too early.
    ERRORS = "errors": OfDestination, 1, exchanged;
    /// The notice that the destination of a record is ejected. The VM that changes the record writes it.
    EJECTED = ".ejected.notice.1": OfErrors, 1, exchanged;
    /// The notice that the destination of a record does not have all its load. The VM that changes the record writes it.
    AWAY = ".away.notice.1": OfErrors, 1, exchanged;
    /// The notice that no cluster of the peer's host is known. The VMs that spill write this notice and the next four.
    NO_CLUSTER = "no cluster of that host": Notice, 1, exchanged;
    /// The notice that the route to the peer does not exist.
    NO_ROUTE = "no route": Notice, 1, exchanged;
    /// The notice that the peer's cluster has no healthy host.
    EMPTY = "no healthy upstream": Notice, 1, exchanged;
    /// The notice that the route to the peer leads elsewhere.
    ELSEWHERE = "leads elsewhere": Notice, 1, exchanged;
    /// The notice that the peer answers no requests.
    UNREACHED = "not answered by the peer": Notice, 1, exchanged;
    /// The host of the peer that the five notices before are about. The VM that begins one of them writes it.
    MISROUTED_PEER = "misrouted.peer": Labelled, 1, replaced;
    /// The name of the cluster where a request at risk has arrived. The VM that has sent the request writes it.
    ARRIVED = "cluster": OfWay, 1, replaced;
    /// When the next request at risk may be sent. The VM that sends one writes it, and the first that finds no cluster.
    TURN = "turn.2": OfWay, 2, replaced;
    /// The notice that Envoy does not keep the gauges of a service. A VM writes it when it first uses the service.
    UNCOUNTED = "uncounted": Notice, 1, exchanged;
    /// The notice that the host of a service is probably written wrong. Any VM that sees other hosts writes it.
    HOST = "host": Notice, 1, exchanged;
    /// When the line was written that no request has come for any service. Any VM that sees other hosts writes it.
    NONE = "none": Notice, 1, exchanged;
    /// The notice that a VM is dead and no other has taken its place. The VM that finds it dead, or the one that joins, writes
    /// it.
    DEAD = "dead": Notice, 1, exchanged;
    /// The role in which a plugin ran last. A VM writes it when a root context begins to run.
    ROLE = "role": Labelled, 1, replaced;
    /// The build of the module in which a plugin ran last. A VM writes it when a root context begins to run.
    BUILD = "build": Labelled, 1, replaced;
    /// Whether a configuration of a plugin was refused, and none has come into force since. The VM that refuses one writes it,
    /// and the one that begins to run one.
    REFUSED = "refused": Notice, 1, replaced;
    /// The digest of a configuration in force. The VMs that begin or end to run it write it.
    IN_FORCE = "in_force": Notice, 1, exchanged;
    /// When a configuration last came into force in the place of a refused one. The VM that begins to run it writes it.
    TEXTS = "texts": Notice, 1, replaced;
    /// The hash of the lines about a configuration that were last written, and when. The VM that writes the lines writes it.
    TEXT = "text": Notice, 1, exchanged;
}

#[cfg(not(target_arch = "wasm32"))]
impl Key {
    /// Whether this key of shared data has the form of this one.
    fn is_of(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(super::PREFIX) else {
            return false;
        };
        let labelled = |rest: &str| rest.ends_with(";.;");
        match self.form {
            Form::Whole => key == self.text,
            Form::Labelled => rest.strip_suffix(self.text).is_some_and(labelled),
            Form::OfDestination => {
                let rest = rest.strip_suffix(self.text);
                rest.is_some_and(|rest| labelled(rest.strip_suffix("peer_").unwrap_or(rest)))
            }
            Form::Notice => {
                let rest = rest.strip_suffix(NOTICE);
                let rest = rest.and_then(|rest| rest.strip_suffix(self.text));
                rest.is_some_and(|rest| rest.is_empty() || labelled(rest))
            }
            Form::OfErrors => {
                let rest = rest.strip_suffix(self.text);
                let rest = rest.and_then(|rest| rest.strip_suffix(ERRORS));
                rest.is_some_and(|rest| labelled(rest.strip_suffix("peer_").unwrap_or(rest)))
            }
            Form::OfWay => {
                let rest = rest.strip_suffix(self.text);
                let rest = rest.and_then(|rest| rest.strip_suffix(' '));
                rest.is_some_and(|rest| rest.contains(' ') && rest.contains(";.;"))
            }
        }
    }
}

/// The line of the table that a key of shared data belongs to. `None` if it is not one of the filter's keys.
#[cfg(not(target_arch = "wasm32"))]
pub fn find(key: &str) -> Option<&'static Key> {
    KEYS.iter().find(|known| known.is_of(key))
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::names::metric;

    /// A key of shared data for this line.
    fn example(key: &Key) -> String {
        let name = |end: &str| metric(&[("plugin", "p"), ("service", "a.local")], end);
        match key.form {
            Form::Whole => key.text.to_owned(),
            Form::Labelled | Form::OfDestination => name(key.text),
            Form::Notice => name(key.text) + NOTICE,
            Form::OfErrors => name(ERRORS) + key.text,
            Form::OfWay => name("a.peer") + " outbound|80||a.local " + key.text,
        }
    }

    #[test]
    fn no_key_belongs_to_two_lines() {
        for key in KEYS {
            let example = example(key);
            let lines: Vec<_> = KEYS.iter().filter(|other| other.is_of(&example)).collect();
            assert_eq!(lines.len(), 1, "{example}: {lines:?}");
            assert_eq!(lines[0].text, key.text);
            assert!(!key.about.trim().is_empty());
        }
        assert!(find("peer_spillover_dead.notice.1").is_some());
        assert!(find("peer_spillover_other").is_none());
    }

    #[test]
    fn a_key_ends_with_its_version() {
        for key in KEYS {
            let example = example(key);
            let last = example.rsplit('.').next().and_then(|end| end.parse().ok());
            assert_eq!(last.unwrap_or(1), key.version, "{example}");
        }
    }
}
