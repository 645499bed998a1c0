//! Which requests may be spilled, in the words of a VirtualService's `match`, and which of them belong together, in those of a
//! DestinationRule's `consistentHash`.

use super::checked::consistent_hash;
use crate::declaration::{Field, Key, Kind, List, Object, object};
use crate::fields::{Any, Text};
use ::policy::spill::MOST_ENTRIES;

const TEXT_MATCH: Kind = Kind::Object(&text_match::OBJECT);
const COMPARED: Field = Field::new(TEXT_MATCH);
const HEADERS: Field = Field::new(Kind::Map(&TEXT_MATCH));
static ENTRIES: List = List {
    of: Kind::Object(&entry::OBJECT),
    most: MOST_ENTRIES,
    noun: "entries",
    empty: "add one, or remove match",
};

object! {
    /// Which requests may be spilled, and which of them go to the same peer.
    spill = "services[].spill" {
        /// A request may be spilled if one of these entries matches it. Any other request goes home, beyond the limit if home is
        /// full. The default is that every request may be spilled.
        entries as "match": Any = Field::new(Kind::List(&ENTRIES));
        /// The spilled requests with the same value of this header, or of this cookie, go to the same peer for as long as that
        /// takes them. Those without it go to any. It has only `httpHeaderName`, or only `httpCookie` with its `name`: the
        /// filter reads the cookie and never sets it.
        consistentHash: Any = Field::new(Kind::Object(&consistent_hash::OBJECT));
    }
}

object! {
    /// An entry matches a request if all of its conditions hold. The fields are those of an HTTPMatchRequest of a
    /// VirtualService.
    entry = "services[].spill.match[]" {
        /// The method, in upper case.
        method: Any = COMPARED;
        /// The path, without query and fragment.
        uri: Any = COMPARED;
        /// The headers that must match, by name. One of several values of a header is enough.
        headers: Any = HEADERS;
        /// The headers that must not match, by name. An absent header counts as empty.
        withoutHeaders: Any = HEADERS;
    }
}

object! {
    /// How the method, the path or a header is compared. Without a field, it only has to be present.
    text_match = "services[].spill.match[].uri" {
        /// The whole value.
        exact: Text = Field::new(Kind::Text);
        /// The beginning of the value.
        prefix: Text = Field::new(Kind::Text);
        /// Refused: there are no regular expressions.
        regex: Any = Field::new(Kind::Refused)
            .hint(&"would make the module much larger; use exact or prefix");
    }
}
