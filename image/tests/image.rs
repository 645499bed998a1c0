//! The module as an image, on a real registry (Debian's `docker-registry`) on loopback: what was pushed is what Istio reads.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use image::{Image, Variant};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime;
use xtask::{filter, target_dir};

type Outcome = Result<()>;

/// The smallest module there is.
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const DEADLINE: Duration = Duration::from_secs(30);

/// Who may push to [`Registry::with_a_password`], in the form of Docker's configuration and of an htpasswd file.
const AUTH: &str = "cGVlcjp0by10aGUtcmVnaXN0cnk=";
const HTPASSWD: &str = "peer:$2y$04$peerspilloverpeerspil.cXIZ7LYzKybk.uVE/FmR6bff5R66Pgy\n";

#[test]
fn both_variants_come_back_as_istio_reads_them() -> Outcome {
    let registry = Registry::open()?;
    let module = fs::read(filter::ensure()?)?;
    for variant in Variant::ALL {
        let image = Image::of(&module, "1.2.3", variant)?;
        let reference = format!("{}/some/where:{variant}", registry.address);
        let digest = push(&image, &reference, true)?;
        assert_eq!(digest, image.digest());
        assert_eq!(registry.manifest("some/where", &digest)?, image.manifest());
        let read = as_istio_reads_it(&registry, "some/where", &digest)?;
        assert!(read == module, "{variant}: {} other bytes", read.len());
    }
    Ok(())
}

#[test]
fn the_artifact_has_the_two_layers_and_the_compat_variant_the_one() -> Outcome {
    let registry = Registry::open()?;
    let types = |variant: Variant| -> Result<Vec<Value>> {
        let image = Image::of(EMPTY_MODULE, "1.2.3", variant)?;
        let digest = push(&image, &format!("{}/types", registry.address), true)?;
        let manifest: Value = serde_json::from_slice(&registry.manifest("types", &digest)?)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        Ok(layers
            .iter()
            .map(|layer| layer["mediaType"].clone())
            .collect())
    };
    assert_eq!(
        types(Variant::Artifact)?,
        [
            "application/vnd.module.wasm.config.v1+json",
            "application/vnd.module.wasm.content.layer.v1+wasm"
        ]
    );
    assert_eq!(
        types(Variant::Compat)?,
        ["application/vnd.oci.image.layer.v1.tar+gzip"]
    );
    Ok(())
}

#[test]
fn two_builds_and_two_pushes_are_one_image() -> Outcome {
    let registry = Registry::open()?;
    let module = fs::read(filter::ensure()?)?;
    for variant in Variant::ALL {
        let push = |tag: &str| {
            let image = Image::of(&module, "1.2.3", variant)?;
            push(&image, &format!("{}/twice:{tag}", registry.address), true)
        };
        assert_eq!(push("a")?, push("b")?, "{variant}");
    }
    Ok(())
}

#[test]
fn a_reference_that_is_none_is_said_in_one_line() -> Outcome {
    for wrong in ["", "oci://127.0.0.1/a:1", "127.0.0.1/UPPER:1", "a:b:c"] {
        assert_one_line(
            &complaint(wrong, true)?,
            &["REGISTRY/REPOSITORY:TAG", wrong],
        );
    }
    Ok(())
}

#[test]
fn a_registry_that_is_not_there_is_said_in_one_line() -> Outcome {
    // Nothing listens on the first port, and nothing that was started meanwhile is given it.
    for plain_http in [true, false] {
        let line = complaint("127.0.0.1:1/a:1", plain_http)?;
        assert_one_line(&line, &["127.0.0.1:1", "reached", "refused"]);
    }
    Ok(())
}

#[test]
fn a_registry_without_tls_is_told_from_one_that_is_not_there() -> Outcome {
    let registry = Registry::open()?;
    let line = complaint(&format!("{}/a:1", registry.address), false)?;
    assert_one_line(&line, &["--plain-http"]);
    Ok(())
}

#[test]
fn who_may_not_push_is_told_so_in_one_line() -> Outcome {
    let registry = Registry::with_a_password()?;
    let line = complaint(&format!("{}/a/b:1", registry.address), true)?;
    assert_one_line(
        &line,
        &["docker login", "a/b", "401", "authentication required"],
    );
    Ok(())
}

#[test]
fn a_registry_that_has_something_else_afterwards_is_an_error() -> Outcome {
    let line = complaint(&format!("{}/a:1", changing_registry()?), true)?;
    let image = Image::of(EMPTY_MODULE, "0.0.0", Variant::Artifact)?;
    assert_one_line(&line, &["at the registry, and not", image.digest()]);
    Ok(())
}

#[test]
fn the_command_pushes_with_dockers_credential_and_prints_what_a_wasmplugin_needs() -> Outcome {
    let registry = Registry::with_a_password()?;
    let built = cargo_image(&["build"], None)?;
    let printed = String::from_utf8(built.stdout)?;
    for variant in Variant::ALL {
        let reference = format!("{}/spillover:{variant}", registry.address);
        let arguments = [
            "push",
            &reference,
            "--plain-http",
            "--variant",
            variant.name(),
        ];
        let out = cargo_image(&arguments, Some((&registry, AUTH)))?;
        let hex = filter::sha256(&registry.manifest("spillover", variant.name())?);
        let out = String::from_utf8(out.stdout)?;
        for line in [
            format!("{reference}@sha256:{hex}"),
            format!("url: oci://{reference}"),
            format!("sha256: {hex}"),
        ] {
            assert!(out.lines().any(|printed| printed == line), "{line}\n{out}");
        }
        let line = format!("{variant:<8}  sha256:{hex}");
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
        let blob = target_dir().join("image/blobs/sha256").join(hex);
        assert!(blob.is_file(), "{} is not there", blob.display());
    }
    Ok(())
}

#[test]
fn the_command_says_in_one_line_that_the_password_is_wrong() -> Outcome {
    let registry = Registry::with_a_password()?;
    let reference = format!("{}/spillover:1", registry.address);
    // "peer:wrong"
    let wrong = Some((&registry, "cGVlcjp3cm9uZw=="));
    let error = cargo_image(&["push", &reference, "--plain-http"], wrong).err();
    let line = error.context("the push went through")?.to_string();
    assert_one_line(&line, &["\"peer\"", "401", "docker login"]);
    Ok(())
}

/// Pushes as the library's users do: on one thread.
fn push(image: &Image, reference: &str, plain_http: bool) -> Result<String> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(image.push(reference, plain_http))
}

/// What a push that fails says: a line for the error and one for each cause, as `main` would print it.
fn complaint(reference: &str, plain_http: bool) -> Result<String> {
    let image = Image::of(EMPTY_MODULE, "0.0.0", Variant::Artifact)?;
    let error = push(&image, reference, plain_http).err();
    let error = error.context("the push went through")?;
    let lines: Vec<String> = error.chain().map(ToString::to_string).collect();
    Ok(lines.join("\n"))
}

#[track_caller]
fn assert_one_line(line: &str, parts: &[&str]) {
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

/// `cargo image`, with a Docker configuration that has `login` for the registry, and a proxy that is not there. When it
/// fails the error is what it says, without the progress before it.
fn cargo_image(arguments: &[&str], login: Option<(&Registry, &str)>) -> Result<Output> {
    // What building may have to fetch is fetched past that proxy.
    filter::ensure()?;
    let docker = TempDir::new()?;
    if let Some((registry, auth)) = login {
        let config = format!(
            r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
            registry.address
        );
        fs::write(docker.path().join("config.json"), config)?;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_image"))
        .args(arguments)
        .env("DOCKER_CONFIG", docker.path())
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .env("RUST_BACKTRACE", "0")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.find("Error: ").and_then(|start| said.get(start..));
    ensure!(output.status.success(), "{}", error.unwrap_or(&said));
    Ok(output)
}

/// The module in an image that a registry has, found by Istio's rules (`pkg/wasm/imagefetcher.go`).
fn as_istio_reads_it(registry: &Registry, repository: &str, digest: &str) -> Result<Vec<u8>> {
    let manifest: Value = serde_json::from_slice(&registry.manifest(repository, digest)?)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    let blob = |layer: &Value| registry.blob(repository, layer["digest"].as_str().unwrap_or(""));
    let last = layers.last().context("no layer")?;
    if last["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip" {
        let archive = blob(last)?;
        let mut archive = tar::Archive::new(GzDecoder::new(archive.as_slice()));
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.path()?.as_os_str() == "plugin.wasm" {
                let mut module = Vec::new();
                entry.read_to_end(&mut module)?;
                return Ok(module);
            }
        }
    }
    ensure!(layers.len() == 2, "{} layers", layers.len());
    let wasm = "application/vnd.module.wasm.content.layer.v1+wasm";
    let module = layers.iter().find(|layer| layer["mediaType"] == wasm);
    blob(module.context("no layer with a module")?)
}

/// A registry of its own on loopback, with an empty store, until it is dropped.
struct Registry {
    process: Child,
    address: SocketAddr,
    authorization: Option<String>,
    _store: TempDir,
}

impl Registry {
    /// Anybody may push.
    fn open() -> Result<Self> {
        Self::start("", None)
    }

    /// Only who has [`AUTH`] may push or read.
    fn with_a_password() -> Result<Self> {
        let auth = "auth: {htpasswd: {realm: test, path: STORE/htpasswd}}\n";
        Self::start(auth, Some(format!("Authorization: Basic {AUTH}\r\n")))
    }

    fn start(auth: &str, authorization: Option<String>) -> Result<Self> {
        let store = TempDir::new()?;
        let config = "version: 0.1\n\
            log: {accesslog: {disabled: true}, level: info}\n\
            storage: {filesystem: {rootdirectory: STORE}}\n\
            http: {addr: '127.0.0.1:0'}\n";
        let path = store.path().display().to_string();
        let file = store.path().join("config.yml");
        fs::write(&file, format!("{config}{auth}").replace("STORE", &path))?;
        fs::write(store.path().join("htpasswd"), HTPASSWD)?;
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("install docker-registry")?;
        let log = process.stderr.take().context("no log")?;
        let (found, listening) = mpsc::channel();
        // To the end, or the registry would one day wait for somebody to read.
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = found.send(line);
            }
        });
        let mut registry = Self {
            process,
            address: SocketAddr::from(([0; 4], 0)),
            authorization,
            _store: store,
        };
        loop {
            let line = listening
                .recv_timeout(DEADLINE)
                .context("docker-registry does not come up")?;
            if let Some((_, address)) = line.split_once("listening on ") {
                let address = address.split('"').next().context("no address")?;
                registry.address = address.parse().context(line)?;
                return Ok(registry);
            }
        }
    }

    /// The manifest of a tag or a digest.
    fn manifest(&self, repository: &str, name: &str) -> Result<Vec<u8>> {
        self.get(&format!("/v2/{repository}/manifests/{name}"), name)
    }

    fn blob(&self, repository: &str, digest: &str) -> Result<Vec<u8>> {
        self.get(&format!("/v2/{repository}/blobs/{digest}"), digest)
    }

    /// Asked for by hand and not by the client that pushed. What has a digest is checked against it.
    fn get(&self, path: &str, name: &str) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        // Of HTTP/1.0, which has the end of the connection for the end of the answer.
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nAccept: application/vnd.oci.image.manifest.v1+json, */*\r\n{}\r\n",
            self.authorization.as_deref().unwrap_or_default()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = answer.split_off(head.context("no answer")? + 4);
        let head = String::from_utf8_lossy(&answer);
        ensure!(head.contains(" 200 OK\r\n"), "{path}: {head}");
        if let Some(digest) = name.strip_prefix("sha256:") {
            ensure!(filter::sha256(&body) == digest, "{path} has other bytes");
        }
        Ok(body)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Takes every push, and answers with a manifest of its own, as no real registry does at will.
fn changing_registry() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away early is the client's business: the test sees what it says.
            let _ = take_anything(stream);
        }
    });
    Ok(address)
}

fn take_anything(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines();
    let request = lines.next().context("nothing was asked")??;
    let mut length = 0;
    for header in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    let (status, body) = match request.split(' ').next() {
        Some("POST") => ("202 Accepted", ""),
        Some("PUT") => ("201 Created", ""),
        _ if request.contains("/manifests/") => ("200 OK", r#"{"schemaVersion": 2}"#),
        _ => ("200 OK", ""),
    };
    write!(
        reader.into_inner(),
        "HTTP/1.1 {status}\r\nLocation: /somewhere\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}
