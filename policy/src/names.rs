//! Every name that users see: headers, metrics, labels, reason words. Changing one breaks dashboards and manifests.
//!
//! Metrics carry their labels in the form that Istio's bootstrap takes out again where `extraStatTags` asks for it:
//! the regular expression is `(TAG=\.=(.*?);\.;)` (istio `tools/packaging/common/envoy_bootstrap.json`), so
//! `peer_spillover_service=.=a.istio.svc.cluster.local;.;in_flight` becomes `peer_spillover_in_flight{service="a.…"}`,
//! and stays one readable name where nobody asks.
//!
//! What each metric means is declared in `metrics`, from which `docs/metrics.md` is made. Its prose is not in the module.

#[cfg(not(target_arch = "wasm32"))]
pub mod metrics;

/// Set on a spilled request, and believed only from a peer that proves who it is.
pub const MARKER: &str = "x-peer-spillover-from";
/// Set on a spilled request under `routing: header`, for a route to match.
pub const TO: &str = "x-peer-spillover-to";
/// Set on the response where `debugHeader: true`.
pub const DEBUG: &str = "x-peer-spillover";
/// The property that holds the decision for access logs: `%FILTER_STATE(wasm.peer_spillover:PLAIN)%`.
pub const LOG_FIELD: &str = "peer_spillover";
/// What every metric's name begins with.
pub const PREFIX: &str = "peer_spillover_";

/// The gauge by which it is tested whether Envoy keeps gauges at all.
pub const GAUGES_KEPT: &str = "gauges_kept";

/// The word for the home service, as a destination. No peer may be called so.
pub const HOME: &str = "home";
/// The word for a spilled request that home answered, as the destination of an outcome. No peer may be called so.
pub const RETURNED: &str = "returned";
/// The word for a request answered with 503 here, as a destination. No peer may be called so.
pub const REJECTED: &str = "rejected";

/// Why a request went where it went: the word in metrics, in the access log and in the debug header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Home, since there was room, or no limit.
    Room,
    /// Home, beyond the limit: a peer spilled it to us, and nobody spills it again.
    Guest,
    /// Home, beyond the limit: our own request came back from a peer that could not take it.
    Returned,
    /// Home beyond the limit, or rejected: no peer may take it, and `whenFull` says which.
    WhenFull,
    /// Home, beyond the limit: nothing is known to lead to the peer, or its cluster has no healthy host.
    Misroute,
    /// Home, not counted: Envoy would not count for us.
    Uncounted,
    /// To the peer: the limit was reached.
    Limit,
    /// To the peer: workers raced for the last slots too often. Counted apart, since it is the filter's only error.
    Contention,
    /// To the peer: `mode: evacuate`.
    Evacuate,
    /// To the peer: home is ejected for its errors.
    Ejected,
    /// To the peer: home takes its load back after an ejection, and this request is not yet of it.
    Ramp,
    /// Home, beyond the limit: it tells whether home is well again.
    Probe,
}

impl Reason {
    /// All reasons, in the order of their index.
    pub const ALL: [Reason; 12] = [
        Reason::Room,
        Reason::Guest,
        Reason::Returned,
        Reason::WhenFull,
        Reason::Misroute,
        Reason::Uncounted,
        Reason::Limit,
        Reason::Contention,
        Reason::Evacuate,
        Reason::Ejected,
        Reason::Ramp,
        Reason::Probe,
    ];

    /// The word that users see.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Room => "room",
            Reason::Guest => "guest",
            Reason::Returned => "returned",
            Reason::WhenFull => "when-full",
            Reason::Misroute => "misroute",
            Reason::Uncounted => "uncounted",
            Reason::Limit => "limit",
            Reason::Contention => "contention",
            Reason::Evacuate => "evacuate",
            Reason::Ejected => "ejected",
            Reason::Ramp => "ramp",
            Reason::Probe => "probe",
        }
    }
}

/// A metric's name with its labels: `peer_spillover_` + `label=.=value;.;`… + `name`.
/// Values are used as they are; [`label_value`] makes one safe where it does not come from a checked configuration.
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

/// The counts that VMs have shares of, and what a share is called.
const SHARES: [(&str, &str); 5] = [
    ("in_flight", "requests_share"),
    ("peer_in_flight", "peer_requests_share"),
    ("config_refused", "refusals_share"),
    ("configured", "running_share"),
    ("info", "versions_share"),
];

/// The name of a VM's share of the count called `total`, without [`PREFIX`]; nothing where it is no such count.
pub fn share(total: &str) -> Option<String> {
    let name = total.strip_prefix(PREFIX)?;
    SHARES.iter().find_map(|(whole, part)| {
        let labels = name.strip_suffix(whole)?;
        labels.ends_with(";.;").then(|| format!("{labels}{part}"))
    })
}

/// `text` with everything but letters, digits and `-._*` replaced by `_`, so that it cannot end a label early.
/// An empty text becomes `_`: the regular expressions of stats tags would skip an empty value.
pub fn label_value(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    text.chars()
        .map(|c| {
            // Not `str::contains`, which is a hundredth of the module.
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

    #[test]
    fn labels_take_the_form_of_istios_bootstrap() {
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
    fn reason_words_are_distinct() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert_eq!(*a as usize, i);
            assert!(Reason::ALL.iter().skip(i + 1).all(|b| a.word() != b.word()));
        }
    }
}
