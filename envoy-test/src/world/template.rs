//! Filling of YAML templates.

/// `template` with every `{{name}}` replaced. One that stands alone on its line may be filled with several lines, which
/// all get its indentation, or with nothing, and then the line goes.
/// # Panics
/// A name in the template has no value: a mistake in this crate.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for line in template.lines() {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        if let Some(name) = text
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"))
            && !name.contains('{')
        {
            for line in value(values, name).lines() {
                out.push_str(indent);
                out.push_str(line);
                out.push('\n');
            }
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                break;
            };
            out.push_str(before);
            out.push_str(value(values, name));
            rest = after;
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

fn value<'a>(values: &[(&str, &'a str)], name: &str) -> &'a str {
    match values.iter().find(|(other, _)| *other == name) {
        Some((_, value)) => value,
        None => panic!("no value for {{{{{name}}}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn a_block_gets_the_indentation_of_its_line() {
        let filled = fill(
            "a: {{x}} {{y}}\n  {{block}}\n  {{nothing}}\nz: {}\n",
            &[
                ("x", "1"),
                ("y", "2"),
                ("block", "- b:\n    c"),
                ("nothing", ""),
            ],
        );
        assert_eq!(filled, "a: 1 2\n  - b:\n      c\nz: {}\n");
    }
}
