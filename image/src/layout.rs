//! Images in a folder, in the form of OCI: `skopeo copy oci:FOLDER:TAG docker://…` and every other tool read it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use oci_client::annotations::ORG_OPENCONTAINERS_IMAGE_REF_NAME;
use oci_client::manifest::{
    ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageIndex,
};

use super::Image;

const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `images` to the folder `dir`, each tagged with its variant's name. What was in the folder is gone.
/// # Errors
/// The folder cannot be written.
pub fn write_layout(dir: &Path, images: &[Image]) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("{} cannot be emptied", dir.display()))?;
    }
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("{} cannot be made", blobs.display()))?;
    for image in images {
        let manifest = (image.digest().to_owned(), image.manifest());
        for (digest, bytes) in image.blobs().chain([manifest]) {
            write(&blobs.join(digest.trim_start_matches("sha256:")), bytes)?;
        }
    }
    // Last: a folder without it is no layout, so a half-written one is not taken for a whole one.
    write(
        &dir.join("index.json"),
        &serde_json::to_vec(&index(images))?,
    )?;
    write(&dir.join("oci-layout"), VERSION.as_bytes())
}

fn index(images: &[Image]) -> OciImageIndex {
    let manifests = images.iter().map(|image| ImageIndexEntry {
        media_type: OCI_IMAGE_MEDIA_TYPE.to_owned(),
        digest: image.digest().to_owned(),
        size: i64::try_from(image.manifest().len()).unwrap_or(i64::MAX),
        platform: None,
        annotations: Some(BTreeMap::from([(
            ORG_OPENCONTAINERS_IMAGE_REF_NAME.to_owned(),
            image.variant().name().to_owned(),
        )])),
        artifact_type: None,
    });
    OciImageIndex {
        schema_version: 2,
        media_type: Some(OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned()),
        manifests: manifests.collect(),
        artifact_type: None,
        annotations: None,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}
