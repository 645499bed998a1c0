use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

type Outcome = Result<()>;

/// A module that compresses neither well nor badly: a back end of flate2 other than ours would make other bytes of it.
fn module() -> Vec<u8> {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The lowest and the highest of the middle bits: few values, in an order with repetitions.
        ((state >> 16) & 0x1f) as u8
    });
    let header = b"\0asm\x01\0\0\0".iter().copied();
    header.chain(noise.take(40_000)).collect()
}

fn image(variant: Variant) -> Result<Image> {
    Image::of(&module(), "1.2.3", variant)
}

/// Who has a digest in a WasmPlugin must find it again. These change when what an image is made of changes, or when
/// flate2 compresses otherwise: then the changelog must say that the same module has a new digest.
#[test]
fn one_module_has_one_digest_everywhere() -> Outcome {
    let digests = [
        "sha256:4ff59105f2830cece1efe5f76112cc366c65db84ad30452e8819cf48f5520ab0",
        "sha256:a8c95ae82afbb649504598b1a67657ca9b76680d95aba1f9a9f0bc1ba3e412b3",
    ];
    for (variant, digest) in Variant::ALL.into_iter().zip(digests) {
        assert_eq!(image(variant)?.digest(), digest, "{variant}");
    }
    Ok(())
}

#[test]
fn the_digest_is_of_the_manifest() -> Outcome {
    for variant in Variant::ALL {
        let image = image(variant)?;
        assert_eq!(
            image.digest(),
            format!("sha256:{}", sha256(image.manifest()))
        );
    }
    Ok(())
}

#[test]
fn another_module_or_version_has_another_digest() -> Outcome {
    let mut other = module();
    other.push(0);
    for variant in Variant::ALL {
        let image = image(variant)?;
        for different in [
            Image::of(&other, "1.2.3", variant)?,
            Image::of(&module(), "1.2.4", variant)?,
        ] {
            assert_ne!(image.digest(), different.digest(), "{variant}");
        }
    }
    Ok(())
}

#[test]
fn what_is_no_module_is_refused_in_one_line() {
    for wrong in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0", b"(module)"] {
        let error = Image::of(wrong, "1.2.3", Variant::Artifact).map(|image| image.digest);
        let line = format!("{:#}", error.expect_err("it is no module"));
        assert!(line.contains("no WebAssembly module"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn the_archive_tells_nothing_of_who_made_it() -> Outcome {
    let image = image(Variant::Compat)?;
    let layer = image.layers.last().context("there is a layer")?;
    // No flags (so no file name), and no time; the last byte of the header would be the system.
    assert_eq!(layer.data.get(3..8), Some(&[0; 5][..]));
    assert_eq!(layer.data.get(9), Some(&255));
    let mut archive = Vec::new();
    GzDecoder::new(layer.data.as_ref()).read_to_end(&mut archive)?;
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entries = archive.entries()?;
    let mut entry = entries.next().context("there is a file")??;
    let header = entry.header().clone();
    assert_eq!(entry.path()?, Path::new("plugin.wasm"));
    assert_eq!(header.mode()?, 0o644);
    assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, 0));
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    assert_eq!(bytes, module());
    drop(entry);
    assert!(entries.next().is_none(), "one file and nothing else");
    Ok(())
}

#[test]
fn the_artifact_names_the_abi_that_the_module_exports() -> Outcome {
    let image = image(Variant::Artifact)?;
    let runtime: Value = serde_json::from_slice(&image.config.data)?;
    let export = format!(
        "proxy_abi_version_{}",
        runtime["abiVersions"][0]
            .as_str()
            .context("there is one")?
            .replace('.', "_")
    );
    assert!(xtask::exports::KEPT.contains(&export.as_str()), "{export}");
    Ok(())
}

#[test]
fn the_layout_has_every_blob_that_a_manifest_names_and_no_other() -> Outcome {
    let dir = tempfile::tempdir()?;
    let layout = dir.path().join("image");
    // What an earlier build left must not stay.
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    fs::write(layout.join("blobs/sha256/old"), "old")?;
    let images = [image(Variant::Artifact)?, image(Variant::Compat)?];
    write_layout(&layout, &images)?;

    let json = |path: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(layout.join(path))?)?)
    };
    assert_eq!(json("oci-layout")?["imageLayoutVersion"], "1.0.0");
    let index = json("index.json")?;
    let mut named = Vec::new();
    for (entry, image) in index["manifests"]
        .as_array()
        .context("an array")?
        .iter()
        .zip(&images)
    {
        assert_eq!(
            entry["annotations"]["org.opencontainers.image.ref.name"],
            image.variant().name()
        );
        assert_eq!(entry["digest"], image.digest());
        named.push(entry.clone());
        let manifest: Value = serde_json::from_slice(image.manifest())?;
        named.push(manifest["config"].clone());
        named.extend(manifest["layers"].as_array().context("an array")?.clone());
    }
    for descriptor in &named {
        let digest = descriptor["digest"].as_str().context("a digest")?;
        let bytes = fs::read(layout.join("blobs").join(digest.replace(':', "/")))?;
        assert_eq!(format!("sha256:{}", sha256(&bytes)), digest);
        assert_eq!(descriptor["size"], bytes.len());
    }
    let mut digests: Vec<_> = named.iter().map(|named| named["digest"].clone()).collect();
    digests.sort_by_key(Value::to_string);
    digests.dedup();
    assert_eq!(
        fs::read_dir(layout.join("blobs/sha256"))?.count(),
        digests.len()
    );
    Ok(())
}
