//! What the mesh needs of the machine, said in one line where it is missing.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use xtask::tools::on_path;

/// Each program, and Debian's package that brings it.
const PROGRAMS: [(&str, &str); 7] = [
    ("etcd", "etcd-server"),
    ("docker-registry", "docker-registry"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("curl", "curl"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// Looks for root and for the programs that are not built here.
/// # Errors
/// One line that names all that is missing.
pub fn check() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "cargo mesh needs root: it makes network namespaces and starts each pod in one of its own"
    );
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!(
            "missing: {}; on Debian: apt-get install {}",
            missing.join(", "),
            missing.join(" ")
        );
    }
    Ok(())
}

/// Administration programs are not on everybody's PATH.
fn find(program: &str) -> Option<std::path::PathBuf> {
    on_path(program).or_else(|| {
        let path = Path::new("/usr/sbin").join(program);
        path.is_file().then_some(path)
    })
}
