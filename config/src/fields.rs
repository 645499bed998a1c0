//! Reads values from a tree that the reader has checked, by the keys of the declaration, with their defaults.

use super::declaration::{Key, Object, Word};
use super::duration;
use super::fault::Path;
use super::node::Node;

/// A type of a field's value: how it is read from the tree.
pub trait Value {
    /// The value in Rust.
    type Of<'a>;

    /// The value of a node that was checked. `None` if the node is of another kind.
    fn read<'a>(node: &'a Node<'a>) -> Option<Self::Of<'a>>;

    /// The value of a declared default, in the units of [`super::declaration::Field::default`].
    fn default<'a>(_: u16) -> Option<Self::Of<'a>> {
        None
    }
}

/// Any node, which is not converted.
pub struct Any;
/// A string.
pub struct Text;
/// A duration, which is read as whole milliseconds from 0 to [`duration::LONGEST`].
pub struct Millis;

impl Value for Any {
    type Of<'a> = &'a Node<'a>;

    fn read<'a>(node: &'a Node<'a>) -> Option<&'a Node<'a>> {
        Some(node)
    }
}

impl Value for Text {
    type Of<'a> = &'a str;

    fn read<'a>(node: &'a Node<'a>) -> Option<&'a str> {
        match node {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Value for Millis {
    type Of<'a> = u64;

    fn read<'a>(node: &'a Node<'a>) -> Option<u64> {
        Text::read(node).and_then(duration::millis)
    }

    fn default<'a>(seconds: u16) -> Option<Self::Of<'a>> {
        Some(u64::from(seconds).saturating_mul(1000))
    }
}

impl Value for u32 {
    type Of<'a> = u32;

    fn read<'a>(node: &'a Node<'a>) -> Option<u32> {
        match node {
            // It was checked, so the cast does not change the value.
            Node::Number(number) => Some(*number as u32),
            _ => None,
        }
    }

    fn default<'a>(value: u16) -> Option<Self::Of<'a>> {
        Some(value.into())
    }
}

impl Value for bool {
    type Of<'a> = bool;

    fn read<'a>(node: &'a Node<'a>) -> Option<bool> {
        match node {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn default<'a>(value: u16) -> Option<Self::Of<'a>> {
        Some(value > 0)
    }
}

impl<T: Word> Value for T {
    type Of<'a> = T;

    fn read<'a>(node: &'a Node<'a>) -> Option<T> {
        let text = Text::read(node)?;
        let nth = T::WORDS.iter().position(|word| *word == text)?;
        T::ALL.get(nth).copied()
    }

    fn default<'a>(nth: u16) -> Option<Self::Of<'a>> {
        T::ALL.get(usize::from(nth)).copied()
    }
}

/// The fields of an object that was checked.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    node: &'a Node<'a>,
    object: &'static Object,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, which was checked as `object`. Without a node, all fields are absent.
    pub fn of(node: Option<&'a Node<'a>>, object: &'static Object) -> Fields<'a> {
        let node = node.unwrap_or(&Node::Null);
        Fields { node, object }
    }

    /// The value that is written in this field. `None` if the field is absent.
    pub fn written<T: Value>(&self, key: Key<T>) -> Option<T::Of<'a>> {
        T::read(self.raw(key.nth)?)
    }

    #[inline(never)]
    fn raw(&self, nth: usize) -> Option<&'a Node<'a>> {
        let (Node::Map(fields), Some(field)) = (self.node, self.object.fields.get(nth)) else {
            return None;
        };
        let (_, node) = fields.iter().find(|(name, _)| name == field.name)?;
        Some(node)
    }

    /// Whether this field is present, with any value.
    pub fn is_there<T>(&self, key: Key<T>) -> bool {
        self.raw(key.nth).is_some()
    }

    /// The value that is written in this field, or else its default. `None` if it has neither.
    pub fn get<T: Value>(&self, key: Key<T>) -> Option<T::Of<'a>> {
        let default = || T::default(self.object.fields.get(key.nth)?.value_if_absent()?);
        self.written(key).or_else(default)
    }

    /// The path of this field, whether it is present or not. `path` is the path of the object.
    pub fn path<T>(&self, path: &'a Path<'a>, key: Key<T>) -> Path<'a> {
        let name = self
            .object
            .fields
            .get(key.nth)
            .map_or("", |field| field.name);
        path.field(self.node, name)
    }
}
