//! The page `docs/configuration.md` and the JSON Schema beside it, made from the declaration. `cargo xtask config` writes
//! them.

mod rules;

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::declaration::{Field, Kind, Least, Object};
use super::declared::plugin::plugin;
use super::nearest::inner;
use super::types::Role;
pub use rules::{RULES, Rule};

/// The durations of Go that are not negative.
const DURATION: &str = r"^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$";
const NAME: &str = "^[A-Za-z0-9._-]{1,63}$";
const HOST: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}$";
const HOST_OR_STAR: &str = r"^(\*|[A-Za-z0-9_-][A-Za-z0-9._-]{0,252})$";
/// The same bound as in the reader.
const MOST_IN_MAP: usize = super::reader::MOST_IN_MAP;

/// The JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let mut defs = Map::new();
    let mut of = |role| define(&plugin::OBJECT, role, &mut defs);
    let [client, server, edge] = Role::ALL.map(&mut of);
    let is =
        |role: Role| json!({"required": ["role"], "properties": {"role": {"const": role.word()}}});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of peer-spillover",
        "description": "Made by `cargo xtask config` from config/src/declared. It does not contain the rules that concern several fields: docs/configuration.md has them.",
        "type": "object",
        "if": is(Role::Server),
        "then": server,
        "else": {"if": is(Role::Edge), "then": edge, "else": client},
        "$defs": defs,
    })
}

/// Whether the fields of an object, or of an object in it, differ between roles.
fn differs(object: &Object) -> bool {
    let by_role = |field: &Field| Role::ALL.iter().any(|role| !field.is_for(*role));
    let inside = |field: &Field| inner(field).is_some_and(differs);
    object
        .fields
        .iter()
        .any(|field| by_role(field) || inside(field))
}

/// Adds the definitions of an object and of all objects in it to `defs`. Returns a reference to the object.
fn define(object: &'static Object, role: Role, defs: &mut Map<String, Value>) -> Value {
    let mut name = match object.title {
        "" => "plugin".to_owned(),
        title => title.replace("[]", ""),
    };
    if differs(object) {
        write!(name, "-{}", role.word()).unwrap_or_default();
    }
    let reference = json!({"$ref": format!("#/$defs/{name}")});
    if defs.contains_key(&name) {
        return reference;
    }
    let fields = object.fields.iter().filter(|field| field.is_for(role));
    let required: Vec<&str> = fields
        .clone()
        .filter(|f| f.is_required())
        .map(|f| f.name)
        .collect();
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name.to_owned(), of_field(field, role, defs));
    }
    let mut definition = json!({
        "description": object.about.trim(),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        definition["required"] = json!(required);
    }
    for pair in object.fields.windows(2) {
        if let [this, next] = pair
            && this.is_required_or_next()
        {
            definition["anyOf"] = json!([{"required": [this.name]}, {"required": [next.name]}]);
        }
    }
    defs.insert(name, definition);
    reference
}

fn of_field(field: &Field, role: Role, defs: &mut Map<String, Value>) -> Value {
    let mut schema = of_kind(&field.kind, role, defs);
    let not = if field.is_checked() {
        " It is checked, and not acted on."
    } else {
        ""
    };
    schema["description"] = format!("{}{not}", field.doc.trim()).into();
    if let Some(default) = default(field) {
        schema["default"] = default;
    }
    if field.is_nullable() {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema
}

fn of_kind(kind: &Kind, role: Role, defs: &mut Map<String, Value>) -> Value {
    match *kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Text => json!({"type": "string"}),
        Kind::Whole((min, max)) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number(max) => json!({"type": "number", "minimum": 0, "maximum": max}),
        Kind::Duration(_) => json!({"type": "string", "pattern": DURATION}),
        Kind::Name([]) => json!({"type": "string", "pattern": NAME}),
        Kind::Name(not) => json!({"type": "string", "pattern": NAME, "not": {"enum": not}}),
        Kind::Host => json!({"type": "string", "pattern": HOST}),
        Kind::HostOrStar => json!({"type": "string", "pattern": HOST_OR_STAR}),
        Kind::Words(words) => json!({"type": "string", "enum": words}),
        Kind::Object(object) => define(object, role, defs),
        Kind::List(list) => {
            let mut schema = json!({"type": "array", "items": of_kind(&list.of, role, defs)});
            if list.most < usize::MAX {
                schema["maxItems"] = list.most.into();
            }
            if !list.empty.is_empty() {
                schema["minItems"] = 1.into();
            }
            schema
        }
        Kind::Map(kind) => json!({
            "type": "object",
            "additionalProperties": of_kind(kind, role, defs),
            "maxProperties": MOST_IN_MAP,
        }),
        Kind::Refused => json!({"not": {}}),
    }
}

fn default(field: &Field) -> Option<Value> {
    let value = field.value_if_absent()?;
    Some(match field.kind {
        Kind::Boolean => (value > 0).into(),
        Kind::Duration(_) => format!("{value}s").into(),
        Kind::Words(words) => (*words.get(usize::from(value))?).into(),
        _ => value.into(),
    })
}

/// The reference page `docs/configuration.md`.
pub fn page() -> String {
    let mut objects: Vec<(&'static Object, bool)> = Vec::new();
    collect(&plugin::OBJECT, false, &mut objects);
    let mut page = String::from(BEGINNING);
    let (acted, checked): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(_, checked)| !checked);
    for (object, _) in &acted {
        section(object, &mut page);
    }
    page.push_str("## Rules that concern several fields\n\nThe filter also refuses a configuration that breaks one of these rules, which the schema does not contain.\n\n");
    for Rule { says, .. } in &RULES {
        page.push_str(&format!("- {says}\n"));
    }
    page.push_str(CHECKED);
    for (object, _) in &checked {
        section(object, &mut page);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

const BEGINNING: &str = "\
# Configuration

This page lists every field of the plugin's configuration. `cargo xtask config` makes it and its [JSON
Schema](configuration.schema.json) from the declaration that the filter reads configurations by (`config/src/declared`). A test
checks that they are up to date.

The filter refuses a field that is not on this page, and a value of another kind. It reports all mistakes of a configuration at
once, each in a line with its path, and with line and column if the text has several lines. After twenty lines it only counts
the other mistakes. Durations are written as in Go, for example `1m30s`. A field exists in all roles unless the table says
otherwise. Fields of a DestinationRule that are marked *checked* are accepted so that a `trafficPolicy` can be pasted. The filter
does not act on them, and warns if they do not have their default value.

";

const CHECKED: &str = "
## Checked, and not acted on

These objects of a DestinationRule are checked as Istio's CRD checks them, so that a mistake in them is found.

";

fn collect(object: &'static Object, checked: bool, objects: &mut Vec<(&'static Object, bool)>) {
    if objects
        .iter()
        .any(|(known, _)| core::ptr::eq(*known, object))
    {
        return;
    }
    objects.push((object, checked));
    for field in object.fields {
        if let Some(inner) = inner(field) {
            // The settings of one port are only checked.
            let checked =
                checked || field.is_checked() || inner.title.contains("portLevelSettings");
            collect(inner, checked, objects);
        }
    }
}

fn title(object: &Object) -> &str {
    match object.title {
        "" => "The plugin",
        title => title,
    }
}

fn section(object: &Object, page: &mut String) {
    let title = title(object);
    page.push_str(&format!("### {title}\n\n{}\n\n", object.about.trim()));
    page.push_str("| field | value | default | meaning |\n|---|---|---|---|\n");
    for field in object.fields {
        let default = match default(field) {
            _ if field.is_required() => "required".to_owned(),
            _ if field.is_required_or_next() => "required without the next".to_owned(),
            Some(Value::String(word)) => format!("`{word}`"),
            Some(value) => format!("`{value}`"),
            None => String::new(),
        };
        let mut about = String::new();
        let roles: Vec<&str> = Role::ALL
            .iter()
            .filter(|r| field.is_for(**r))
            .map(|r| r.word())
            .collect();
        if roles.len() < Role::ALL.len() {
            about = format!("*Only in the role {}.* ", roles.join(" or "));
        }
        if field.is_checked() {
            about.push_str("*Checked.* ");
        }
        about.push_str(field.doc.trim());
        let null = if field.is_nullable() { " or null" } else { "" };
        let (name, kind) = (field.name, kind(&field.kind));
        page.push_str(&format!(
            "| `{name}` | {kind}{null} | {default} | {about} |\n"
        ));
    }
    page.push('\n');
}

fn kind(kind: &Kind) -> String {
    match *kind {
        Kind::Boolean => "true or false".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Whole((min, max)) if min == max => format!("{min}"),
        Kind::Whole((min, max)) => format!("{min} to {max}"),
        Kind::Number(u32::MAX) => "a number from 0".to_owned(),
        Kind::Number(max) => format!("a number from 0 to {max}"),
        Kind::Duration(Least::Millisecond) => "duration".to_owned(),
        Kind::Duration(Least::Zero) => "duration, may be 0".to_owned(),
        Kind::Duration(Least::Any) => {
            "duration, may be 0 or have a fraction of a millisecond".to_owned()
        }
        Kind::Name(_) => "1 to 63 letters, digits, `-`, `.`, `_`".to_owned(),
        Kind::Host => "host name".to_owned(),
        Kind::HostOrStar => "host name or `\"*\"`".to_owned(),
        Kind::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        Kind::Object(object) => link(object),
        Kind::List(list) => {
            let of = match list.of {
                Kind::Object(object) => link(object),
                other => self::kind(&other),
            };
            match list.most {
                usize::MAX => format!("list: {of}"),
                most => format!("list of at most {most}: {of}"),
            }
        }
        Kind::Map(kind) => format!("an object with any names, each: {}", self::kind(kind)),
        Kind::Refused => "refused".to_owned(),
    }
}

/// A link to the section of an object. The anchor is the one that GitHub makes from the heading.
fn link(object: &Object) -> String {
    let title = title(object);
    let letters = title
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    let anchor: String = letters.map(|c| if c == ' ' { '-' } else { c }).collect();
    format!("[object](#{})", anchor.to_ascii_lowercase())
}

#[cfg(test)]
#[path = "reference_test.rs"]
mod tests;
