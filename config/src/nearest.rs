//! What a user may have meant by a word that is unknown.

use super::declaration::{Field, Kind, Object};
use super::declared::plugin::plugin;
use super::fault::Path;
use super::types::Role;

/// Words that people write and that are none, and what they are after.
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

/// Fields of a DestinationRule beside its `trafficPolicy`.
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

/// Whether a `trafficPolicy` with this field is a whole DestinationRule.
pub fn is_of_a_rule(name: &str) -> bool {
    SPEC.contains(&name)
}

/// What is known of a word that is none.
pub enum Known {
    /// What to do instead.
    Advice(&'static str),
    /// A field of the same object, or the whole path of another.
    Near(String),
    /// Nothing.
    Nothing,
}

/// What is known of `name`, which is no field of `object`.
#[inline(never)]
pub fn nearest(name: &str, object: &'static Object, role: Role) -> Known {
    let plain = plain(name);
    // Longer than any word, or none at all.
    if plain.is_empty() || plain.len() > 40 {
        return Known::Nothing;
    }
    if let Some((_, advice)) = ADVICE.iter().find(|(word, _)| word.as_bytes() == plain) {
        return Known::Advice(advice);
    }
    let mut best = Best {
        name: &plain,
        role,
        // Where more than a third of the letters is another, it is another word.
        distance: (plain.len() / 3).saturating_add(1),
        depth: 0,
        known: Known::Nothing,
    };
    best.look_in(&plugin::OBJECT, &Path::Root, 0);
    // A word of the same object is more likely than one of another that is as near.
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
    /// What is nearer than this is better.
    distance: usize,
    /// Of what is as near, what has fewer words before it.
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

/// The object that is in a field, if one is.
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

/// Without what differs between ways of writing one word: case, `_` and `-`.
fn plain(word: &str) -> Vec<u8> {
    let bytes = word.bytes().filter(|byte| !b"_-".contains(byte));
    bytes.map(|byte| byte.to_ascii_lowercase()).collect()
}

/// How many letters must be added, left out or changed to make one word of the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        // Of the row before, and of this one.
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
