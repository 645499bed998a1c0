//! The declaration of all metrics with their meaning. `cargo xtask config` makes `docs/metrics.md` from it, and tests
//! compare it with the statistics of a real Envoy. It is compiled for native targets only, so that its text is not in the
//! Wasm module.

use super::{
    Declined, GAUGES_KEPT, HOME, HomeReason, PREFIX, REJECTED, RETURNED, SpillReason, WHEN_FULL,
};

mod page;

pub use page::page;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The value only grows.
    Counter,
    /// The value goes up and down.
    Gauge,
}

impl Kind {
    /// The word that Prometheus uses for this kind.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// The name, without [`PREFIX`] and labels.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The names of the labels, in the order of the full name.
    pub labels: &'static [&'static str],
    /// The meaning, in whole sentences for the page.
    pub about: &'static str,
}

/// A label.
#[derive(Debug)]
pub struct Label {
    /// The name.
    pub name: &'static str,
    /// The words that the value may be.
    pub words: &'static [&'static str],
    /// The value may also be another word, such as the name of a peer.
    pub open: bool,
    /// The meaning of the value.
    pub about: &'static str,
}

/// A decision that can be made about a request.
#[derive(Debug)]
pub struct Decided {
    /// The destination: [`HOME`], [`REJECTED`], or `None` for the peer.
    pub to: Option<&'static str>,
    /// The reason.
    pub reason: &'static str,
    /// When the decision is made, in whole sentences for the page.
    pub about: &'static str,
}

const PLUGIN: &[&str] = &["plugin"];
const ROLE: &[&str] = &["plugin", "role"];
const SERVICE: &[&str] = &["plugin", "role", "service"];
const PEER: &[&str] = &["plugin", "role", "service", "peer"];
const DECLINED: &[&str] = &["plugin", "role", "service", "peer", "reason"];
const DECISION: &[&str] = &["plugin", "role", "service", "destination", "reason"];
const OUTCOME: &[&str] = &[
    "plugin",
    "role",
    "service",
    "destination",
    "response_code_class",
];
const INFO: &[&str] = &["plugin", "role", "version", "mode", "cluster"];

macro_rules! metrics {
    ($(#[$all:meta])+ $table:ident: $($(#[doc = $about:literal])+ $kind:ident($name:expr, $labels:expr);)+) => {
        $(#[$all])+
        pub const $table: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            labels: $labels,
            about: concat!($($about),+),
        }),+];
    };
}

metrics! {
    /// The metrics for users.
    METRICS:
    /// The number of requests that this proxy has sent to home and that are not finished, over all its workers. With
    /// `mode: observe`, requests that would have been spilled are not counted.
    Gauge("in_flight", SERVICE);
    /// The number of requests that this proxy has spilled to the peer and that are not finished, over all its workers.
    Gauge("peer_in_flight", PEER);
    /// The limit that was configured last. 0 means that the service has no limit, or that it is no longer in the configuration.
    Gauge("limit", SERVICE);
    /// The limit of the peer that was configured last. 0 means that the peer has no limit, or that it is no longer in the
    /// configuration. It is shown from the first request that is spilled to the peer.
    Gauge("peer_limit", PEER);
    /// Requests, by what was decided about them and why: see [Decisions](#decisions).
    Counter("decisions", DECISION);
    /// Spilled requests that have ended, by who answered them and with what: see [Outcomes](#outcomes).
    Counter("outcomes", OUTCOME);
    /// 1 while home is ejected for its errors, 2 during the ramp that follows, otherwise 0.
    Gauge("ejected", SERVICE);
    /// How often home was ejected.
    Counter("ejections", SERVICE);
    /// Errors of home that the filter has read, failed probes included. With `overflow: eject`, requests that found no room
    /// at home are counted as well.
    Counter("errors", SERVICE);
    /// Requests that were offered to the peer and that it did not take, by the reason: see
    /// [Declined requests](#declined-requests).
    Counter("peer_declined", DECLINED);
    /// 1 while the peer is ejected for its errors, 2 during the ramp that follows, otherwise 0, as for a drained peer.
    Gauge("peer_ejected", PEER);
    /// How often the peer was ejected.
    Counter("peer_ejections", PEER);
    /// Errors of the peer that the filter has read, failed probes included. A spilled request that home answered instead of the
    /// peer is such an error.
    Counter("peer_errors", PEER);
    /// Misroutes: requests that were to be spilled, but no route led them to the peer, or the peer's cluster had no healthy
    /// host. Requests that the filter kept at home for that reason are included.
    Counter("misroutes", PEER);
    /// The causes of misroutes that persist at this moment, added up: see [Misroutes](#misroutes). 0 if there is none.
    Gauge("misrouted", SERVICE);
    /// The same for each peer of a service that has several. Such a service has no `misrouted`.
    Gauge("peer_misrouted", PEER);
    /// Requests that arrived with the header `x-peer-spillover-from` or `x-peer-spillover-to` and without a client certificate
    /// of a trusted domain.
    Counter("forged_headers", ROLE);
    /// The number of VMs that run this version of the module in this mode. Above 0, they are in use.
    Gauge("info", INFO);
    /// The number of VMs that run a valid configuration, whichever it is.
    Gauge("configured", ROLE);
    /// The Unix time, in seconds, at which one of the VMs in `configured` was last alive.
    Gauge("heartbeat", ROLE);
    /// The number of VMs in `configured` that are alive, without those of the main thread. This is the number of the proxy's
    /// workers; it is lower if the VM of a worker has died.
    Gauge("workers", ROLE);
    /// Refused configurations. Every VM that is given a refused configuration counts it, so one mistake adds more than 1.
    Counter("config_rejected", PLUGIN);
    /// The number of VMs whose last configuration was refused. It is 0 again as soon as a valid configuration is in force. If
    /// Envoy refuses an upgrade because the new module does not accept its configuration, only `config_rejected` shows it.
    Gauge("config_refused", PLUGIN);
}

metrics! {
    /// The metrics that only the filter itself needs. The rule for Prometheus in `wasmplugin/telemetry/` drops them.
    INTERNAL:
    /// Answers of home that the filter has read and that were not errors. With `minErrorPercent`, each of them also stands for
    /// those that were not read.
    Gauge("good_answers", SERVICE);
    /// Answers of the peer that the filter has read and that were not errors, as `good_answers`.
    Gauge("peer_good_answers", PEER);
    /// Always 0. The filter adds a number to it and takes it off again, to see whether Envoy keeps the filter's gauges.
    Gauge(GAUGES_KEPT, ROLE);
    /// How often the list of the VMs of this process has changed: a VM was added, or a VM took over the slot of another.
    Gauge("roster_changes", &["worker"]);
    /// It grows for as long as the VM in this slot is alive.
    Gauge("beats", &["worker"]);
    /// This VM's share of `in_flight`.
    Gauge("requests_share", &["worker", "plugin", "role", "service"]);
    /// This VM's share of `peer_in_flight`.
    Gauge("peer_requests_share", &["worker", "plugin", "role", "service", "peer"]);
    /// This VM's share of `configured`.
    Gauge("running_share", &["worker", "plugin", "role"]);
    /// This VM's share of `info`.
    Gauge("versions_share", &["worker", "plugin", "role", "version", "mode", "cluster"]);
    /// This VM's share of `config_refused`.
    Gauge("refusals_share", &["worker", "plugin"]);
}

macro_rules! labels {
    ($($(#[doc = $about:literal])+ $name:ident: [$($word:expr),*] $($open:ident)?;)+) => {
        /// The labels.
        pub const LABELS: &[Label] = &[$(Label {
            name: stringify!($name),
            words: &[$($word),*],
            open: { let open: &[&str] = &[$(stringify!($open)),*]; !open.is_empty() },
            about: concat!($($about),+),
        }),+];
    };
}

labels! {
    /// The name of the plugin in Envoy. For a WasmPlugin it is the namespace, a dot and the name. Characters other than letters,
    /// digits and `-._*` are replaced by `_`.
    plugin: [] open;
    /// The `role` of the configuration.
    role: ["client", "server", "edge"];
    /// The `host` of the service, as configured, in lower case.
    service: [] open;
    /// Where the request was sent, or who answered it. A name is that of the peer.
    destination: [HOME, REJECTED, RETURNED] open;
    /// Why it was sent there: see [Decisions](#decisions). Of `peer_declined`, why the peer did not take it: see
    /// [Declined requests](#declined-requests).
    reason: [
        HomeReason::Room.word(), HomeReason::Guest.word(), HomeReason::Returned.word(), WHEN_FULL,
        HomeReason::Misroute.word(), HomeReason::Uncounted.word(), HomeReason::Probe.word(),
        HomeReason::Unmatched.word(),
        SpillReason::Limit.word(), SpillReason::Contention.word(), SpillReason::Evacuate.word(),
        SpillReason::Ejected.word(), SpillReason::Ramp.word(), Declined::Full.word()
    ];
    /// The class of the answer's status: see [Outcomes](#outcomes).
    response_code_class: ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];
    /// The `name` of the peer.
    peer: [] open;
    /// The version of the module, such as `0.1.0`.
    version: [] open;
    /// The `mode` of the plugin. The mode of a service is not shown here.
    mode: ["enforce", "observe", "off"];
    /// The `cluster` of the configuration.
    cluster: [] open;
    /// A number of the Envoy process, a hyphen, and the number of the VM's slot. For `roster_changes` it is only the former.
    worker: [] open;
}

macro_rules! decisions {
    ($($(#[doc = $about:literal])+ $to:expr, $reason:expr;)+) => {
        /// All decisions that can be made.
        pub const DECISIONS: &[Decided] = &[$(Decided {
            to: $to,
            reason: $reason,
            about: concat!($($about),+),
        }),+];
    };
}

decisions! {
    /// The request was within the limit, or the service has no limit.
    Some(HOME), HomeReason::Room.word();
    /// A peer spilled the request to this cluster. Guests are served beyond the limit and are never spilled again.
    Some(HOME), HomeReason::Guest.word();
    /// This cluster had spilled the request, and it came back.
    Some(HOME), HomeReason::Returned.word();
    /// The request was to be spilled, but no peer took it: each is drained, ejected or full. With `whenFull: home` it goes home.
    Some(HOME), HomeReason::WhenFull.word();
    /// The request was to be spilled, but nothing leads to any of the open peers, or their clusters have no healthy host.
    Some(HOME), HomeReason::Misroute.word();
    /// The filter could not count: Envoy refused it, or does not keep the gauges of this service (`proxyStatsMatcher`).
    Some(HOME), HomeReason::Uncounted.word();
    /// Home is ejected, and this one request tests whether it works again. It is sent even if the limit is reached.
    Some(HOME), HomeReason::Probe.word();
    /// The request was to be spilled, but no entry of `spill.match` matches it. It goes home, whatever `whenFull` says.
    Some(HOME), HomeReason::Unmatched.word();
    /// The limit was reached. With `overflow: eject`, the request that ejects home has this reason too.
    None, SpillReason::Limit.word();
    /// Several workers tried to take the last place at the same moment, sixteen times. There may have been room.
    None, SpillReason::Contention.word();
    /// The service has `mode: evacuate`.
    None, SpillReason::Evacuate.word();
    /// Home is ejected for its errors.
    None, SpillReason::Ejected.word();
    /// Home takes its load back step by step after an ejection, and this request is not yet part of it.
    None, SpillReason::Ramp.word();
    /// The request was to be spilled, but no peer took it, and `whenFull` is `reject`. The filter answers it with 503.
    Some(REJECTED), WHEN_FULL;
}

/// What is wrong with a metric of Envoy according to this declaration: its name, its kind, its labels or a value of a
/// label. `full_name` is its name with labels. `None` if nothing is wrong.
pub fn fault(kind: Kind, full_name: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("{full_name}: {what}"));
    let Some(rest) = full_name.strip_prefix(PREFIX) else {
        return wrong("does not begin as all do");
    };
    let mut parts: Vec<&str> = rest.split(";.;").collect();
    let name = parts.pop().unwrap_or_default();
    let all = || METRICS.iter().chain(INTERNAL);
    let Some(metric) = all().find(|metric| metric.name == name) else {
        return wrong("is not declared");
    };
    if metric.kind != kind {
        return wrong("is of another kind");
    }
    let pairs: Option<Vec<(&str, &str)>> = parts.iter().map(|p| p.split_once("=.=")).collect();
    let Some(pairs) = pairs.filter(|pairs| pairs.iter().map(|(label, _)| label).eq(metric.labels))
    else {
        return wrong("has other labels");
    };
    let known = |(label, value): &(&str, &str)| {
        LABELS
            .iter()
            .any(|l| l.name == *label && (l.open || l.words.contains(value)))
    };
    if !pairs.iter().all(known) {
        return wrong("has another value of a label");
    }
    let of = |label: &str| {
        pairs
            .iter()
            .find(|(name, _)| *name == label)
            .map(|(_, value)| *value)
    };
    if let (Some(reason), "peer_declined") = (of("reason"), name) {
        let known = Declined::ALL.map(Declined::word).contains(&reason);
        return if known { None } else { wrong("is no reason") };
    }
    if let Some(reason) = of("reason") {
        let to = of("destination").filter(|to| [HOME, REJECTED, RETURNED].contains(to));
        if !DECISIONS.iter().any(|d| d.to == to && d.reason == reason) {
            return wrong("is no decision");
        }
    }
    if of("response_code_class").is_some()
        && [Some(HOME), Some(REJECTED)].contains(&of("destination"))
    {
        return wrong("is no outcome");
    }
    None
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
