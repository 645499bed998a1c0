//! What a registry is told about who pushes: as `docker login` left it.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

/// Where Docker keeps the credential for Docker Hub, whatever the host is called otherwise.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// How a credential helper says that it has none: by failing, with this on its output.
const HELPER_HAS_NONE: &str = "credentials not found";

/// The credential for `registry` (as in a reference: host, and port if there is one), out of Docker's `config.json` or
/// the helper that it names. Without one: anonymous.
/// # Errors
/// The file is there and unreadable, its helper failed, or it has a credential of a kind that cannot be used here.
pub fn of(registry: &str) -> Result<RegistryAuth> {
    match config_file() {
        Some(file) if file.is_file() => read(&file, registry),
        _ => Ok(RegistryAuth::Anonymous),
    }
}

fn config_file() -> Option<PathBuf> {
    let dir = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    dir.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")))
        .map(|dir| dir.join("config.json"))
}

fn read(file: &Path, registry: &str) -> Result<RegistryAuth> {
    let reader = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let key = match registry {
        "docker.io" | "index.docker.io" => DOCKER_HUB,
        other => other,
    };
    judge(get_credential_from_reader(reader, key), file, registry)
}

/// What to push with, from what `file` or its helper gave for `registry`.
fn judge(
    found: Result<DockerCredential, CredentialRetrievalError>,
    file: &Path,
    registry: &str,
) -> Result<RegistryAuth> {
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        // It would first have to be exchanged for a token, which oci-client does not do.
        Ok(DockerCredential::IdentityToken(_)) => bail!(
            "{} has an identity token for {registry}; log in with a user and a password or an access token instead",
            file.display()
        ),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains(HELPER_HAS_NONE) =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(CredentialRetrievalError::ConfigReadError) => {
            bail!("{} is not what Docker writes there", file.display())
        }
        Err(error) => bail!(
            "the credential for {registry} in {}: {}",
            file.display(),
            super::push::one_line(&error.to_string())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<()>;

    /// What `config` has for `registry`.
    fn found(config: &str, registry: &str) -> Result<RegistryAuth> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("config.json");
        std::fs::write(&file, config)?;
        read(&file, registry)
    }

    fn user(name: &str, password: &str) -> RegistryAuth {
        RegistryAuth::Basic(name.to_owned(), password.to_owned())
    }

    #[test]
    fn a_login_is_found_by_host_and_port() -> Outcome {
        // "user:secret"
        let config = r#"{"auths": {"registry.test:5000": {"auth": "dXNlcjpzZWNyZXQ="}}}"#;
        assert_eq!(found(config, "registry.test:5000")?, user("user", "secret"));
        assert_eq!(found(config, "registry.test")?, RegistryAuth::Anonymous);
        Ok(())
    }

    #[test]
    fn a_helper_is_asked_for_docker_hub_by_the_name_that_docker_has_for_it() {
        let config = r#"{"credHelpers": {"https://index.docker.io/v1/": "that-nobody-has"}}"#;
        for registry in ["docker.io", "index.docker.io"] {
            let error = found(config, registry).expect_err("there is no such helper");
            assert!(error.to_string().contains("helper"), "{error}");
        }
    }

    #[test]
    fn a_helper_that_has_none_is_no_failure_and_one_that_fails_is() -> Outcome {
        let helper = |stdout: &str| {
            let failure = CredentialRetrievalError::HelperFailure {
                helper: "docker-credential-x".to_owned(),
                stdout: stdout.to_owned(),
                stderr: String::new(),
            };
            judge(Err(failure), Path::new("config.json"), "registry.test")
        };
        let none = helper("credentials not found in native keychain\n")?;
        assert_eq!(none, RegistryAuth::Anonymous);
        let error = helper("the keychain\nis locked\n").expect_err("it failed");
        let line = format!("{error:#}");
        assert!(line.contains("the keychain is locked"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        Ok(())
    }

    #[test]
    fn what_cannot_be_used_is_said_in_one_line() {
        let identity = r#"{"auths": {"registry.test": {"identitytoken": "t"}}}"#;
        let helper = r#"{"credHelpers": {"registry.test": "that-nobody-has"}}"#;
        for (config, part) in [
            (identity, "identity token"),
            (helper, "credential helper"),
            ("{", "not what Docker writes"),
        ] {
            let error = found(config, "registry.test").expect_err(config);
            let line = format!("{error:#}");
            assert!(line.contains(part), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
