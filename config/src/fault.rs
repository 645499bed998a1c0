//! The mistakes of a configuration. Each is a line with its path and its position in the text.

use core::fmt;

use super::line::line;
use super::node::Node;

/// The most faults that are reported one by one, and the most warnings. Further ones are only counted.
pub const MOST_TOLD: usize = 20;

/// A reason why a configuration is refused: the path, what is wrong, and what to do. Its `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path, for example `services[0].peers[0].host`. It is empty for the whole configuration.
    pub path: String,
    /// What is wrong, and how to fix it.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, self, None)
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, fault: &Fault, place: Option<Place>) -> fmt::Result {
    let Fault { path, problem } = fault;
    let path = if path.is_empty() {
        "configuration"
    } else {
        path
    };
    let text = match place {
        None => format!("{path}: {problem}"),
        Some(Place { line, column }) => {
            format!("{path} (line {line}, column {column}): {problem}")
        }
    };
    // The text can quote what a user wrote.
    f.write_str(&line(&text))
}

impl std::error::Error for Fault {}

/// A position in the text: a line and a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
}

/// All faults of a configuration. Its `Display` has a line for each of the first [`MOST_TOLD`], and one that counts the
/// others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    told: Vec<(Fault, Option<Place>)>,
    more: usize,
    /// Faults are only counted, and none is kept.
    counts: bool,
}

impl Faults {
    /// A line for each fault that is kept, and one that counts the others if there are any.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        struct Line<'a>(&'a Fault, Option<Place>);
        impl fmt::Display for Line<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_line(f, self.0, self.1)
            }
        }
        let told = self.told.iter();
        let more =
            (self.more > 0).then(|| format!("configuration: and {} more mistakes", self.more));
        told.map(|(fault, place)| Line(fault, *place).to_string())
            .chain(more)
    }

    /// The faults that are kept, in the order in which they were found: at most [`MOST_TOLD`].
    pub fn told(&self) -> impl Iterator<Item = &Fault> {
        self.told.iter().map(|(fault, _)| fault)
    }

    /// The number of faults, with those that are only counted.
    pub fn count(&self) -> usize {
        self.told.len().saturating_add(self.more)
    }

    /// No faults yet, and those that are added are only counted. It finds out whether there are any, without a search for
    /// their positions.
    pub(super) fn counted() -> Faults {
        Faults {
            counts: true,
            ..Faults::default()
        }
    }

    /// Whether a further fault is only counted.
    pub(super) fn is_full(&self) -> bool {
        self.counts || self.told.len() >= MOST_TOLD
    }

    /// Adds a fault that was found at `path` of the configuration `source`.
    #[cold]
    #[inline(never)]
    pub(super) fn add(&mut self, source: &[u8], path: &Path<'_>, problem: fmt::Arguments<'_>) {
        if self.is_full() {
            self.more = self.more.saturating_add(1);
            return;
        }
        let fault = Fault {
            path: path.to_string(),
            problem: problem.to_string(),
        };
        self.told.push((fault, place(source, path)));
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults {
            told: vec![(fault, None)],
            more: 0,
            counts: false,
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, line) in self.lines().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A path in a configuration. Each part is on the stack of the reader and refers to the part before it.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The whole configuration.
    Root,
    /// A field of an object, with its name and its index among the fields in the text. The index is `None` if the field is
    /// missing.
    Field(&'a Path<'a>, &'a str, Option<usize>),
    /// An element of a list, with its index from 0.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The path of the field `name` of the object `node`, whether the field is present or not. `self` is the path of the
    /// object.
    #[inline(never)]
    pub fn field(&'a self, node: &Node<'_>, name: &'a str) -> Path<'a> {
        let nth = match node {
            Node::Map(fields) => fields.iter().position(|(other, _)| other == name),
            _ => None,
        };
        Path::Field(self, name, nth)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name, _) => write!(f, "{name:.60}"),
            Path::Field(up, name, _) => write!(f, "{up}.{name:.60}"),
            Path::Index(up, index) => write!(f, "{up}[{index}]"),
        }
    }
}

/// The position of the value at `path`. `None` if the text is a single line, as it is from Istio, because the path is
/// enough there.
fn place(source: &[u8], path: &Path<'_>) -> Option<Place> {
    let newline = |byte: &u8| *byte == b'\n';
    if !source.trim_ascii().iter().any(newline) {
        return None;
    }
    let before = source.get(..offset(source, path)?)?;
    let begins = before
        .iter()
        .rposition(newline)
        .map_or(0, |at| at.saturating_add(1));
    Some(Place {
        line: before
            .iter()
            .filter(|byte| newline(byte))
            .count()
            .saturating_add(1),
        column: before.len().saturating_sub(begins).saturating_add(1),
    })
}

/// The offset in bytes at which the value at `path` begins in `source`, which is JSON. For a field it is the offset of its
/// name.
fn offset(source: &[u8], path: &Path<'_>) -> Option<usize> {
    let (up, nth) = match path {
        Path::Root => return Some(source.len().saturating_sub(source.trim_ascii_start().len())),
        Path::Field(up, _, None) => return offset(source, up),
        Path::Field(up, _, Some(nth)) => (up, nth),
        Path::Index(up, nth) => (up, nth),
    };
    let mut at = offset(source, up)?;
    if let Path::Field(..) = up {
        // Skip the name.
        at = at.saturating_add(scan(source.get(at..)?, |depth, byte| {
            depth == 0 && byte == b':'
        })?);
    }
    let open = |_: usize, byte: u8| byte == b'{' || byte == b'[';
    at = at.saturating_add(scan(source.get(at..)?, open)?);
    for _ in 0..*nth {
        at = at.saturating_add(scan(source.get(at..)?, |depth, byte| {
            depth == 0 && byte == b','
        })?);
    }
    let rest = source.get(at..)?;
    Some(source.len().saturating_sub(rest.trim_ascii_start().len()))
}

/// The offset after the first byte outside of strings for which `found` is true. `found` gets the number of brackets that
/// are open before the byte, and the byte.
fn scan(text: &[u8], found: impl Fn(usize, u8) -> bool) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        if quoted {
            quoted = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        if found(depth, *byte) {
            return Some(at.saturating_add(1));
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}
