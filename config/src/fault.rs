//! What is wrong with a configuration, all of it, each a line with its path and its place in the text.

use core::fmt;

use super::line::line;
use super::node::Node;

/// Faults that are told one by one, and warnings; the others are counted.
pub const MOST_TOLD: usize = 20;

/// Why a configuration is refused: where, what is wrong, what to do. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `services[0].peers[0].host`; empty for the whole.
    pub path: String,
    /// What is wrong, and the fix.
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
    // What a user wrote is quoted in it.
    f.write_str(&line(&text))
}

impl std::error::Error for Fault {}

/// A line and a column of the text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

/// All that is wrong with a configuration: at least one fault. Displays as a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    told: Vec<(Fault, Option<Place>)>,
    more: usize,
    /// None is told.
    counts: bool,
}

impl Faults {
    /// A line for each, and one that counts those that are not told.
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

    /// Those that are told, in the order in which they were found.
    pub fn told(&self) -> impl Iterator<Item = &Fault> {
        self.told.iter().map(|(fault, _)| fault)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.told.len().saturating_add(self.more)
    }

    /// Of which none is told: it is only to be known whether there are any, which costs no look at the text.
    pub(super) fn counted() -> Faults {
        Faults {
            counts: true,
            ..Faults::default()
        }
    }

    /// Whether one more is only counted.
    pub(super) fn is_full(&self) -> bool {
        self.counts || self.told.len() >= MOST_TOLD
    }

    /// Adds one that was found at `path` of the configuration `source`.
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

/// A path, as a chain down the stack of the reader.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The whole configuration.
    Root,
    /// A field, with its place in the text among those of its object; none where it is missing.
    Field(&'a Path<'a>, &'a str, Option<usize>),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The path of the field of this name of the object `node`, whether it is there or not.
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

/// The place of what is at `path`; nothing where the text is a single line, as Istio's is, or its path alone says all.
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

/// Where the value of `path` begins in `source`, which is JSON: for a field, where its name does.
fn offset(source: &[u8], path: &Path<'_>) -> Option<usize> {
    let (up, nth) = match path {
        Path::Root => return Some(source.len().saturating_sub(source.trim_ascii_start().len())),
        Path::Field(up, _, None) => return offset(source, up),
        Path::Field(up, _, Some(nth)) => (up, nth),
        Path::Index(up, nth) => (up, nth),
    };
    let mut at = offset(source, up)?;
    if let Path::Field(..) = up {
        // Over its name.
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

/// Behind the first byte outside of strings that `found` takes, given how many brackets stand open before it.
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
