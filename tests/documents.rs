//! What users copy is read by the code that will read it: the README's configuration and the manifests.

use std::fs;

use anyhow::{Context, Result};
use peer_spillover::config;
use serde::Deserialize;
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

#[test]
fn the_manifests_plugin_config_is_one() -> Result<()> {
    let manifest = root("wasmplugin/client-sidecar.yaml")?;
    let mut kinds = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&manifest) {
        let value = Value::deserialize(document)?;
        if value["kind"] == "WasmPlugin" {
            assert_eq!(value["spec"]["failStrategy"], "FAIL_OPEN");
            let config = config::parse(value["spec"]["pluginConfig"].to_string().as_bytes())?;
            assert_eq!(config.warnings, [""; 0], "nothing in it is ignored");
        }
        kinds.push(value["kind"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(
        kinds,
        [
            "WasmPlugin",
            "ServiceEntry",
            "DestinationRule",
            "VirtualService"
        ]
    );
    Ok(())
}

/// The reason words of the README are those of the code.
#[test]
fn the_readme_explains_every_reason() -> Result<()> {
    let readme = root("README.md")?;
    for reason in peer_spillover::names::Reason::ALL {
        assert!(
            readme.contains(&format!("`{}`", reason.word())),
            "{reason:?}"
        );
    }
    Ok(())
}
