//! The module as an OCI image: what a registry keeps, and what an `oci://` URL in Istio's WasmPlugin leads to.
//!
//! Istio reads two forms (`pkg/wasm/imagefetcher.go`), and each [`Variant`] is one of them. In both, WasmPlugin's
//! `sha256` is the digest of the image's *manifest*: `PrepareFetch` gives `img.Digest()`, the SHA-256 of the manifest's
//! bytes as the registry has them, and `getOrFetch` (`cache.go`) compares it, in hexadecimal without `sha256:`. It is not
//! the module's hash, nor a layer's, nor the configuration's. Behind an index it would be the digest of the manifest
//! chosen out of it, so what is pushed is a manifest and never an index.
//!
//! The same module and version give the same digest, on any machine: nothing in an image tells when, where or by whom it
//! was made.

mod credentials;
mod layout;
mod push;
mod task;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use flate2::{Compression, GzBuilder};
use oci_client::annotations::{
    ORG_OPENCONTAINERS_IMAGE_DESCRIPTION as DESCRIPTION,
    ORG_OPENCONTAINERS_IMAGE_LICENSES as LICENSES, ORG_OPENCONTAINERS_IMAGE_TITLE as TITLE,
    ORG_OPENCONTAINERS_IMAGE_VERSION as VERSION,
};
use oci_client::client::{Config, ImageLayer};
use oci_client::config::{Architecture, ConfigFile, Os, Rootfs};
use oci_client::manifest::{IMAGE_LAYER_GZIP_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageManifest};
use serde::Serialize;

pub use layout::write_layout;
pub use task::{ImageTask, run};

use xtask::exports::is_module;
use xtask::filter::sha256;

/// The layer that is the module itself, in [`Variant::Artifact`].
pub const WASM_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// What the module wants to run in, in [`Variant::Artifact`]. A registry that lets only types pass that it knows (GitLab's
/// does) knows this one, of the names that are in use for it.
pub const WASM_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
/// The one file in the layer of [`Variant::Compat`].
pub const PLUGIN_FILE: &str = "plugin.wasm";
/// The ABI that the module's exports name.
const ABI: &str = "0.2.1";

/// How the module lies in the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Variant {
    /// Two layers, of which one is the module as it is. Istio wants exactly two.
    Artifact,
    /// A container image whose last layer is an archive with `plugin.wasm` at its root, for a registry that takes
    /// nothing but container images.
    Compat,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Artifact, Self::Compat];

    /// The variant's name, which is its tag in the layout.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Compat => "compat",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// An image, complete: its manifest and everything that the manifest names.
#[derive(Clone)]
pub struct Image {
    variant: Variant,
    config: Config,
    layers: Vec<ImageLayer>,
    /// Kept as bytes: the digest is theirs, and writing JSON anew might give others.
    manifest: Vec<u8>,
    digest: String,
}

impl Image {
    /// The image of `module`, annotated with `version`.
    /// # Errors
    /// `module` is no WebAssembly module: Istio would fetch it and then refuse it.
    pub fn of(module: &[u8], version: &str, variant: Variant) -> Result<Self> {
        ensure!(
            is_module(module),
            "{} bytes that are no WebAssembly module cannot become an image",
            module.len()
        );
        let (config, layers) = match variant {
            Variant::Artifact => artifact(module)?,
            Variant::Compat => compat(module)?,
        };
        let built = OciImageManifest::build(&layers, &config, Some(annotations(version)));
        let manifest = serde_json::to_vec(&OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            ..built
        })?;
        Ok(Self {
            variant,
            config,
            layers,
            digest: format!("sha256:{}", sha256(&manifest)),
            manifest,
        })
    }

    /// Which of the two this is.
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// The digest of the manifest, `sha256:` and 64 hexadecimal digits. WasmPlugin's `sha256` wants the digits alone.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The manifest, byte for byte as it is pushed.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// What the manifest names: each blob with its digest, `sha256:` and 64 hexadecimal digits.
    fn blobs(&self) -> impl Iterator<Item = (String, &[u8])> {
        let layers = self.layers.iter().map(|layer| layer.data.as_ref());
        // A blob that is there twice (configuration and layer of the artifact) is one blob.
        let blobs: BTreeMap<String, &[u8]> = layers
            .chain([self.config.data.as_ref()])
            .map(|bytes| (format!("sha256:{}", sha256(bytes)), bytes))
            .collect();
        blobs.into_iter()
    }
}

/// What Solo's specification of such images calls `runtime-config.json`. Structs and not `json!`: the order of a map's
/// keys depends on a feature of serde_json that any crate may switch on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    r#type: &'static str,
    abi_versions: [&'static str; 1],
}

fn artifact(module: &[u8]) -> Result<(Config, Vec<ImageLayer>)> {
    let runtime = serde_json::to_vec(&RuntimeConfig {
        r#type: "envoy_proxy",
        abi_versions: [ABI],
    })?;
    // `oras pull` names the files by this, and writes none without.
    let titled = |title: &str| Some(BTreeMap::from([text(TITLE, title)]));
    let layers = vec![
        ImageLayer::new(
            runtime.clone(),
            WASM_CONFIG.to_owned(),
            titled("runtime-config.json"),
        ),
        // Last, since there are proxies that look for it there.
        ImageLayer::new(module.to_vec(), WASM_LAYER.to_owned(), titled(PLUGIN_FILE)),
    ];
    Ok((Config::new(runtime, WASM_CONFIG.to_owned(), None), layers))
}

fn compat(module: &[u8]) -> Result<(Config, Vec<ImageLayer>)> {
    let archive = archive(module)?;
    let file = ConfigFile {
        // The module runs on any machine. This says what every tool takes: Docker pulls no image of another system.
        architecture: Architecture::Amd64,
        os: Os::Linux,
        rootfs: Rootfs {
            diff_ids: vec![format!("sha256:{}", sha256(&archive))],
            ..Rootfs::default()
        },
        ..ConfigFile::default()
    };
    let layer = ImageLayer::new(
        gzip(&archive)?,
        IMAGE_LAYER_GZIP_MEDIA_TYPE.to_owned(),
        None,
    );
    Ok((Config::oci_v1_from_config_file(file, None)?, vec![layer]))
}

/// A tar archive with the module in it, which belongs to root and was made in 1970.
fn archive(module: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path(PLUGIN_FILE)?;
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, module)?;
    builder.into_inner().context("the archive cannot be closed")
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    /// The number that gzip has for "unknown": where it was made is nobody's business.
    const NO_SYSTEM: u8 = 255;
    let builder = GzBuilder::new().mtime(0).operating_system(NO_SYSTEM);
    let mut writer = builder.write(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut writer, bytes)?;
    Ok(writer.finish()?)
}

fn annotations(version: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        text(TITLE, "peer-spillover"),
        text(
            DESCRIPTION,
            "A Proxy-Wasm filter for Envoy and Istio: the surplus of a full service goes to a peer cluster.",
        ),
        text(VERSION, version),
        text(LICENSES, env!("CARGO_PKG_LICENSE")),
    ])
}

fn text(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod image_test;
