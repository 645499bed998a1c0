//! Suggestions for a field name that is unknown.

use super::declaration::{Field, Kind, Object};
use super::declared::plugin::plugin;
use super::fault::Path;
use super::types::Role;

/// Field names that users write although they do not exist (in lower case, without `-` and `_`), with advice.
const ADVICE: [(&str, &str); 2] = [
    (
        "circuitbreaker",
        "no DestinationRule has it; use connectionPool and outlierDetection",
    ),
    (
        "circuitbreakers",
        "no DestinationRule has it; use connectionPool and outlierDetection",
    ),
];

/// Fields of a DestinationRule outside of its `trafficPolicy`.
const SPEC: [&str; 9] = [
    "host",
    "subsets",
    "exportTo",
    "workloadSelector",
    "trafficPolicy",
    "spec",
    "apiVersion",
    "kind",
    "metadata",
];

/// Whether a `trafficPolicy` with this field is most likely a whole DestinationRule.
pub fn is_of_a_rule(name: &str) -> bool {
    SPEC.contains(&name)
}

/// A suggestion for an unknown field name.
pub enum Known {
    /// What to do instead.
    Advice(&'static str),
    /// The name of a similar field of the same object, or the whole path of a similar field elsewhere.
    Near(String),
    /// There is no suggestion.
    Nothing,
}

/// A suggestion for `name`, which is not a field of `object`. Only fields of the role `role` are suggested.
#[inline(never)]
pub fn nearest(name: &str, object: &'static Object, role: Role) -> Known {
    let plain = plain(name);
    // It is longer than any field name, or empty.
    if plain.is_empty() || plain.len() > 40 {
        return Known::Nothing;
    }
    if let Some((_, advice)) = ADVICE.iter().find(|(word, _)| word.as_bytes() == plain) {
        return Known::Advice(advice);
    }
    let mut best = Best {
        name: &plain,
        role,
        // A word with more than a third of its letters changed is another word.
        distance: (plain.len() / 3).saturating_add(1),
        depth: 0,
        known: Known::Nothing,
    };
    best.look_in(&plugin::OBJECT, &Path::Root, 0);
    // A field of the same object is more likely than an equally similar field elsewhere.
    if !matches!(best.known, Known::Nothing) {
        best.distance = best.distance.saturating_add(1);
    }
    best.depth = 0;
    best.look_at(object, &Path::Root, 0);
    best.known
}

struct Best<'a> {
    name: &'a [u8],
    role: Role,
    /// The distance of the best suggestion, in letters. A smaller distance is better.
    distance: usize,
    /// The number of objects around the best suggestion. At the same distance, fewer are better.
    depth: usize,
    known: Known,
}

impl Best<'_> {
    fn look_in(&mut self, object: &'static Object, path: &Path<'_>, depth: usize) {
        self.look_at(object, path, depth);
        for field in object.fields {
            if let Some(inner) = inner(field) {
                let path = &Path::Field(path, field.name, None);
                self.look_in(inner, path, depth.saturating_add(1));
            }
        }
    }

    fn look_at(&mut self, object: &'static Object, path: &Path<'_>, depth: usize) {
        for field in object.fields.iter().filter(|field| field.is_for(self.role)) {
            let distance = distance(self.name, &plain(field.name));
            if (distance, depth) < (self.distance, self.depth) {
                (self.distance, self.depth) = (distance, depth);
                self.known = Known::Near(Path::Field(path, field.name, None).to_string());
            }
        }
    }
}

/// The object that is the value of a field, or of the elements of its list. `None` if it has another kind.
pub fn inner(field: &Field) -> Option<&'static Object> {
    match field.kind {
        Kind::Object(object) => Some(object),
        Kind::List(list) => match list.of {
            Kind::Object(object) => Some(object),
            _ => None,
        },
        _ => None,
    }
}

/// The word in lower case, without `_` and `-`, so that spellings of one word are equal.
fn plain(word: &str) -> Vec<u8> {
    let bytes = word.bytes().filter(|byte| !b"_-".contains(byte));
    bytes.map(|byte| byte.to_ascii_lowercase()).collect()
}

/// The number of letters that must be added, removed or changed to make one word from the other (the Levenshtein distance).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        // `corner` is a cell of the previous row, `left` one of this row.
        let (mut corner, mut left) = (i, i.saturating_add(1));
        for (cell, b) in row.iter_mut().skip(1).zip(to) {
            let changed = corner.saturating_add(usize::from(a != b));
            corner = *cell;
            left = changed
                .min(corner.saturating_add(1))
                .min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}
