//! Reads fields out of a tree, so that every complaint names its path and what to write instead.

use core::fmt;

use super::line::line;
use super::node::Node;

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
        let path = if self.path.is_empty() {
            "configuration"
        } else {
            &self.path
        };
        // What a user wrote is quoted in both.
        f.write_str(&line(&format!("{path}: {}", self.problem)))
    }
}

impl std::error::Error for Fault {}

/// A value and its path.
#[derive(Clone, Copy)]
pub struct At<'a> {
    node: &'a Node<'a>,
    path: &'a Path<'a>,
}

/// A path, as a chain down the stack of the reader.
pub enum Path<'a> {
    /// The whole configuration.
    Root,
    /// A field.
    Field(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => write!(f, "{name:.60}"),
            Path::Field(up, name) => write!(f, "{up}.{name:.60}"),
            Path::Index(up, index) => write!(f, "{up}[{index}]"),
        }
    }
}

impl<'a> At<'a> {
    /// The value `node` at `path`.
    pub fn new(node: &'a Node<'a>, path: &'a Path<'a>) -> Self {
        At { node, path }
    }

    /// A complaint about this value.
    #[cold]
    pub fn fault(&self, problem: impl Into<String>) -> Fault {
        self.complain(problem.into())
    }

    #[inline(never)]
    fn complain(&self, problem: String) -> Fault {
        Fault {
            path: self.path.to_string(),
            problem,
        }
    }

    /// A complaint about the field of this name in this object.
    #[cold]
    pub fn fault_in(&self, field: &str, problem: &str) -> Fault {
        let mut fault = self.fault(problem);
        fault.path.push('.');
        fault.path.push_str(field);
        fault
    }

    #[cold]
    fn wrong_kind(&self, wanted: &str) -> Fault {
        self.fault(format!("must be {wanted}, not {}", self.node.kind()))
    }

    /// Visits each field of an object; `visit` answers false for a name that it does not know.
    /// # Errors
    /// Not an object; the first field not known; what `visit` complains of.
    pub fn fields(
        &self,
        known: &[&str],
        mut visit: impl FnMut(&str, At<'_>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        self.each_field(known, &mut visit)
    }

    // Not compiled anew for each object of the schema: that would be a fortieth of the module.
    #[inline(never)]
    fn each_field(
        &self,
        known: &[&str],
        visit: &mut dyn FnMut(&str, At<'_>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let Node::Map(fields) = self.node else {
            return Err(self.wrong_kind("an object"));
        };
        for (name, node) in fields {
            let path = Path::Field(self.path, name);
            let at = At::new(node, &path);
            if !visit(name, at)? {
                return Err(at.fault(format!(
                    "unknown field; remove it, or use one of: {}",
                    known.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Visits each element of a list.
    /// # Errors
    /// Not a list; what `visit` complains of.
    pub fn elements(
        &self,
        mut visit: impl FnMut(At<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.each_element(&mut visit)
    }

    #[inline(never)]
    fn each_element(
        &self,
        visit: &mut dyn FnMut(At<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Node::List(list) = self.node else {
            return Err(self.wrong_kind("a list"));
        };
        for (index, node) in list.iter().enumerate() {
            visit(At::new(node, &Path::Index(self.path, index)))?;
        }
        Ok(())
    }

    /// A whole number from `min` to `max`.
    /// # Errors
    /// Anything else.
    #[inline(never)]
    pub fn integer(&self, min: u32, max: u32) -> Result<u32, Fault> {
        let Node::Number(number) = *self.node else {
            return Err(self.wrong_kind(&format!("a whole number from {min} to {max}")));
        };
        if number.fract() != 0.0 || number < f64::from(min) || number > f64::from(max) {
            // Only whole numbers are quoted: to print any double would add a tenth to the module.
            let got = match number as i64 {
                whole if whole as f64 == number => format!("not {whole}"),
                _ => "without a fraction".to_owned(),
            };
            return Err(self.fault(format!("must be a whole number from {min} to {max}, {got}")));
        }
        // In range and whole, so the cast changes nothing.
        Ok(number as u32)
    }

    /// A boolean.
    /// # Errors
    /// Anything else.
    #[inline(never)]
    pub fn boolean(&self) -> Result<bool, Fault> {
        match self.node {
            Node::Bool(value) => Ok(*value),
            _ => Err(self.wrong_kind("true or false")),
        }
    }

    /// A string.
    /// # Errors
    /// Anything else.
    #[inline(never)]
    pub fn text(&self) -> Result<&'a str, Fault> {
        match self.node {
            Node::Text(text) => Ok(text),
            _ => Err(self.wrong_kind("a string")),
        }
    }

    /// An object or a list, whatever is in it.
    /// # Errors
    /// Anything else.
    pub fn composite(&self) -> Result<(), Fault> {
        match self.node {
            Node::Map(_) | Node::List(_) => Ok(()),
            _ => Err(self.wrong_kind("an object or a list")),
        }
    }

    /// One of these words.
    /// # Errors
    /// Anything else.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Fault> {
        let text = self.text()?;
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.no_such_word(&known, text)
            })
    }

    #[inline(never)]
    fn no_such_word(&self, known: &[&str], text: &str) -> Fault {
        self.fault(format!("must be {}, not {text:.60}", known.join(" or ")))
    }

    /// A name that goes into headers and metric labels: 1 to 63 letters, digits, `-`, `.` or `_`.
    /// # Errors
    /// Anything else.
    #[inline(never)]
    pub fn name(&self) -> Result<String, Fault> {
        let text = self.text()?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if text.is_empty() || text.len() > 63 || !text.chars().all(fits) {
            return Err(self.fault(format!(
                "must be 1 to 63 letters, digits, '-', '.' or '_', not {text:.60}"
            )));
        }
        Ok(text.to_owned())
    }

    /// A host name as in a ServiceEntry, in lower case: at most 253 letters, digits, `-`, `.` or `_`, no port.
    /// # Errors
    /// Anything else.
    #[inline(never)]
    pub fn host(&self) -> Result<String, Fault> {
        let text = self.text()?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if text.is_empty() || text.len() > 253 || !text.chars().all(fits) || text.starts_with('.') {
            return Err(self.fault(format!(
                "must be a host name without a port, not {text:.60}"
            )));
        }
        Ok(text.to_ascii_lowercase())
    }
}
