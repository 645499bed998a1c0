//! Every name that users see: headers, metrics, labels and reasons. A change of a name breaks dashboards and manifests.
//!
//! The name of a metric contains its labels, in a form that Istio's bootstrap can extract if they are listed in
//! `extraStatTags`. The regular expression is `(TAG=\.=(.*?);\.;)` (istio `tools/packaging/common/envoy_bootstrap.json`),
//! so `peer_spillover_service=.=a.istio.svc.cluster.local;.;in_flight` becomes
//! `peer_spillover_in_flight{service="a.istio.svc.cluster.local"}`. Without `extraStatTags` it stays one readable name.
//!
//! The meaning of each metric is declared in `metrics`, from which `docs/metrics.md` is made. This text is not compiled
//! into the Wasm module.

pub mod keys;
#[cfg(not(target_arch = "wasm32"))]
pub mod metrics;

/// The request header that marks a spilled request. Its value is the name of the cluster that spilled it. It is accepted
/// only from a client with a certificate of a trusted domain.
pub const MARKER: &str = "x-peer-spillover-from";
/// The request header of a spilled request with `routing: header`, which a route matches. Its value is the name of the
/// peer.
pub const TO: &str = "x-peer-spillover-to";
/// The response header with `debugHeader: true`. Its value is the decision.
pub const DEBUG: &str = "x-peer-spillover";
/// The property that contains the decision for access logs: `%FILTER_STATE(wasm.peer_spillover:PLAIN)%`.
pub const LOG_FIELD: &str = "peer_spillover";
/// The beginning of every metric's name.
pub const PREFIX: &str = "peer_spillover_";

/// The gauge with which the filter tests whether Envoy keeps its gauges. Its name ends as that of the count does, so a stats
/// matcher that drops the count by its end drops this gauge too.
pub const GAUGES_KEPT: &str = "gauges_kept_in_flight";

/// The value of the label `destination` for home. A peer must not have this name.
pub const HOME: &str = "home";
/// The value of the label `destination` for the outcome of a spilled request that home answered. A peer must not have this
/// name.
pub const RETURNED: &str = "returned";
/// The value of the label `destination` for a request that the filter answers with 503. A peer must not have this name.
pub const REJECTED: &str = "rejected";

/// Whether a decision was another destination than home, by the text of [`LOG_FIELD`].
pub fn is_elsewhere(decision: &str) -> bool {
    let reason = decision.strip_prefix(HOME);
    !reason.is_some_and(|reason| reason.starts_with(';'))
}

/// Why a request goes home, as it is in metrics, in access logs and in the debug header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HomeReason {
    /// The request is within the limit, or the service has no limit.
    Room,
    /// Beyond the limit: a peer has spilled the request to this cluster, and it is not spilled again.
    Guest,
    /// Beyond the limit: this cluster had spilled the request, and it came back.
    Returned,
    /// Beyond the limit: no peer may take the request, and `whenFull` is `home`.
    WhenFull,
    /// Beyond the limit: no route to the peer is known, or the peer's cluster has no healthy host.
    Misroute,
    /// Without being counted: Envoy refused to count, or does not keep the gauges of the service.
    Uncounted,
    /// Even beyond the limit: this request tests whether an ejected home works again.
    Probe,
    /// Even beyond the limit, or while home is ejected: no entry of `spill.match` matches the request.
    Unmatched,
}

/// Why a request goes to a peer, as it is in metrics, in access logs and in the debug header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpillReason {
    /// The limit was reached.
    Limit,
    /// Workers competed for the last places in all attempts. There may have been a place, so it is counted apart.
    Contention,
    /// The service has `mode: evacuate`.
    Evacuate,
    /// Home is ejected for its errors.
    Ejected,
    /// Home takes its load back step by step after an ejection, and this request is not yet part of it.
    Ramp,
}

/// Why a peer did not take a request that was offered to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Declined {
    /// It has as many requests in flight as its limit allows, or workers competed for the last places.
    Full,
    /// It is ejected for its errors, or takes its load back step by step after that.
    Ejected,
    /// No route to it is known, or its cluster has no healthy host.
    Misroute,
    /// It has a limit, and Envoy does not count its requests.
    Uncounted,
}

impl Declined {
    /// All of them, in the order of their index.
    pub const ALL: [Declined; 4] = [
        Declined::Full,
        Declined::Ejected,
        Declined::Misroute,
        Declined::Uncounted,
    ];

    /// The word that users see.
    pub const fn word(self) -> &'static str {
        match self {
            Declined::Full => "full",
            Declined::Ejected => "ejected",
            Declined::Misroute => "misroute",
            Declined::Uncounted => "uncounted",
        }
    }
}

impl HomeReason {
    /// All of them, in the order of their index.
    pub const ALL: [HomeReason; 8] = [
        HomeReason::Room,
        HomeReason::Guest,
        HomeReason::Returned,
        HomeReason::WhenFull,
        HomeReason::Misroute,
        HomeReason::Uncounted,
        HomeReason::Probe,
        HomeReason::Unmatched,
    ];

    /// The word that users see.
    pub const fn word(self) -> &'static str {
        match self {
            HomeReason::Room => "room",
            HomeReason::Guest => "guest",
            HomeReason::Returned => "returned",
            HomeReason::WhenFull => WHEN_FULL,
            HomeReason::Misroute => "misroute",
            HomeReason::Uncounted => "uncounted",
            HomeReason::Probe => "probe",
            HomeReason::Unmatched => "unmatched",
        }
    }
}

impl SpillReason {
    /// All of them, in the order of their index.
    pub const ALL: [SpillReason; 5] = [
        SpillReason::Limit,
        SpillReason::Contention,
        SpillReason::Evacuate,
        SpillReason::Ejected,
        SpillReason::Ramp,
    ];

    /// The word that users see.
    pub const fn word(self) -> &'static str {
        match self {
            SpillReason::Limit => "limit",
            SpillReason::Contention => "contention",
            SpillReason::Evacuate => "evacuate",
            SpillReason::Ejected => "ejected",
            SpillReason::Ramp => "ramp",
        }
    }
}

/// Why a request is rejected: no peer may take it, and `whenFull` is `reject`. Also why such a request goes home, if
/// `whenFull` is `home`.
pub const WHEN_FULL: &str = "when-full";

/// The full name of a metric: `peer_spillover_`, then `label=.=value;.;` for each label, then `name`. The values are not
/// changed. A value that does not come from a checked configuration must be the result of [`label_value`].
pub fn metric(labels: &[(&str, &str)], name: &str) -> String {
    let mut out = String::from(PREFIX);
    for (label, value) in labels {
        for part in [*label, "=.=", *value, ";.;"] {
            out.push_str(part);
        }
    }
    out.push_str(name);
    out
}

/// The counts of which each VM has a share, with the name of the share's metric.
const SHARES: [(&str, &str); 5] = [
    ("in_flight", "requests_share"),
    ("peer_in_flight", "peer_requests_share"),
    ("config_refused", "refusals_share"),
    ("configured", "running_share"),
    ("info", "versions_share"),
];

/// The name of the metric of a VM's share of a count, without [`PREFIX`]. `total` is the full name of the count. `None` if
/// VMs have no shares of it.
pub fn share(total: &str) -> Option<String> {
    let name = total.strip_prefix(PREFIX)?;
    SHARES.iter().find_map(|(whole, part)| {
        let labels = name.strip_suffix(whole)?;
        labels.ends_with(";.;").then(|| format!("{labels}{part}"))
    })
}

/// `text` as the value of a label. Characters other than ASCII letters, digits and `-._*` are replaced by `_`, so that the
/// value cannot end the label. An empty text becomes `_`, because the regular expressions of stats tags would skip an empty
/// value.
pub fn label_value(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    text.chars()
        .map(|c| {
            // `str::contains` would be a hundredth of the module.
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_have_the_form_that_istios_bootstrap_extracts() {
        let name = metric(
            &[("plugin", "p"), ("service", "a.istio.svc.cluster.local")],
            "in_flight",
        );
        assert_eq!(
            name,
            "peer_spillover_plugin=.=p;.;service=.=a.istio.svc.cluster.local;.;in_flight"
        );
    }

    #[test]
    fn a_share_has_the_labels_of_its_count() {
        let total = metric(&[("plugin", "p"), ("service", "in_flight")], "in_flight");
        let expected = "plugin=.=p;.;service=.=in_flight;.;requests_share";
        assert_eq!(share(&total).as_deref(), Some(expected));
        let at_peer = metric(&[("plugin", "p"), ("peer", "gke")], "peer_in_flight");
        let expected = "plugin=.=p;.;peer=.=gke;.;peer_requests_share";
        assert_eq!(share(&at_peer).as_deref(), Some(expected));
        assert_eq!(share(&metric(&[("plugin", "p")], "limit")), None);
        assert_eq!(share("in_flight"), None);
    }

    #[test]
    fn a_label_value_cannot_end_its_label() {
        assert_eq!(label_value("a;.;b=.=c"), "a_._b_._c");
        assert_eq!(label_value(""), "_");
    }

    #[test]
    fn the_words_of_reasons_are_distinct() {
        let home = HomeReason::ALL.map(HomeReason::word);
        let spill = SpillReason::ALL.map(SpillReason::word);
        let words: BTreeSet<&str> = home.into_iter().chain(spill).collect();
        assert_eq!(words.len(), home.len() + spill.len());
    }
}
