//! The index: the names of all counts that have shares in this process. A VM that takes over a slot finds in it the counts that
//! it does not have itself, such as those of a service, a mode or a version that only the other VM had.

/// The end of a name. No metric name contains it ([`crate::names::label_value`]).
const END: u8 = b'\n';

/// The part of the index that a VM has read. The index only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index {
    /// Sorted. A set of the standard library would make the module 6 kB larger.
    seen: Vec<String>,
    /// The number of bytes of the index that were read.
    length: usize,
}

impl Index {
    /// Whether `name` is in the part that was read.
    pub fn has(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// All names that were read.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.seen.iter().map(String::as_str)
    }

    /// Reads the index as it is now. Names that are not valid UTF-8 are skipped.
    pub fn see(&mut self, bytes: &[u8]) {
        let new = bytes.get(self.length..).unwrap_or_default();
        self.length = self.length.max(bytes.len());
        for name in names(new) {
            if let Err(place) = self.place(name) {
                self.seen.insert(place, name.to_owned());
            }
        }
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.seen.binary_search_by(|seen| seen.as_str().cmp(name))
    }
}

/// The names in an index or in a part of it. Those that are not valid UTF-8 are skipped.
pub fn names(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|byte| *byte == END)
        .filter_map(|name| str::from_utf8(name).ok())
        .filter(|name| !name.is_empty())
}

/// The index `bytes` with `name` added.
pub fn with(bytes: &[u8], name: &str) -> Vec<u8> {
    [bytes, name.as_bytes(), &[END]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_seen_and_what_is_no_name_is_not() {
        let mut index = Index::default();
        let bytes = with(&with(b"", "a;.;in_flight"), "b;.;info");
        index.see(&bytes);
        index.see(&bytes);
        assert_eq!(index.names().len(), 2);
        let later = [&bytes[..], b"\xff\xfe\nc;.;info\n\n"].concat();
        index.see(&later);
        let names: Vec<&str> = index.names().collect();
        assert_eq!(names, ["a;.;in_flight", "b;.;info", "c;.;info"]);
        assert!(index.has("b;.;info") && !index.has("b"));
    }
}
