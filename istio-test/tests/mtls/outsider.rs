//! A client outside of the mesh: no sidecar, no capture, and whatever certificate it was given.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use envoy_test::certs::Leaf;
use istio_test::layout::{Cluster, NAMESPACE};
use istio_test::mesh::SERVICE;
use istio_test::{Mesh, net};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, SanType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

/// Far more than a refusal takes: an answer that never comes is a defect too.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the client speaks.
pub enum Speech {
    /// HTTP, and nothing around it.
    Plain,
    /// TLS under this server name, and a certificate or none.
    Tls(String, Option<Identity>),
}

/// A certificate with its chain, and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// One that the harness made.
    pub fn of(leaf: &Leaf) -> Result<Identity> {
        Ok(Identity {
            chain: CertificateDer::pem_file_iter(&leaf.cert)?.collect::<Result<_, _>>()?,
            key: PrivateKeyDer::from_pem_file(&leaf.key)?,
        })
    }

    /// One for the service account `sa` that home's istiod could have signed, under the root that both clusters trust.
    pub fn of_the_mesh(mesh: &Mesh, trust_domain: &str, sa: &str) -> Result<Identity> {
        let cacerts = mesh
            .layout
            .cluster_dir(Cluster::Home)
            .join("istiod/etc/cacerts");
        let read = |name: &str| read(&cacerts.join(name));
        // All that a signature takes of an issuer is its name and its key.
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = DistinguishedName::new();
        let name = Cluster::Home.name();
        issuer
            .distinguished_name
            .push(DnType::OrganizationName, name);
        let issuer = Issuer::new(issuer, KeyPair::from_pem(&read("ca-key.pem")?)?);

        let spiffe = format!("spiffe://{trust_domain}/ns/{NAMESPACE}/sa/{sa}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .subject_alt_names
            .push(SanType::URI(spiffe.try_into()?));
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &issuer)?.pem();
        let chain = leaf + &read("cert-chain.pem")?;
        Ok(Identity {
            chain: CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?,
            key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?,
        })
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Sends one request for the service to `ADDRESS:PORT`, with these lines of headers, and returns what comes back until the
/// connection ends: nothing, where the client is not let in.
/// # Errors
/// Nobody listens there, or the connection neither answers nor ends.
pub async fn ask(mesh: &Mesh, addr: &str, speech: &Speech, headers: &str) -> Result<String> {
    let tcp = net::connect(&mesh.layout.lab(), addr.parse()?).await?;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n{headers}Connection: close\r\n\r\n");
    let exchange = async {
        match speech {
            Speech::Plain => Ok(exchange(tcp, &request).await),
            Speech::Tls(name, identity) => {
                let name = ServerName::try_from(name.clone())?;
                let tls = TlsConnector::from(Arc::new(config(identity.as_ref())?));
                match tls.connect(name, tcp).await {
                    Ok(stream) => Ok(exchange(stream, &request).await),
                    Err(_refused) => Ok(String::new()),
                }
            }
        }
    };
    timeout(PATIENCE, exchange)
        .await
        .context("neither an answer nor an end")?
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let mut text = Vec::new();
    // With TLS 1.3 a server refuses a certificate after the client's handshake: then it is the reading that fails.
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _refused_or_ended = stream.read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn config(identity: Option<&Identity>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match identity {
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key())?
        }
        None => builder.with_no_client_auth(),
    };
    // As sidecars do; other names are no mTLS of Istio's.
    config.alpn_protocols = vec![b"istio".to_vec()];
    Ok(config)
}

/// An outsider does not care who answers.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
