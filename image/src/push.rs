//! To a registry, and back: what it has must be what was pushed.

use std::error::Error;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope};
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};

use super::{Image, credentials};

const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer. Registries think for a while before they acknowledge a blob.
const SILENCE: Duration = Duration::from_secs(60);

/// Where an image goes: REGISTRY/REPOSITORY:TAG.
/// # Errors
/// `reference` is none, or names a digest: that is not chosen by who pushes.
pub fn parse(reference: &str) -> Result<Reference> {
    const FORM: &str = "write REGISTRY/REPOSITORY:TAG";
    let parsed: Reference = reference
        .parse()
        .map_err(|error| anyhow!("{reference:?} is no image reference ({error}); {FORM}"))?;
    ensure!(
        parsed.digest().is_none(),
        "{reference:?} names a digest, which a push cannot choose; {FORM}"
    );
    Ok(parsed)
}

impl Image {
    /// Pushes the image to `reference` (REGISTRY/REPOSITORY:TAG, the tag `latest` if there is none), with the credential
    /// that `docker login` left or anonymously, and reads back what the registry now has there. With `plain_http` without
    /// TLS, and past any proxy that the environment names. Gives the digest as the registry has it, which is
    /// [`Image::digest`]. A runtime with one thread, I/O and time is enough.
    /// # Errors
    /// One line: `reference` is none; the registry cannot be reached, refuses, or afterwards has something else there.
    pub async fn push(&self, reference: &str, plain_http: bool) -> Result<String> {
        let target = parse(reference)?;
        let auth = credentials::of(target.registry())?;
        self.push_as(&target, plain_http, &auth)
            .await
            .map_err(|failure| match failure {
                Failure::Registry(error) => explain(&error, &target, plain_http, &auth),
                Failure::Other(digest) => anyhow!(
                    "{target} is {digest} at the registry, and not {}, which was pushed: somebody else pushed there, or \
                     the registry changes what it is given",
                    self.digest()
                ),
            })
    }

    async fn push_as(
        &self,
        target: &Reference,
        plain_http: bool,
        auth: &RegistryAuth,
    ) -> Result<String, Failure> {
        let client = client(plain_http)?;
        // Said first, since every later call would forget why there is no token.
        client.auth(target, auth, RegistryOperation::Push).await?;
        for (digest, bytes) in self.blobs() {
            client.push_blob(target, bytes.to_vec(), &digest).await?;
        }
        let kind = OCI_IMAGE_MEDIA_TYPE
            .parse()
            .map_err(|_| OciDistributionError::GenericError(None))?;
        // Raw: the client's own way would write the manifest's JSON anew, and the digest would be another.
        client
            .push_manifest_raw(target, self.manifest().to_vec(), kind)
            .await?;
        let (manifest, digest) = client
            .pull_manifest_raw(target, auth, &[OCI_IMAGE_MEDIA_TYPE])
            .await?;
        if digest != self.digest() || manifest != self.manifest() {
            return Err(Failure::Other(digest));
        }
        Ok(digest)
    }
}

enum Failure {
    Registry(OciDistributionError),
    /// The digest of what the registry has instead.
    Other(String),
}

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        Self::Registry(error)
    }
}

fn client(plain_http: bool) -> Result<Client, OciDistributionError> {
    // An error says that the process has one already, which will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = ClientConfig {
        connect_timeout: Some(CONNECT),
        read_timeout: Some(SILENCE),
        // As containerd and oras do it: not every registry takes a blob in pieces.
        use_monolithic_push: true,
        user_agent: concat!("peer-spillover/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    if plain_http {
        config.protocol = ClientProtocol::Http;
        // Plain HTTP is for a registry at hand, on loopback or in a network namespace, where no proxy leads. The client
        // forgets the environment's proxies only when it is given one; this one is for no host.
        config.http_proxy = Some("http://127.0.0.1".to_owned());
        config.no_proxy = Some("*,0.0.0.0/0,::/0".to_owned());
    }
    Client::try_from(config)
}

/// What went wrong, in one line that says what to do.
fn explain(
    error: &OciDistributionError,
    target: &Reference,
    plain_http: bool,
    auth: &RegistryAuth,
) -> anyhow::Error {
    let registry = target.registry();
    match error {
        OciDistributionError::RequestError(error) if error.is_builder() => {
            anyhow!(
                "the client for {registry} cannot be set up: {}",
                root(error)
            )
        }
        OciDistributionError::RequestError(error) => {
            let root = root(error);
            let hint = if !plain_http && root.contains("corrupt message") {
                "; it seems to speak plain HTTP (--plain-http)"
            } else {
                ""
            };
            anyhow!("the registry {registry} cannot be reached: {root}{hint}")
        }
        OciDistributionError::UnauthorizedError { .. } => refused(target, auth, "401"),
        OciDistributionError::AuthenticationFailure(reason) => {
            refused(target, auth, &message(reason))
        }
        OciDistributionError::ServerError {
            code: code @ (401 | 403),
            message: body,
            ..
        } => refused(target, auth, &format!("{code}, {}", message(body))),
        OciDistributionError::ServerError {
            code,
            message: body,
            ..
        } => anyhow!(
            "the registry {registry} answers {code} to a push to {target}: {}",
            message(body)
        ),
        other => anyhow!(
            "the push to {target} failed: {}",
            one_line(&other.to_string())
        ),
    }
}

fn refused(target: &Reference, auth: &RegistryAuth, why: &str) -> anyhow::Error {
    let who = match auth {
        RegistryAuth::Basic(user, _) => format!("{user:?}"),
        RegistryAuth::Bearer(_) => "a token".to_owned(),
        RegistryAuth::Anonymous => "nobody".to_owned(),
    };
    let registry = target.registry();
    anyhow!(
        "the registry {registry} does not let {who} push to {} ({why}); `docker login {registry}` as someone who may",
        target.repository()
    )
}

/// What a registry says in the body of its refusal: the message of OCI's form, or the text as it is.
fn message(body: &str) -> String {
    let first = serde_json::from_str::<OciEnvelope>(body)
        .ok()
        .and_then(|envelope| envelope.errors.into_iter().next())
        .map(|error| error.message);
    one_line(&first.unwrap_or_else(|| body.to_owned()))
}

/// The cause at the bottom: the layers above it only say that a request failed.
fn root(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    one_line(&cause.to_string())
}

/// `text` on one line, and no more of it than one reads.
pub fn one_line(text: &str) -> String {
    const ENOUGH: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_registry_repository_and_tag() -> Result<()> {
        let target = parse("ghcr.io/someone/peer-spillover:1")?;
        assert_eq!(target.to_string(), "ghcr.io/someone/peer-spillover:1");
        assert_eq!(
            parse("127.0.0.1:5000/peer-spillover")?.to_string(),
            "127.0.0.1:5000/peer-spillover:latest"
        );
        Ok(())
    }

    #[test]
    fn what_is_no_reference_is_said_in_one_line() {
        let digest = format!("ghcr.io/a/b@sha256:{}", "0".repeat(64));
        for wrong in ["", "oci://ghcr.io/a/b:1", "ghcr.io/A/b:1", "a:b:c", &digest] {
            let line = parse(wrong).expect_err(wrong).to_string();
            assert!(line.ends_with("write REGISTRY/REPOSITORY:TAG"), "{line}");
            assert!(line.contains(&format!("{wrong:?}")), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_registrys_words() {
        let body = "{\"errors\": [{\"code\": \"DENIED\",\n \"message\": \"no\\nentry\"}]}\n";
        assert_eq!(message(body), "no entry");
        assert_eq!(message("<html>\n  busy\n"), "<html> busy");
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), 301);
    }
}
