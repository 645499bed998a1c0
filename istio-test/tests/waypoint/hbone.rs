//! A client of an ambient mesh: what ztunnel does for a pod, done by Istio's own echo client.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use istio_test::mesh::SERVICE;
use istio_test::{Cluster, Mesh, net};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType,
};

/// A workload with a certificate of home's CA, outside of every pod.
pub struct Caller {
    mesh: Mesh,
    waypoint: String,
    url: String,
    cert: PathBuf,
    key: PathBuf,
}

/// One answer: its status, and what Istio's echo server says in its body.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// 0 where there was none
    pub status: u16,
    body: Vec<String>,
}

impl Answered {
    /// A field of the echo, such as `Hostname`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let begin = format!("{name}=");
        self.body.iter().find_map(|line| line.strip_prefix(&begin))
    }

    /// A request header as the application got it.
    pub fn received(&self, header: &str) -> Option<&str> {
        self.body.iter().find_map(|line| {
            let (name, value) = line.strip_prefix("RequestHeader=")?.split_once(':')?;
            name.eq_ignore_ascii_case(header).then_some(value)
        })
    }
}

impl Caller {
    /// The service account `client` of namespace istio. `waypoint` is its address and port.
    /// # Errors
    /// A file of the CA is missing, or the service has no cluster address.
    pub async fn new(mesh: &Mesh, waypoint: &str) -> Result<Caller> {
        let dir = mesh.layout.dir().join("certs");
        let (cert, key) = (dir.join("caller.pem"), dir.join("caller-key.pem"));
        let cacerts = mesh
            .layout
            .cluster_dir(Cluster::Home)
            .join("istiod/etc/cacerts");
        let mut authority = CertificateParams::default();
        authority.distinguished_name = DistinguishedName::new();
        authority
            .distinguished_name
            .push(DnType::OrganizationName, Cluster::Home.name());
        let signer = KeyPair::from_pem(&fs::read_to_string(cacerts.join("ca-key.pem"))?)?;
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.subject_alt_names = vec![SanType::URI(
            "spiffe://cluster.local/ns/istio/sa/client".try_into()?,
        )];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let pair = KeyPair::generate()?;
        let signed = leaf.signed_by(&pair, &Issuer::new(authority, signer))?;
        fs::write(
            &cert,
            signed.pem() + &fs::read_to_string(cacerts.join("ca-cert.pem"))?,
        )?;
        fs::write(&key, pair.serialize_pem())?;
        Ok(Caller {
            mesh: mesh.clone(),
            waypoint: waypoint.to_owned(),
            url: format!("http://{}:80", mesh.cluster_ip(Cluster::Home, "a").await?),
            cert,
            key,
        })
    }

    /// `count` requests at once, each on a tunnel of its own. Their answers are in no order.
    /// # Errors
    /// The tunnel is refused, or one of them is not answered.
    pub async fn send(
        &self,
        path: &str,
        count: usize,
        headers: &[(&str, &str)],
    ) -> Result<Vec<Answered>> {
        let bin = self.mesh.layout.bin();
        let mut client = net::command(&self.mesh.layout.lab(), bin.join("client"));
        client
            .arg(format!("{}{path}", self.url))
            .args(["--count", &count.to_string(), "--timeout", "30s"])
            .args(["--header", &format!("Host:{SERVICE}")])
            .args(["--hbone", &self.waypoint])
            .arg("--hbone-client-cert")
            .arg(&self.cert)
            .arg("--hbone-client-key")
            .arg(&self.key)
            // Its identity is a SPIFFE one, which this client would not compare.
            .arg("--hbone-insecure-skip-verify");
        for (name, value) in headers {
            client.arg("--header").arg(format!("{name}:{value}"));
        }
        let said = net::run(&mut client).await?;
        let mut answers = vec![Answered::default(); count];
        for line in said.lines() {
            let Some((index, rest)) = line.strip_prefix('[').and_then(|l| l.split_once(']')) else {
                continue;
            };
            let (index, body) = match index.split_once(' ') {
                Some((index, _)) => (index, true),
                None => (index, false),
            };
            let answer = answers
                .get_mut(index.parse::<usize>()?)
                .with_context(|| format!("an answer too many: {line}"))?;
            let rest = rest.trim_start();
            if body {
                answer.body.push(rest.to_owned());
            } else if let Some(status) = rest.strip_prefix("StatusCode=") {
                answer.status = status.parse()?;
            }
        }
        Ok(answers)
    }
}
