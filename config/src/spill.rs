//! What a service's `spill` means: which requests may leave, and which of them belong together.

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
    let mut conditions = Vec::new();
    // Those on the method of all entries come first, then those on the path, so that each of the two is read once.
    for (name, key) in [
        (METHOD, entry::method),
        (PATH, entry::uri),
        ("", entry::headers),
        ("", entry::withoutHeaders),
    ] {
        let not = key.nth == entry::withoutHeaders.nth;
        for (entry, node) in (0..).zip(nodes) {
            match Fields::of(Some(node), &entry::OBJECT).written(key) {
                Some(Node::Map(headers)) if name.is_empty() => {
                    for (name, node) in headers {
                        if !is_name(name, 63) {
                            report.fault(path, format_args!("match has {name:.60}, no header's name: letters, digits, '-', '.', '_'"));
                        }
                        add(&mut conditions, (entry, not), (name, node), (path, report));
                    }
                }
                Some(node) => add(&mut conditions, (entry, not), (name, node), (path, report)),
                None => {}
            }
        }
    }
    let session = fields.written(spill::consistentHash);
    Some(Rc::new(Spill {
        entries: nodes.len() as u32,
        conditions,
        session: session.and_then(|node| session_of(node, path, report)),
    }))
}

/// Adds a condition on the value of this name.
#[inline(never)]
fn add(
    conditions: &mut Vec<Condition>,
    (entry, not): (u32, bool),
    (name, node): (&str, &Node<'_>),
    (path, report): (&Path<'_>, &mut Report<'_>),
) {
    let fields = Fields::of(Some(node), &text_match::OBJECT);
    let exact = fields.written(text_match::exact);
    let prefix = fields.written(text_match::prefix);
    if exact.is_some() && prefix.is_some() {
        report.fault(
            path,
            format_args!("match has exact and prefix of {name}; remove one"),
        );
    }
    conditions.push(Condition {
        entry,
        name: name.to_owned(),
        test: match (exact, prefix) {
            (None, None) => Test::Present,
            (_, None) => Test::Exact,
            _ => Test::Prefix,
        },
        text: exact.or(prefix).unwrap_or_default().to_owned(),
        not,
    });
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
        report.fault(path, format_args!("consistentHash wants httpHeaderName, or httpCookie with a name, and nothing else: the filter sets no cookie and has no ring"));
    }
    Some(Session {
        name: name?.to_owned(),
        is_cookie: cookie.is_some(),
    })
}
