//! What users copy is read by the code that will read it: the README's configuration and the manifests.

use std::fs;

use anyhow::{Context, Result};
use config;
use serde_json::Value;

fn root(path: &str) -> Result<String> {
    let path = xtask::workspace_root().join(path);
    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

#[test]
fn the_readmes_configuration_is_one() -> Result<()> {
    let readme = root("README.md")?;
    let yaml = readme
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("no example")?;
    let value: Value = serde_yaml_ng::from_str(yaml)?;
    let config = config::parse(value.to_string().as_bytes())?;
    assert_eq!(config.services[0].rule.limit, Some(100));
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

/// The reason words of the README are those of the code.
#[test]
fn the_readme_explains_every_reason() -> Result<()> {
    let readme = root("README.md")?;
    for reason in policy::names::Reason::ALL {
        assert!(
            readme.contains(&format!("`{}`", reason.word())),
            "{reason:?}"
        );
    }
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
