//! Istio and Kubernetes themselves, built from their Go modules at the versions that `go/*/go.mod` pins. `$ISTIO` takes
//! another Istio: a checkout that was built already.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use xtask::run::{alone, quietly};
use xtask::tools::on_path;
use xtask::{target_dir, workspace_root};

/// The Kubernetes whose API server this is; it must say so itself, or clients cannot read its version.
pub const KUBERNETES: &str = "v1.36.3";

/// Where Istio's own build leaves its programs, in a checkout.
const BUILT: &str = "out/linux_amd64";

/// What was built.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The programs.
    pub programs: Vec<PathBuf>,
    /// Folder of Istio's sources: CRDs and the proxy's bootstrap template.
    pub istio: PathBuf,
    /// The Envoy to run.
    pub envoy: PathBuf,
}

const ISTIO: [(&str, &str); 5] = [
    (
        "pilot-discovery",
        "istio.io/istio/pilot/cmd/pilot-discovery",
    ),
    ("pilot-agent", "istio.io/istio/pilot/cmd/pilot-agent"),
    ("istioctl", "istio.io/istio/istioctl/cmd/istioctl"),
    ("server", "istio.io/istio/pkg/test/echo/cmd/server"),
    ("client", "istio.io/istio/pkg/test/echo/cmd/client"),
];
const KUBE: [(&str, &str); 2] = [
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

/// Builds what is missing. Minutes where Go's cache is cold, seconds where it is warm.
/// # Errors
/// Go is missing or too old, a module cannot be had, or does not compile.
pub fn ensure_built() -> Result<Tools> {
    ensure!(
        on_path("go").is_some(),
        "go is missing: install Go 1.26 or later and put it on the PATH"
    );
    let bin = target_dir().join("tools").join("istio");
    let (istio, istio_bin) = match env::var_os("ISTIO").map(PathBuf::from) {
        Some(checkout) => (checkout.clone(), checkout.join(BUILT)),
        None => (pinned_istio(&bin)?, bin.clone()),
    };
    let version = KUBERNETES.trim_start_matches('v');
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let say = "-X k8s.io/component-base/version.git";
    build(
        &bin,
        "kube",
        "building kube-apiserver and kubectl (4 minutes with a cold cache)",
        &KUBE,
        &format!("-s -w {say}Version={KUBERNETES} {say}Major={major} {say}Minor={minor}"),
        "k8s.io/kubernetes",
    )?;
    let of_istio = ISTIO.iter().map(|(program, _)| istio_bin.join(program));
    let of_kube = KUBE.iter().map(|(program, _)| bin.join(program));
    let programs: Vec<PathBuf> = of_istio.chain(of_kube).collect();
    if let Some(missing) = programs.iter().find(|program| !program.is_file()) {
        bail!(
            "there is no {}; ISTIO must be a checkout of Istio with its programs in {BUILT}",
            missing.display()
        );
    }
    let envoy = xtask::tools::envoy()?;
    Ok(Tools {
        programs,
        istio,
        envoy,
    })
}

/// Builds the programs of the Istio that is pinned, and returns the folder of its sources.
fn pinned_istio(bin: &Path) -> Result<PathBuf> {
    build(
        bin,
        "istio",
        "building Istio's istiod, pilot-agent, istioctl and echo (4 minutes with a cold cache)",
        &ISTIO,
        "-s -w",
        "istio.io/istio",
    )
}

/// Builds `programs` of the module in `go/NAME`, where one is missing or go.mod is newer; returns the folder of the
/// sources of `module`.
fn build(
    bin: &Path,
    name: &str,
    what: &str,
    programs: &[(&str, &str)],
    ldflags: &str,
    module: &str,
) -> Result<PathBuf> {
    let dir = workspace_root().join("istio-test/go").join(name);
    let stamp = bin.join(format!("{name}.go.mod"));
    let pinned =
        fs::read(dir.join("go.mod")).with_context(|| format!("{} has no go.mod", dir.display()))?;
    alone(&bin.with_extension("lock"), || {
        let fresh = programs
            .iter()
            .all(|(program, _)| bin.join(program).is_file())
            && fs::read(&stamp).is_ok_and(|built| built == pinned);
        if !fresh {
            fs::create_dir_all(bin)?;
            let mut out = bin.as_os_str().to_owned();
            out.push("/");
            let mut build = go(&dir);
            build.args(["build", "-ldflags", ldflags, "-o"]).arg(out);
            quietly(what, build.args(programs.iter().map(|(_, path)| path)))?;
            fs::write(&stamp, &pinned)?;
        }
        Ok(())
    })?;
    // The programs may be there while Go's cache of modules is not.
    let wanted = format!("fetching the sources of {module}");
    quietly(&wanted, go(&dir).args(["mod", "download", module]))?;
    let listed = go(&dir)
        .args(["list", "-m", "-f", "{{.Dir}}", module])
        .output()
        .context("go list cannot be run")?;
    let source = PathBuf::from(String::from_utf8_lossy(&listed.stdout).trim());
    ensure!(
        source.is_dir(),
        "go list names no folder for {module}: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    Ok(source)
}

fn go(dir: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(dir)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false -mod=readonly");
    go
}
