//! The committed page is made from the declaration, and the declaration has every value that the code can give to a label.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::Decision;
use crate::names::{metric, share};
use crate::outcome::Class;

#[test]
fn the_committed_page_is_what_the_declaration_gives() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let committed = fs::read_to_string(path).expect("`cargo xtask config` writes it");
    assert!(committed == page(), "run `cargo xtask config`");
}

fn words(label: &str) -> BTreeSet<&'static str> {
    let label = LABELS.iter().find(|l| l.name == label);
    label.expect("a label").words.iter().copied().collect()
}

#[test]
fn a_label_has_every_word_that_the_code_gives_it() {
    let classes: BTreeSet<&str> = Class::ALL.iter().map(|class| class.word()).collect();
    assert_eq!(words("response_code_class"), classes);
    let decided = Decision::all().map(Decision::reason);
    let declined = Declined::ALL.map(Declined::word);
    let reasons: BTreeSet<&str> = decided.chain(declined).collect();
    assert_eq!(words("reason"), reasons);
}

#[test]
fn the_decisions_of_the_page_are_those_that_can_be_made() {
    let made: BTreeSet<_> = Decision::all()
        .map(|decision| {
            let to = match decision {
                Decision::Home(_) => Some(HOME),
                Decision::Spill { .. } => None,
                Decision::Reject => Some(REJECTED),
            };
            (to, decision.reason())
        })
        .collect();
    let declared = DECISIONS.iter().map(|decided| (decided.to, decided.reason));
    assert_eq!(declared.clone().collect::<BTreeSet<_>>(), made);
    assert_eq!(declared.count(), made.len(), "each once");
}

#[test]
fn each_metric_is_declared_once_with_labels_that_are_declared() {
    let mut names = BTreeSet::new();
    let mut used = BTreeSet::new();
    for metric in METRICS.iter().chain(INTERNAL) {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        assert!(!metric.about.trim().is_empty(), "{}", metric.name);
        used.extend(metric.labels);
    }
    let labels: BTreeSet<&str> = LABELS.iter().map(|label| label.name).collect();
    assert_eq!(used, labels);
}

/// The share of a count, as [`share`] names it, is an internal metric with one more label.
#[test]
fn every_share_is_declared_with_the_labels_of_its_count() {
    let mut shares = 0;
    for whole in METRICS {
        let labels: Vec<(&str, &str)> = whole.labels.iter().map(|label| (*label, "x")).collect();
        let Some(share) = share(&metric(&labels, whole.name)) else {
            continue;
        };
        let (_, name) = share.rsplit_once(";.;").expect("labels");
        let part = INTERNAL.iter().find(|metric| metric.name == name);
        let labels = part.expect("the share is declared").labels;
        assert_eq!(labels.split_first(), Some((&"worker", whole.labels)));
        shares += 1;
    }
    assert_eq!(shares, 5);
}

#[test]
fn a_metric_that_is_not_declared_is_a_fault() {
    let service = [("plugin", "p"), ("role", "client"), ("service", "a")];
    let decision = |to, reason| {
        let labels = [&service[..], &[("destination", to), ("reason", reason)]].concat();
        metric(&labels, "decisions")
    };
    let declined = |reason| {
        let labels = [&service[..], &[("peer", "gke"), ("reason", reason)]].concat();
        metric(&labels, "peer_declined")
    };
    for good in [
        decision("home", "room"),
        decision("gke", "limit"),
        decision("rejected", "when-full"),
        declined("full"),
    ] {
        assert_eq!(fault(Kind::Counter, &good), None);
    }
    for (bad, says) in [
        (metric(&service, "in_flght"), "is not declared"),
        (metric(&service, "in_flight"), "is of another kind"),
        (metric(&service[..2], "errors"), "has other labels"),
        (
            metric(&[service[0], ("role", "sever"), service[2]], "errors"),
            "has another value of a label",
        ),
        (declined("limit"), "is no reason"),
        (decision("home", "limit"), "is no decision"),
        (decision("returned", "returned"), "is no decision"),
        ("errors".to_owned(), "does not begin as all do"),
    ] {
        let fault = fault(Kind::Counter, &bad).unwrap_or_default();
        assert!(fault.ends_with(says), "{bad}: {fault}");
    }
}
