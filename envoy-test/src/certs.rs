//! Certificates as Istio's certificate authority makes them: a root, and leaves whose identity is a SPIFFE URI SAN.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

/// A root certificate authority, with its files in one directory.
pub struct Certs {
    dir: PathBuf,
    name: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, and the root that signed it.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// PEM file of the certificate.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// PEM file of the root that signed it.
    pub root: PathBuf,
    /// Its identity: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    pub spiffe: String,
}

impl Certs {
    /// A new root, its certificate in `dir`/root.pem.
    /// # Errors
    /// `dir` cannot be written.
    pub fn make(dir: &Path) -> Result<Certs> {
        Certs::named(dir, "root")
    }

    /// Another root in the same directory, which those who trust the first do not trust.
    /// # Errors
    /// The directory cannot be written.
    pub fn other_root(&self) -> Result<Certs> {
        Certs::named(&self.dir, &format!("other-{}", self.name))
    }

    /// A certificate authority signed by this one, as Istio's own in each cluster is, its files in the same directory.
    /// # Errors
    /// The directory cannot be written.
    pub fn intermediate(&self, name: &str) -> Result<Certs> {
        let issuer =
            CertifiedIssuer::signed_by(authority(name), KeyPair::generate()?, &self.issuer)?;
        Certs::with(&self.dir, name, issuer)
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its private key.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A leaf for the service account `sa` of namespace `ns` in `trust_domain`, for servers and clients.
    /// # Errors
    /// The directory cannot be written, or a name is not ASCII.
    pub fn leaf(&self, trust_domain: &str, ns: &str, sa: &str) -> Result<Leaf> {
        let spiffe = format!("spiffe://{trust_domain}/ns/{ns}/sa/{sa}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .subject_alt_names
            .push(SanType::URI(spiffe.clone().try_into()?));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let pair = KeyPair::generate()?;
        let signed = params.signed_by(&pair, &self.issuer)?;
        let stem = format!("{}-{trust_domain}-{ns}-{sa}", self.name);
        Ok(Leaf {
            cert: self.write(&format!("{stem}.pem"), &signed.pem())?,
            key: self.write(&format!("{stem}-key.pem"), &pair.serialize_pem())?,
            root: self.root(),
            spiffe,
        })
    }

    /// PEM file of the root's certificate.
    pub fn root(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    fn named(dir: &Path, name: &str) -> Result<Certs> {
        let issuer = CertifiedIssuer::self_signed(authority(name), KeyPair::generate()?)?;
        Certs::with(dir, name, issuer)
    }

    fn with(dir: &Path, name: &str, issuer: CertifiedIssuer<'static, KeyPair>) -> Result<Certs> {
        let certs = Certs {
            dir: dir.to_owned(),
            name: name.to_owned(),
            issuer,
        };
        certs.write(&format!("{name}.pem"), &certs.issuer.pem())?;
        Ok(certs)
    }

    fn write(&self, name: &str, pem: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// What makes a certificate one of an authority.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
