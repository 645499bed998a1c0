//! What a declaration is made of: objects, their fields, and what each field may be.
//!
//! **Invariant: what a configuration may say is said once, in [`super::declared`].** The reader, the JSON Schema and the
//! reference page are made from it. Its prose is not in the module, where nobody would read it.

use core::marker::PhantomData;

use super::types::Role;

/// An object of the configuration.
pub struct Object {
    /// Where it stands, as users see it; empty for the whole.
    #[cfg(not(target_arch = "wasm32"))]
    pub title: &'static str,
    /// Its fields, in the order in which they are documented.
    pub fields: &'static [Field],
    /// What it is.
    #[cfg(not(target_arch = "wasm32"))]
    pub about: &'static str,
}

/// A field of an object. There are more than a hundred, so each of its bytes is a hundred of the module's.
#[derive(Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What helps a user who left it out, or wrote what it may not be.
    pub fix: &'static &'static str,
    default: u16,
    flags: u8,
    /// What it does.
    #[cfg(not(target_arch = "wasm32"))]
    pub doc: &'static str,
}

const REQUIRED: u8 = 1 << 3;
const NULLABLE: u8 = 1 << 4;
const CHECKED: u8 = 1 << 5;
const ROLES: u8 = Role::Client.bit() | Role::Server.bit() | Role::Edge.bit();
const NO_DEFAULT: u16 = u16::MAX;

/// The least and the most.
pub type Range = (u32, u32);
/// Words that users write.
pub type Words = &'static [&'static str];

/// What a value may be.
#[derive(Clone, Copy)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// A string.
    Text,
    /// A whole number in this range.
    Whole(&'static Range),
    /// A number from 0 to this one.
    Number(u32),
    /// A duration as Go writes it.
    Duration(Least),
    /// A name that goes into headers and labels of metrics, but not one of these.
    Name(&'static Words),
    /// A host name without a port.
    Host,
    /// The same, or `*`.
    HostOrStar,
    /// One of these words.
    Words(&'static Words),
    /// An object.
    Object(&'static Object),
    /// A list.
    List(&'static List),
    /// An object with fields of any name, each of this kind.
    Map(&'static Kind),
    /// Nothing: whoever writes the field is told why.
    Refused,
}

/// The least duration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Least {
    /// One millisecond, and whole milliseconds, as Istio has it.
    Millisecond,
    /// Zero, or the same.
    Zero,
    /// Zero, and any fraction.
    Any,
}

/// A list.
pub struct List {
    /// What its elements are.
    pub of: Kind,
    /// The most elements.
    pub most: usize,
    /// What they are called.
    pub noun: &'static str,
    /// What to do with an empty list; nothing where it may be empty.
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

/// Which field of its object it is, and of what type its value is.
pub struct Key<T> {
    /// Its place among the fields.
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
    /// The key of this field.
    pub const fn new(nth: usize) -> Self {
        let of = PhantomData;
        Key { nth, of }
    }
}

/// A type of a few values, each with a word that users write.
pub trait Word: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// Their words, in the same order.
    const WORDS: Words;
}

impl Field {
    /// A field of this kind, acted on in all roles, and without a default.
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

    /// A field of these words.
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

    /// What it is where it is absent: a number, seconds, the place among the words, or 1 for true.
    pub const fn default(mut self, value: u16) -> Field {
        self.default = value;
        self
    }

    /// It must be there; `fix` is what to add.
    pub const fn required(mut self, fix: &'static &'static str) -> Field {
        self.flags |= REQUIRED;
        self.fix = fix;
        self
    }

    /// What is said beside of a 0 that is out of range, or of what is not taken at all.
    pub const fn hint(mut self, fix: &'static &'static str) -> Field {
        self.fix = fix;
        self
    }

    /// It may be null, which is as if it were absent.
    pub const fn nullable(mut self) -> Field {
        self.flags |= NULLABLE;
        self
    }

    /// It is checked, and not acted on.
    pub const fn checked(mut self) -> Field {
        self.flags |= CHECKED;
        self
    }

    /// Only these roles have it.
    pub const fn only(mut self, roles: &[Role]) -> Field {
        self.flags &= !ROLES;
        let mut rest = roles;
        while let [role, more @ ..] = rest {
            self.flags |= role.bit();
            rest = more;
        }
        self
    }

    /// Whether this role has it.
    pub fn is_for(&self, role: Role) -> bool {
        self.flags & role.bit() != 0
    }

    /// Whether it must be there.
    pub fn is_required(&self) -> bool {
        self.flags & REQUIRED != 0
    }

    /// Whether it may be null.
    pub fn is_nullable(&self) -> bool {
        self.flags & NULLABLE != 0
    }

    /// Whether it is not acted on.
    pub fn is_checked(&self) -> bool {
        self.flags & CHECKED != 0
    }

    /// What it is where it is absent, as [`Field::default`] has it.
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

/// The name of a field: its key, where it has no other.
macro_rules! name {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident $name:literal) => {
        $name
    };
}

/// Declares a type of words.
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
