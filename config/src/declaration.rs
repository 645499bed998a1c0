//! The types that a declaration consists of: objects, their fields, and the values that each field may have.
//!
//! **Invariant: the fields of a configuration are declared only once, in [`super::declared`].** The reader, the JSON Schema
//! and the reference page use this declaration. The documentation of the fields is not compiled into the Wasm module, which
//! does not need it.

use core::marker::PhantomData;

use super::types::Role;

/// An object of the configuration.
pub struct Object {
    /// The path of the object as users see it, for example `services[].peers[]`. It is empty for the whole configuration.
    #[cfg(not(target_arch = "wasm32"))]
    pub title: &'static str,
    /// The fields, in the order in which they are documented. There are at most 32.
    pub fields: &'static [Field],
    /// What the object is: a sentence for the reference page.
    #[cfg(not(target_arch = "wasm32"))]
    pub about: &'static str,
}

/// A field of an object. There are more than a hundred fields, so each byte of this struct makes the module more than a
/// hundred bytes larger.
#[derive(Clone, Copy)]
pub struct Field {
    /// The name in the configuration.
    pub name: &'static str,
    /// The values that it may have.
    pub kind: Kind,
    /// Advice in the message to a user who left the field out, or gave it a value that is refused.
    pub fix: &'static &'static str,
    default: u16,
    flags: u8,
    /// What the field does: one or more sentences for the reference page.
    #[cfg(not(target_arch = "wasm32"))]
    pub doc: &'static str,
}

const REQUIRED: u8 = 1 << 3;
const NULLABLE: u8 = 1 << 4;
const CHECKED: u8 = 1 << 5;
const OR_NEXT: u8 = 1 << 6;
const ROLES: u8 = Role::Client.bit() | Role::Server.bit() | Role::Edge.bit();
const NO_DEFAULT: u16 = u16::MAX;

/// The smallest and the largest value, both allowed.
pub type Range = (u32, u32);
/// The words that a value may be.
pub type Words = &'static [&'static str];

/// The values that a field may have.
#[derive(Clone, Copy)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// A string.
    Text,
    /// A whole number in this range.
    Whole(&'static Range),
    /// A number from 0 to this one, with or without a fraction.
    Number(u32),
    /// A duration as in Go, such as `1m30s`.
    Duration(Least),
    /// A name for headers and labels of metrics: 1 to 63 letters, digits, `-`, `.` or `_`, and none of these words.
    Name(&'static Words),
    /// A host name without a port, of at most 253 bytes.
    Host,
    /// A host name as in [`Kind::Host`], or `*`.
    HostOrStar,
    /// One of these words.
    Words(&'static Words),
    /// An object.
    Object(&'static Object),
    /// A list of values of one kind.
    List(&'static List),
    /// An object with fields of any name, each of this kind.
    Map(&'static Kind),
    /// No value: the field is refused, and [`Field::fix`] is the reason.
    Refused,
}

/// The smallest duration that a field may have, and its precision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// Whole milliseconds, at least one, as in most fields of Istio.
    Millisecond,
    /// Whole milliseconds, or a duration below one millisecond, which counts as 0.
    Zero,
    /// Any duration from 0, also with a fraction of a millisecond.
    Any,
}

/// A list of values of one kind.
pub struct List {
    /// The kind of the elements.
    pub of: Kind,
    /// The largest number of elements.
    pub most: usize,
    /// The name of the elements in a message about too many, in the plural.
    pub noun: &'static str,
    /// Advice in the message about an empty list. It is empty if the list may be empty.
    pub empty: &'static str,
}

impl List {
    /// A list of any length.
    pub const fn of(of: Kind) -> List {
        List {
            of,
            most: usize::MAX,
            noun: "",
            empty: "",
        }
    }
}

/// A field of an object, with the type of its value.
pub struct Key<T> {
    /// The index of the field in [`Object::fields`].
    pub nth: usize,
    of: PhantomData<T>,
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> Key<T> {
    /// The key of the field with this index.
    pub const fn new(nth: usize) -> Self {
        let of = PhantomData;
        Key { nth, of }
    }
}

/// A type with a few values, each of which has a word in the configuration.
pub trait Word: Copy + 'static {
    /// All values.
    const ALL: &'static [Self];
    /// The words of the values, in the same order.
    const WORDS: Words;
}

impl Field {
    /// A field of this kind that exists in all roles, may be absent, and has no default.
    pub const fn new(kind: Kind) -> Field {
        Field {
            name: "",
            kind,
            fix: &"",
            default: NO_DEFAULT,
            flags: ROLES,
            #[cfg(not(target_arch = "wasm32"))]
            doc: "",
        }
    }

    /// A field whose value is a word of `T`.
    pub const fn words<T: Word>() -> Field {
        Field::new(Kind::Words(&T::WORDS))
    }

    pub(super) const fn named(mut self, name: &'static str) -> Field {
        self.name = name;
        self
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) const fn documented(mut self, doc: &'static str) -> Field {
        self.doc = doc;
        self
    }

    /// The default, from 0 to 65534: a number, a duration in seconds, the index of a word, or 0 for false and 1 for true.
    pub const fn default(mut self, value: u16) -> Field {
        self.default = value;
        self
    }

    /// Makes the field required. `fix` says what to add if it is missing.
    pub const fn required(mut self, fix: &'static &'static str) -> Field {
        self.flags |= REQUIRED;
        self.fix = fix;
        self
    }

    /// Makes the field required if the one after it is absent.
    pub const fn or_next(mut self, fix: &'static &'static str) -> Field {
        self.flags |= OR_NEXT;
        self.fix = fix;
        self
    }

    /// Adds advice for a 0 that is out of range, or the reason of a field that is refused.
    pub const fn hint(mut self, fix: &'static &'static str) -> Field {
        self.fix = fix;
        self
    }

    /// Allows null, which means the same as absent.
    pub const fn nullable(mut self) -> Field {
        self.flags |= NULLABLE;
        self
    }

    /// Marks a field that is checked, and that the filter does not act on.
    pub const fn checked(mut self) -> Field {
        self.flags |= CHECKED;
        self
    }

    /// Restricts the field to these roles.
    pub const fn only(mut self, roles: &[Role]) -> Field {
        self.flags &= !ROLES;
        let mut rest = roles;
        while let [role, more @ ..] = rest {
            self.flags |= role.bit();
            rest = more;
        }
        self
    }

    /// Whether the field exists in this role.
    pub fn is_for(&self, role: Role) -> bool {
        self.flags & role.bit() != 0
    }

    /// Whether the field is required.
    pub fn is_required(&self) -> bool {
        self.flags & REQUIRED != 0
    }

    /// Whether the field is required if the one after it is absent.
    pub fn is_required_or_next(&self) -> bool {
        self.flags & OR_NEXT != 0
    }

    /// Whether the field may be null.
    pub fn is_nullable(&self) -> bool {
        self.flags & NULLABLE != 0
    }

    /// Whether the field is checked, and not acted on.
    pub fn is_checked(&self) -> bool {
        self.flags & CHECKED != 0
    }

    /// The default in the units of [`Field::default`]. `None` if the field has no default.
    pub fn value_if_absent(&self) -> Option<u16> {
        (self.default != NO_DEFAULT).then_some(self.default)
    }
}

/// Declares an object: a module with a key for each field, and the object itself.
macro_rules! object {
    (
        $(#[doc = $about:literal])+
        $module:ident = $title:literal {
            $($(#[doc = $doc:literal])+ $key:ident $(as $name:literal)?: $type:ty = $field:expr;)+
        }
    ) => {
        #[allow(non_upper_case_globals, missing_docs, unused_imports)]
        pub mod $module {
            use super::*;

            #[allow(non_camel_case_types)]
            enum Nth { $($key),+ }

            $(pub const $key: Key<$type> = Key::new(Nth::$key as usize);)+

            pub static OBJECT: Object = Object {
                #[cfg(not(target_arch = "wasm32"))]
                title: $title,
                fields: &[$({
                    let field = $field.named($crate::declaration::name!($key $($name)?));
                    #[cfg(not(target_arch = "wasm32"))]
                    let field = field.documented(concat!($($doc),+));
                    field
                }),+],
                #[cfg(not(target_arch = "wasm32"))]
                about: concat!($($about),+),
            };
        }
    };
}

/// The name of a field: the one that is given, or else its key.
macro_rules! name {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident $name:literal) => {
        $name
    };
}

/// Declares an enum that implements [`Word`].
macro_rules! words {
    ($(#[$about:meta])* pub enum $type:ident { $($(#[$each:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$each])* $variant),+ }

        impl $crate::declaration::Word for $type {
            const ALL: &'static [Self] = &[$($type::$variant),+];
            const WORDS: $crate::declaration::Words = &[$($word),+];
        }

        impl $type {
            /// The word that users write and see.
            pub fn word(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }
    };
}

pub(super) use {name, object, words};
