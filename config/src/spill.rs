//! Reads a service's `spill`: which requests may be spilled, and which of them belong to one session.

use std::rc::Rc;

use super::declared::checked::{consistent_hash, cookie};
use super::declared::plugin::service;
use super::declared::spill::{entry, spill, text_match};
use super::fault::Path;
use super::fields::{Fields, Text, Value};
use super::node::Node;
use super::reader::{Report, is_name};
use ::policy::Spill;
use ::policy::spill::{Condition, METHOD, PATH, Session, Test};

/// Reads the `spill` of a service, which was checked. `path` is the path of the service. A mistake is told at the path of `spill`
/// and names its place, since paths of all the places would make the module larger.
#[inline(never)]
pub(super) fn read(
    service: &Fields<'_>,
    path: &Path<'_>,
    report: &mut Report<'_>,
) -> Option<Rc<Spill>> {
    let fields = Fields::of(Some(service.written(service::spill)?), &spill::OBJECT);
    let path = &service.path(path, service::spill);
    let nodes = match fields.written(spill::entries) {
        Some(Node::List(nodes)) => &nodes[..],
        _ => &[],
    };
    let mut read = Conditions {
        all: Vec::new(),
        entry: 0,
        not: false,
    };
    for node in nodes {
        let fields = Fields::of(Some(node), &entry::OBJECT);
        for (name, key) in [
            (METHOD, entry::method),
            (PATH, entry::uri),
            ("", entry::headers),
            ("", entry::withoutHeaders),
        ] {
            read.not = key.nth == entry::withoutHeaders.nth;
            match fields.written(key) {
                Some(Node::Map(headers)) if name.is_empty() => {
                    for (name, node) in headers {
                        if !is_name(name, 63) {
                            report.fault(
                                path,
                                format_args!("match has {name:.60}, no header's name"),
                            );
                        }
                        read.add(name, node, path, report);
                    }
                }
                Some(node) => read.add(name, node, path, report),
                None => {}
            }
        }
        read.entry = read.entry.wrapping_add(1);
    }
    let session = fields.written(spill::consistentHash);
    Some(Rc::new(Spill {
        entries: read.entry,
        conditions: read.all,
        session: session.and_then(|node| session_of(node, path, report)),
    }))
}

/// The conditions that were read.
struct Conditions {
    all: Vec<Condition>,
    /// The index of the entry that is read.
    entry: u32,
    /// Whether its headers must not match.
    not: bool,
}

impl Conditions {
    /// Adds a condition on the value of this name.
    #[inline(never)]
    fn add(&mut self, name: &str, node: &Node<'_>, path: &Path<'_>, report: &mut Report<'_>) {
        let fields = Fields::of(Some(node), &text_match::OBJECT);
        let exact = fields.written(text_match::exact);
        let prefix = fields.written(text_match::prefix);
        if exact.is_some() && prefix.is_some() {
            report.fault(
                path,
                format_args!("match has exact and prefix of {name}; remove one"),
            );
        }
        self.all.push(Condition {
            entry: self.entry,
            name: name.to_owned(),
            test: match (exact, prefix) {
                (None, None) => Test::Present,
                (_, None) => Test::Exact,
                _ => Test::Prefix,
            },
            text: exact.or(prefix).unwrap_or_default().to_owned(),
            not: self.not,
        });
    }
}

fn session_of(node: &Node<'_>, path: &Path<'_>, report: &mut Report<'_>) -> Option<Session> {
    let fields = Fields::of(Some(node), &consistent_hash::OBJECT);
    let cookie = fields.written(consistent_hash::httpCookie);
    let name = match cookie {
        None => fields.written(consistent_hash::httpHeaderName),
        Some(_) => Fields::of(cookie, &cookie::OBJECT).written(cookie::name),
    };
    let name = name.and_then(Text::read).filter(|name| is_name(name, 63));
    let alone = |node: &Node<'_>| matches!(node, Node::Map(fields) if fields.len() == 1);
    if name.is_none() || !alone(node) || !cookie.is_none_or(alone) {
        report.fault(path, format_args!("consistentHash wants httpHeaderName or httpCookie.name alone: the filter sets no cookie and has no ring"));
    }
    Some(Session {
        name: name?.to_owned(),
        is_cookie: cookie.is_some(),
    })
}
