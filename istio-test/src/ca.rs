//! The clusters' CAs, under one root, as Istio reads them from its secret `cacerts`.

use std::fs;
use std::path::Path;

use anyhow::Result;
use envoy_test::Certs;
use rcgen::KeyPair;

use crate::layout::{CLUSTERS, Cluster, Layout};

/// Makes the root, an intermediate CA for each istiod, and the key that each API server signs service accounts' tokens with.
/// # Errors
/// A folder cannot be written.
pub fn make(layout: &Layout) -> Result<()> {
    let certs = layout.dir().join("certs");
    fs::create_dir_all(&certs)?;
    let root = Certs::make(&certs)?;
    // The third cluster comes later, if it does, and under the same root.
    for cluster in CLUSTERS.into_iter().chain([Cluster::Third]) {
        let dir = layout.cluster_dir(cluster);
        let cacerts = dir.join("istiod/etc/cacerts");
        fs::create_dir_all(&cacerts)?;
        let intermediate = root.intermediate(cluster.name())?;
        let write = |name: &str, text: &str| fs::write(cacerts.join(name), text);
        write("ca-cert.pem", &intermediate.pem())?;
        write("ca-key.pem", &intermediate.key_pem())?;
        write("root-cert.pem", &root.pem())?;
        write("cert-chain.pem", &(intermediate.pem() + &root.pem()))?;

        let kube = dir.join("kube");
        fs::create_dir_all(&kube)?;
        let signer = KeyPair::generate()?;
        fs::write(kube.join("sa.key"), signer.serialize_pem())?;
        fs::write(kube.join("sa.pub"), signer.public_key_pem())?;
        fs::write(
            kube.join("tokens.csv"),
            "admintoken,admin,admin,system:masters\n",
        )?;
    }
    Ok(())
}

/// The root certificate that every proxy and istiod trusts.
pub fn root(layout: &Layout) -> impl AsRef<Path> {
    layout.dir().join("certs/root.pem")
}
