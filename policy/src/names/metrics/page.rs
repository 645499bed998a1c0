//! The page about metrics for users, made from the declaration.

use super::{DECISIONS, INTERNAL, LABELS, METRICS, Metric};

/// The text of `docs/metrics.md`.
pub fn page() -> String {
    let mut page = String::from(BEGINNING);
    table(METRICS, &mut page);
    page.push_str(LABELS_BEGIN);
    for label in LABELS {
        let mut words: Vec<String> = label.words.iter().map(|w| format!("`{w}`")).collect();
        if label.open {
            words.push("a name".to_owned());
        }
        let (name, words, about) = (label.name, words.join(", "), label.about.trim());
        page.push_str(&format!("| `{name}` | {words} | {about} |\n"));
    }
    page.push_str(DECISIONS_BEGIN);
    for decision in DECISIONS {
        let to = decision
            .to
            .map_or("*a peer*".to_owned(), |to| format!("`{to}`"));
        let (reason, about) = (decision.reason, decision.about.trim());
        page.push_str(&format!("| {to} | `{reason}` | {about} |\n"));
    }
    page.push_str(REST);
    table(INTERNAL, &mut page);
    page
}

fn table(metrics: &[Metric], page: &mut String) {
    page.push_str("| name | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in metrics {
        let labels = metric.labels.join(", ");
        let (name, kind, about) = (metric.name, metric.kind.word(), metric.about.trim());
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {about} |\n"));
    }
}

const BEGINNING: &str = "\
# Metrics

This page lists every metric of the filter. `cargo xtask config` makes it from a table in the code, which tests compare with the
statistics of a real Envoy (`cargo test --test metrics`). The
[README](../README.md#words) explains the words *home*, *peer*, *spill*, *guest*, *in flight* and *ejected*.

Every name begins with `peer_spillover_`. In Envoy's own `/stats` it begins with `wasmcustom.peer_spillover_`.

Envoy gives a Wasm filter no labels, so the filter writes them into the name, in the form that the bootstrap of Istio's proxies
can take out again: `peer_spillover_plugin=.=istio.peer-spillover;.;role=.=client;.;…`. List the labels in `extraStatTags` of the
mesh configuration to get them as labels in Prometheus
([wasmplugin/telemetry/meshconfig.yaml](../wasmplugin/telemetry/meshconfig.yaml)). Without that, they are a part of the name.

Envoy runs the module in several Wasm virtual machines (*VMs*): one for each worker thread, and one or more for the main thread.
All VMs of a proxy share its metrics.

A service has metrics from its first request on. A proxy that uses 3 of 1,000 configured services has the statistics of 3.

";

const LABELS_BEGIN: &str = "
## Labels

| label | values | meaning |
|---|---|---|
";

const DECISIONS_BEGIN: &str = "
## Decisions

`decisions` counts what was intended. It also grows with `mode: observe`, in which decisions are not carried out. `outcomes` tells
what happened to the requests that were sent to the peer.

| destination | reason | the decision is made when |
|---|---|---|
";

const REST: &str = "
## Declined requests

A request that home is not to get is offered to one peer after another, in the order of `priority` and `weight`, until one takes
it. `peer_declined` counts each peer that did not take it. A drained peer is not asked.

| reason | the peer does not take the request because |
|---|---|
| `full` | it has as many requests in flight as its limit allows, or workers competed for its last places. |
| `ejected` | it is ejected for its errors, or takes its load back step by step after that. |
| `misroute` | no route leads to it, or its cluster has no healthy host. |
| `uncounted` | it has a limit, and Envoy does not keep the gauges by which its requests are counted. |

## Outcomes

`outcomes` counts each spilled request once, when it ends (`cargo test --test outcomes`).

- `destination` is the name of the peer, or `returned` if home answered: a retry or a failover brought the request back, or no
  route led it away.
- `response_code_class` is the class of the HTTP status. For gRPC it is the class of the HTTP status that stands for the gRPC
  status. `none` means that no upstream answered, or not completely: Envoy answered itself, or the client went away.

The filter knows that home answered by the locality of the endpoint: its region is the `cluster` of the configuration, as in
`wasmplugin/federation/serviceentry.yaml`. If the route leads to the service's own endpoints (a subset on a multi-primary mesh), it
knows by the cluster that Istio names for the endpoint. Without either, an answer of home is counted as an answer of the peer.

What requests that stay at home were answered is in the metrics of Envoy and Istio (`istio_requests_total`). Reading it in the
filter would make each of these requests dearer.

## Misroutes

`misrouted`, or `peer_misrouted` if the service has several peers, is the sum of the causes that persist:

| value | cause |
|---|---|
| 1 | This proxy knows no cluster of the peer's host. |
| 2 | No route matches the request at the peer's host, or the route leads to a cluster that does not exist. |
| 4 | The peer's cluster has no healthy endpoint. |
| 8 | The route leads home, or to a cluster without a destination such as `BlackHoleCluster`. |
| 16 | The peer answers none of the requests that are sent to it. |

A cause is removed when a route leads to the peer again, or when the peer answers.
[troubleshooting.md](troubleshooting.md) says what to do about each.

## Access log and debug header

`%FILTER_STATE(wasm.peer_spillover:PLAIN)%` in an access log is `gke; reason=limit` for a request that was spilled to the peer
`gke`. `; returned` follows if home answered it. It is `-` for a request within the limit.

With `debugHeader: true` each response carries the same text in the header `x-peer-spillover`, and `home; reason=room` for a request
within the limit.

## Internal metrics

The filter needs these metrics in Envoy. They are not for dashboards, and they may change with any version. A rule in
[wasmplugin/telemetry/prometheus.yaml](../wasmplugin/telemetry/prometheus.yaml) keeps them out of Prometheus.

";
