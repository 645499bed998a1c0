//! Checks a tree against the declaration. Every mistake becomes a fault, and every field that is not acted on becomes a
//! warning.

use core::fmt;

use super::declaration::{Field, Kind, List, Object};
use super::duration;
use super::fault::{Fault, Faults, MOST_TOLD, Path};
use super::fields::{Millis, Value};
use super::nearest::{self, Known};
use super::node::Node;
use super::types::Role;

/// The most fields of an object with any names.
pub(super) const MOST_IN_MAP: usize = 100;

/// The faults and warnings that were found so far.
pub struct Report<'a> {
    /// The text of the configuration, for the positions of faults.
    pub source: &'a [u8],
    /// The role whose fields are accepted.
    pub role: Role,
    /// The role is unknown, so fields that do not exist in all roles are not checked.
    pub any_role: bool,
    /// The mistakes.
    pub faults: Faults,
    /// Warnings about values that are accepted and may not do what a user expects.
    pub surprises: Warnings,
    /// Warnings about fields that are accepted and not acted on.
    pub ignored: Warnings,
}

/// Warnings. At most [`MOST_TOLD`] are kept, and all are counted.
#[derive(Default)]
pub struct Warnings {
    kept: Vec<String>,
    count: usize,
}

impl Warnings {
    #[cold]
    #[inline(never)]
    fn add(&mut self, path: &Path<'_>, problem: fmt::Arguments<'_>) {
        self.count = self.count.saturating_add(1);
        if self.kept.len() < MOST_TOLD {
            let (path, problem) = (path.to_string(), problem.to_string());
            self.kept.push(Fault { path, problem }.to_string());
        }
    }
}

impl<'a> Report<'a> {
    /// An empty report on the configuration `source` in this role.
    pub fn new(source: &'a [u8], role: Role) -> Self {
        Report {
            source,
            role,
            any_role: false,
            faults: Faults::default(),
            surprises: Warnings::default(),
            ignored: Warnings::default(),
        }
    }

    /// Adds a fault at `path`.
    #[cold]
    pub fn fault(&mut self, path: &Path<'_>, problem: fmt::Arguments<'_>) {
        self.faults.add(self.source, path, problem);
    }

    /// Adds a warning that the value at `path` may not do what a user expects.
    #[cold]
    pub fn warn(&mut self, path: &Path<'_>, problem: fmt::Arguments<'_>) {
        self.surprises.add(path, problem);
    }

    /// Adds a warning that the value at `path` is not acted on.
    #[cold]
    pub fn ignored(&mut self, path: &Path<'_>) {
        let problem = format_args!("accepted, and not acted on by this filter");
        self.ignored.add(path, problem);
    }

    /// The warnings as at most [`MOST_TOLD`] lines, the more important ones first, and a line that counts the others if
    /// there are any.
    pub fn warnings(self) -> Vec<String> {
        let count = self.surprises.count.saturating_add(self.ignored.count);
        let mut lines = self.surprises.kept;
        lines.extend(self.ignored.kept);
        lines.truncate(MOST_TOLD);
        let more = count.saturating_sub(lines.len());
        if more > 0 {
            lines.push(format!("configuration: and {more} more warnings"));
        }
        lines
    }

    /// Checks that `node`, which is at `path`, is this object, with everything in it.
    #[inline(never)]
    pub fn object(&mut self, node: &Node<'_>, object: &'static Object, path: &Path<'_>) {
        let Node::Map(fields) = node else {
            return self.wrong_kind(node, path, format_args!("an object"));
        };
        let (mut a_rule, mut seen) = (false, 0u32);
        for (nth, (name, node)) in fields.iter().enumerate() {
            let path = &Path::Field(path, name, Some(nth));
            let Some((nth, field)) = object.find(name, self.role) else {
                // A whole DestinationRule is reported once.
                let whole = self.unknown(name, object, path, a_rule);
                a_rule = a_rule || whole;
                continue;
            };
            let bit = 1u32.wrapping_shl(nth);
            if seen & bit != 0 {
                self.fault(path, format_args!("is there twice; remove one of them"));
            }
            seen |= bit;
            if self.skips(field) || matches!(node, Node::Null) && field.is_nullable() {
                continue;
            }
            let before = self.faults.count();
            // The advice of a required field is for a user who left it out.
            let hint = if field.is_required() { "" } else { field.fix };
            self.value(node, &field.kind, hint, path);
            if field.is_checked() && before == self.faults.count() && says(node, Some(field)) {
                self.ignored(path);
            }
        }
        for (nth, field) in (0..).zip(object.fields) {
            let there = seen & 1u32.wrapping_shl(nth) != 0;
            let next = seen.wrapping_shr(nth.wrapping_add(1)) & 1 != 0;
            let wanted = field.is_required() || field.is_required_or_next() && !next;
            if wanted && !there && field.is_for(self.role) && !self.skips(field) {
                let missing = Path::Field(path, field.name, None);
                self.fault(&missing, format_args!("is missing; add {}", field.fix));
            }
        }
    }

    fn skips(&self, field: &Field) -> bool {
        self.any_role && !Role::ALL.iter().all(|role| field.is_for(*role))
    }

    #[cold]
    #[inline(never)]
    fn unknown(
        &mut self,
        name: &str,
        object: &'static Object,
        path: &Path<'_>,
        a_rule: bool,
    ) -> bool {
        let role = self.role;
        if self.faults.is_full() {
            // It is only counted, so the slow search for a suggestion is skipped.
            self.fault(path, format_args!(""));
            return false;
        }
        if object.fields.iter().any(|field| field.name == name) {
            let problem = format_args!("is not for role: {}; remove it", role.word());
            self.fault(path, problem);
            return false;
        }
        if object.takes_a_policy() && nearest::is_of_a_rule(name) {
            if !a_rule {
                self.fault(path, format_args!("is of a whole DestinationRule; paste only what is in its spec.trafficPolicy, and of a subset's own trafficPolicy what is to hold for the service"));
            }
            return true;
        }
        let fields = object.fields.iter().filter(|field| field.is_for(role));
        let fields: Vec<&str> = fields.map(|field| field.name).collect();
        let or = format!("remove it, or use one of: {}", fields.join(", "));
        match nearest::nearest(name, object, role) {
            Known::Nothing => self.fault(path, format_args!("unknown field; {or}")),
            Known::Advice(advice) => self.fault(path, format_args!("unknown field; {advice}")),
            Known::Near(near) => {
                self.fault(
                    path,
                    format_args!("unknown field; did you mean {near}? If not, {or}"),
                );
            }
        }
        false
    }

    #[inline(never)]
    fn value(&mut self, node: &Node<'_>, kind: &Kind, fix: &str, path: &Path<'_>) {
        match (*kind, node) {
            (Kind::Object(object), _) => self.object(node, object, path),
            (Kind::List(list), Node::List(nodes)) => self.list(nodes, list, path),
            (Kind::Map(kind), Node::Map(fields)) => {
                if fields.len() > MOST_IN_MAP {
                    let problem = format_args!("has more than {MOST_IN_MAP} fields");
                    return self.fault(path, problem);
                }
                for (nth, (name, node)) in fields.iter().enumerate() {
                    self.value(node, kind, fix, &Path::Field(path, name, Some(nth)));
                }
            }
            (Kind::Whole(range), Node::Number(number)) => {
                self.whole(*number, *range, fix, path);
            }
            (Kind::Number(most), Node::Number(number)) => {
                if !(0.0..=f64::from(most)).contains(number) {
                    self.fault(path, format_args!("must be a number from 0 to {most}"));
                }
            }
            (Kind::Duration(least), Node::Text(text)) => {
                if let Err(problem) = duration::check(text, least) {
                    self.fault(path, format_args!("{problem}"));
                }
            }
            (Kind::Words(words), Node::Text(text)) => {
                if !words.contains(&&**text) {
                    let words = words.join(" or ");
                    self.fault(path, format_args!("must be {words}, not {text:.60}"));
                }
            }
            (Kind::Name(not), Node::Text(text)) => {
                if !is_name(text, 63) {
                    self.fault(
                        path,
                        format_args!(
                            "must be 1 to 63 letters, digits, '-', '.' or '_', not {text:.60}"
                        ),
                    );
                } else if not.contains(&&**text) {
                    self.fault(
                        path,
                        format_args!("{text} is a word of the metrics; give the peer another name"),
                    );
                }
            }
            (Kind::Host | Kind::HostOrStar, Node::Text(text)) => {
                let star = matches!(kind, Kind::HostOrStar) && text == "*";
                if !star && (!is_name(text, 253) || text.starts_with('.')) {
                    self.fault(
                        path,
                        format_args!("must be a host name without a port, not {text:.60}"),
                    );
                }
            }
            (Kind::Boolean, Node::Bool(_)) | (Kind::Text, Node::Text(_)) => {}
            (Kind::Refused, _) => self.fault(path, format_args!("{fix}")),
            (Kind::Whole((min, max)), _) => {
                self.wrong_kind(
                    node,
                    path,
                    format_args!("a whole number from {min} to {max}"),
                );
            }
            (Kind::Number(most), _) => {
                self.wrong_kind(node, path, format_args!("a number from 0 to {most}"));
            }
            (Kind::List(_), _) => self.wrong_kind(node, path, format_args!("a list")),
            (Kind::Map(_), _) => self.wrong_kind(node, path, format_args!("an object")),
            (Kind::Boolean, _) => self.wrong_kind(node, path, format_args!("true or false")),
            _ => self.wrong_kind(node, path, format_args!("a string")),
        }
    }

    #[cold]
    #[inline(never)]
    fn wrong_kind(&mut self, node: &Node<'_>, path: &Path<'_>, wanted: fmt::Arguments<'_>) {
        self.fault(path, format_args!("must be {wanted}, not {}", node.kind()));
    }

    fn list(&mut self, nodes: &[Node<'_>], list: &'static List, path: &Path<'_>) {
        if nodes.is_empty() && !list.empty.is_empty() {
            self.fault(path, format_args!("is empty; {}", list.empty));
        }
        for (index, node) in nodes.iter().take(list.most).enumerate() {
            self.value(node, &list.of, "", &Path::Index(path, index));
        }
        if nodes.len() > list.most {
            let path = Path::Index(path, list.most);
            let (most, noun) = (list.most, list.noun);
            let problem = format_args!("is one too many; at most {most} {noun}");
            self.fault(&path, problem);
        }
    }

    fn whole(&mut self, number: f64, (min, max): (u32, u32), fix: &str, path: &Path<'_>) {
        if number.fract() == 0.0 && number >= f64::from(min) && number <= f64::from(max) {
            return;
        }
        let wanted = format_args!("must be a whole number from {min} to {max}");
        // Only whole numbers are quoted. The code that prints any double would make the module a tenth larger.
        match number as i64 {
            // The advice is about the meaning of 0 in Istio.
            0 if number == 0.0 && !fix.is_empty() => {
                self.fault(path, format_args!("{wanted}, not 0 ({fix})"));
            }
            whole if whole as f64 == number => {
                self.fault(path, format_args!("{wanted}, not {whole}"));
            }
            _ => self.fault(path, format_args!("{wanted}, without a fraction")),
        }
    }
}

pub(super) fn is_name(text: &str, most: usize) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    !text.is_empty() && text.len() <= most && text.bytes().all(fits)
}

/// Whether a value that was checked differs from its default.
fn says(node: &Node<'_>, field: Option<&Field>) -> bool {
    let default = field.and_then(Field::value_if_absent).unwrap_or(0);
    match node {
        Node::Null => false,
        Node::Bool(value) => *value != (default > 0),
        Node::Number(number) => *number != f64::from(default),
        Node::Text(text) => match field.map(|field| field.kind) {
            Some(Kind::Words(words)) => words.get(usize::from(default)) != Some(&&**text),
            Some(Kind::Duration(_)) => duration::millis(text) != Millis::default(default),
            _ => !text.is_empty(),
        },
        Node::List(nodes) => nodes.iter().any(|node| says(node, None)),
        Node::Map(fields) => {
            let object = field.and_then(nearest::inner);
            fields.iter().any(|(name, node)| {
                let field =
                    object.and_then(|object| object.fields.iter().find(|f| f.name == *name));
                says(node, field)
            })
        }
    }
}

impl Object {
    /// The field of this name that exists in the role, and its index.
    fn find(&self, name: &str, role: Role) -> Option<(u32, &'static Field)> {
        let mut fields = (0..).zip(self.fields);
        fields.find(|(_, field)| field.name == name && field.is_for(role))
    }

    fn takes_a_policy(&self) -> bool {
        core::ptr::eq(self, &super::declared::policy::policy::OBJECT)
    }
}
