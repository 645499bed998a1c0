//! Registries that do not simply hand out the module: without TLS, with a certificate that nobody knows, with a password.

use std::fs;
use std::process::Stdio;

use anyhow::Result;
use envoy_test::wait::until_some;
use istio_test::federation::plugin_config;
use istio_test::fixture::federated;
use istio_test::layout::CLIENT;
use istio_test::mesh::Mesh;
use istio_test::{Cluster, net, pod};
use serde_json::Value;
use tokio::process::Child;

use crate::plugin::{Log, apply, manifest};
use crate::registry::ALLOWED;

/// The registry of the mesh under a name: pilot-agent speaks plain text with a private address without being told to.
const PLAIN: &str = "registry.test:5000";
const TLS: &str = "registry.test:5443";
const WITH_PASSWORD: &str = "registry.test:5001";
/// User `puller`, password `geheim`.
const PASSWORDS: &str = "puller:$2b$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";

/// Another door to what is in the registry of the mesh, until it is dropped.
struct Door(#[expect(dead_code, reason = "it ends when this is dropped")] Child);

impl Door {
    /// `settings` are of the section `http` of the registry's configuration, `more` is a section of its own.
    async fn open(mesh: &Mesh, host: &str, settings: &str, more: &str) -> Result<Door> {
        let dir = mesh.layout.dir().join("registry");
        let (_, port) = host.split_once(':').unwrap_or_default();
        let config = dir.join(format!("{port}.yml"));
        let data = dir.join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: \"10.77.0.1:{port}\"\n{settings}{more}",
            data.display()
        );
        fs::write(&config, text)?;
        let lab = mesh.layout.lab();
        let addr = format!("10.77.0.1:{port}").parse()?;
        until_some("nobody has the registry's port", async || {
            net::connect(&lab, addr).await.is_err().then_some(())
        })
        .await?;
        let mut registry = net::command(&lab, "docker-registry");
        registry.arg("serve").arg(&config);
        registry.stdout(Stdio::null()).stderr(Stdio::null());
        let door = Door(registry.kill_on_drop(true).spawn()?);
        until_some("the registry takes connections", async || {
            net::connect(&lab, addr).await.ok()
        })
        .await?;
        Ok(door)
    }
}

/// The manifest with the image of another registry.
fn at(folder: &std::path::Path, host: &str) -> Result<Value> {
    manifest(folder, &plugin_config(1), |spec| {
        spec["url"] = format!("oci://{host}/peer-spillover:0.1.0").into();
    })
}

async fn runs(mesh: &Mesh) -> Result<()> {
    let configured = ["peer_spillover", "configured"];
    mesh.proxy(&CLIENT)
        .wait_sum(&configured, |running| running > 0)
        .await?;
    Ok(())
}

/// Plain text needs no setting. A certificate that the proxy's image does not know does.
#[tokio::test(flavor = "multi_thread")]
async fn without_tls_and_with_a_certificate_that_nobody_knows() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let log = Log::from_now(&mesh)?;
    apply(&mesh, &at(&folder, PLAIN)?).await?;
    log.wait(&["fetching image with plain text from", PLAIN])
        .await?;
    runs(&mesh).await?;

    let own = rcgen::generate_simple_self_signed(["registry.test".to_owned()])?;
    let dir = mesh.layout.dir().join("registry");
    let (cert, key) = (dir.join("tls.pem"), dir.join("tls.key"));
    fs::write(&cert, own.cert.pem())?;
    fs::write(&key, own.signing_key.serialize_pem())?;
    let tls = format!(
        "  tls: {{certificate: {}, key: {}}}\n",
        cert.display(),
        key.display()
    );
    let _door = Door::open(&mesh, TLS, &tls, "").await?;
    let log = Log::from_now(&mesh)?;
    apply(&mesh, &at(&folder, TLS)?).await?;
    log.wait(&[
        ALLOWED[0],
        "x509: certificate signed by unknown authority",
        ALLOWED[1],
    ])
    .await?;

    mesh.kill_proxy(&CLIENT).await?;
    let insecure = [("WASM_INSECURE_REGISTRIES", TLS)];
    pod::start_proxy_with(&mesh.layout, &CLIENT, &mesh.envoy(), "", &insecure)?;
    pod::wait_ready(&mesh.layout, &CLIENT).await?;
    runs(&mesh).await
}

/// The secret is istiod's to read, in the WasmPlugin's own namespace. The realm that the registry names must be a URL: Istio
/// refuses any other since 1.28.5 and 1.29.1, though it is no address where a password is sent as it is.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_password() -> Result<()> {
    let (mesh, folder) = federated().await?;
    let passwords = mesh.layout.dir().join("registry/htpasswd");
    fs::write(&passwords, PASSWORDS)?;
    let auth = |realm: &str| {
        let path = passwords.display();
        format!("auth: {{htpasswd: {{realm: \"{realm}\", path: {path}}}}}\n")
    };
    let realm = "https://registry.test";
    let door = Door::open(&mesh, WITH_PASSWORD, "", &auth(realm)).await?;
    for namespace in ["istio", "istio-system"] {
        no_secret(&mesh, namespace).await?;
    }
    let log = Log::from_now(&mesh)?;
    let mut plugin = at(&folder, WITH_PASSWORD)?;
    apply(&mesh, &plugin).await?;
    log.wait(&[ALLOWED[0], "UNAUTHORIZED", ALLOWED[1]]).await?;

    let log = Log::from_now(&mesh)?;
    secret(&mesh, "istio-system").await?;
    plugin["spec"]["imagePullSecret"] = "registry".into();
    apply(&mesh, &plugin).await?;
    log.wait(&[ALLOWED[0], "missing image pulling secret", ALLOWED[1]])
        .await?;

    // It comes by itself.
    secret(&mesh, "istio").await?;
    runs(&mesh).await?;

    drop(door);
    let _door = Door::open(&mesh, WITH_PASSWORD, "", &auth("modules")).await?;
    let log = Log::from_now(&mesh)?;
    mesh.restart_proxy(&CLIENT).await?;
    log.wait(&[ALLOWED[0], "rejected unsafe bearer realm", ALLOWED[1]])
        .await?;
    Ok(())
}

/// As the README says to make it.
async fn secret(mesh: &Mesh, namespace: &str) -> Result<()> {
    let server = format!("--docker-server={WITH_PASSWORD}");
    let make = [
        "create",
        "secret",
        "docker-registry",
        "registry",
        "-n",
        namespace,
        &server,
        "--docker-username=puller",
        "--docker-password=geheim",
    ];
    mesh.kube(Cluster::Home).kubectl(&make).await?;
    Ok(())
}

async fn no_secret(mesh: &Mesh, namespace: &str) -> Result<()> {
    let gone = [
        "delete",
        "secret",
        "registry",
        "-n",
        namespace,
        "--ignore-not-found",
    ];
    mesh.kube(Cluster::Home).kubectl(&gone).await?;
    Ok(())
}
