//! What users copy is read by the code that will read it, and what the documents point to is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use config::declaration::{Kind, Object};
use config::declared::plugin::plugin;
use config::{Mode, Role};
use regex::Regex;
use serde_json::Value;

fn root(path: &str) -> Result<String> {
    let path = xtask::workspace_root().join(path);
    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The first example of a document.
fn example(document: &str) -> Result<String> {
    let text = root(document)?;
    let rest = text.split_once("```yaml\n").context("no example")?.1;
    Ok(rest.split_once("```").context("no end")?.0.to_owned())
}

#[test]
fn the_readmes_configuration_is_the_smallest_and_does_what_the_readme_says() -> Result<()> {
    let yaml = example("README.md")?;
    assert_eq!(yaml.lines().count(), 10);
    let mut value: Value = serde_yaml_ng::from_str(&yaml)?;
    let config = config::parse(value.to_string().as_bytes())?;
    assert_eq!((config.role, config.mode), (Role::Client, Mode::Enforce));
    assert_eq!(config.warnings, [""; 0]);
    let [service] = &config.services[..] else {
        panic!("{:?}", config.services);
    };
    assert_eq!(service.rule.limit, Some(100));
    assert_eq!(service.detection, None);
    assert!(service.rule.peer_open);
    let five = {
        value["services"][0]["trafficPolicy"]["outlierDetection"] = serde_json::json!({});
        config::parse(value.to_string().as_bytes())?
    };
    let detection = five.services[0].detection.context("no detection")?;
    assert_eq!(detection.consecutive_5xx, 5);
    // Nothing can be left out.
    value["services"][0]["trafficPolicy"] = serde_json::json!({});
    let idle = config::parse(value.to_string().as_bytes())?;
    assert_eq!(idle.warnings.len(), 1);
    for pointer in [
        "/version",
        "/cluster",
        "/services",
        "/services/0/host",
        "/services/0/peers",
        "/services/0/peers/0/name",
        "/services/0/peers/0/host",
    ] {
        let mut less = value.clone();
        let (parent, key) = pointer.rsplit_once('/').context("a pointer")?;
        let parent = less.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.context("an object")?.remove(key).context(pointer)?;
        assert!(
            config::parse(less.to_string().as_bytes()).is_err(),
            "{pointer}"
        );
    }
    Ok(())
}

/// Fields that are taken for another, or refused if they would matter: the page has them in a table or in a list.
const OTHERS: [&str; 11] = [
    "consecutiveErrors",
    "portLevelSettings",
    "regex",
    "ttl",
    "path",
    "attributes",
    "ringHash",
    "maglev",
    "minimumRingSize",
    "useSourceIp",
    "httpQueryParameterName",
];

/// The names of the fields that clients may write and the filter acts on.
fn acted_on(object: &Object, found: &mut BTreeSet<&'static str>) {
    let fields = object
        .fields
        .iter()
        .filter(|field| field.is_for(Role::Client) && !field.is_checked())
        .filter(|field| !OTHERS.contains(&field.name));
    for field in fields {
        found.insert(field.name);
        match field.kind {
            Kind::Object(inner) => acted_on(inner, found),
            Kind::List(list) => {
                if let Kind::Object(inner) = list.of {
                    acted_on(inner, found);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn the_full_example_is_valid_and_has_every_field_that_is_acted_on() -> Result<()> {
    let yaml = example("docs/configuring.md")?;
    let value: Value = serde_yaml_ng::from_str(&yaml)?;
    let config = config::parse(value.to_string().as_bytes())?;
    assert_eq!(config.services[0].rule.limit, Some(100));
    assert_eq!(config.warnings, [""; 0]);
    let mut fields = BTreeSet::new();
    acted_on(&plugin::OBJECT, &mut fields);
    assert!(fields.len() > 25, "{fields:?}");
    for field in fields {
        assert!(yaml.contains(&format!("{field}:")), "{field} is not there");
    }
    Ok(())
}

/// Every WasmPlugin that users copy: its configuration is one, nothing in it is ignored, and it cannot deny a request.
#[test]
fn the_manifests_plugin_configs_are_ones() -> Result<()> {
    let mut plugins = 0;
    for entry in fs::read_dir(xtask::workspace_root().join("wasmplugin"))? {
        let path = entry?.path().join("wasmplugin.yaml");
        let Ok(manifest) = fs::read_to_string(&path) else {
            continue;
        };
        let value: Value = serde_yaml_ng::from_str(&manifest)?;
        let spec = &value["spec"];
        assert_eq!(spec["failStrategy"], "FAIL_OPEN", "{}", path.display());
        assert!(
            spec["sha256"].is_string(),
            "{} pins nothing",
            path.display()
        );
        let config = config::parse(spec["pluginConfig"].to_string().as_bytes())
            .with_context(|| path.display().to_string())?;
        assert_eq!(config.warnings, [""; 0], "{}", path.display());
        plugins += 1;
    }
    assert!(plugins >= 2, "{plugins}");
    Ok(())
}

#[test]
fn the_readme_is_short() -> Result<()> {
    let lines = root("README.md")?.lines().count();
    assert!(lines <= 150, "{lines} lines");
    Ok(())
}

/// The documents for users and developers, but for those of a folder of manifests.
fn documents() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["", "docs", "wasmplugin"] {
        for entry in fs::read_dir(xtask::workspace_root().join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                let path = PathBuf::from(folder).join(name);
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    assert!(found.len() > 8, "{found:?}");
    Ok(found)
}

/// A document's headings as GitHub makes anchors of them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let anchor = |heading: &str| {
        heading
            .chars()
            .filter(kept)
            .collect::<String>()
            .to_lowercase()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() -> Result<()> {
    let link = Regex::new(r"\]\(([^)\s]+)\)")?;
    let mut links = 0;
    for document in documents()? {
        let text = root(&document)?;
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = PathBuf::from(&document)
                .parent()
                .context("a folder")?
                .to_owned();
            let path = if file.is_empty() {
                PathBuf::from(&document)
            } else {
                folder.join(file)
            };
            let path = xtask::workspace_root().join(path);
            assert!(path.exists(), "{document}: {target}");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&path)?).contains(anchor);
                assert!(there, "{document}: {target}");
            }
            links += 1;
        }
    }
    assert!(links > 30, "{links}");
    Ok(())
}

/// A command or a file beside a number is one that exists.
#[test]
fn every_test_that_a_document_names_exists() -> Result<()> {
    let of = |expression: &str| Regex::new(expression);
    let commands = of(r"--test\s+([a-z_]+)")?;
    let files = of(r"`((?:istio-test/)?tests/[a-z_/]+\.rs)`")?;
    let exists = |path: &str| xtask::workspace_root().join(path).exists();
    let mut named = 0;
    for document in documents()? {
        let text = root(&document)?;
        for name in commands
            .captures_iter(&text)
            .map(|found| found[1].to_owned())
        {
            let there =
                ["tests", "istio-test/tests"].map(|folder| exists(&format!("{folder}/{name}.rs")));
            assert!(there.contains(&true), "{document}: --test {name}");
            named += 1;
        }
        for path in files.captures_iter(&text).map(|found| found[1].to_owned()) {
            assert!(exists(&path), "{document}: {path}");
            named += 1;
        }
    }
    assert!(named > 40, "{named}");
    Ok(())
}

/// What SECURITY.md promises is shown by the tests that it names.
#[test]
fn the_tests_that_security_md_names_exist() -> Result<()> {
    let text = root("SECURITY.md")?;
    let mut sources = String::new();
    for folder in ["tests", "tests/misroute", "istio-test/tests", "config/src"] {
        for entry in fs::read_dir(xtask::workspace_root().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &fs::read_to_string(path)?;
            }
        }
    }
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            root(word)?;
        } else if word.matches('_').count() > 2 {
            assert!(sources.contains(&format!("fn {word}(")), "{word}");
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
    Ok(())
}
