//! The cluster's programs: Kubernetes, etcd, Helm and CoreDNS, built from Go modules at the versions of `tests/cluster/go.mod`.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use super::path;
use crate::cache;
use crate::tools::{find, need, succeed};

/// Program and package. A path is that of a module of its own where it has a go.mod: CoreDNS is made for other versions of Kubernetes'
/// libraries.
const PROGRAMS: [(&str, &str); 10] = [
    ("pause", "./pause"),
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("helm", "helm.sh/helm/v3/cmd/helm"),
    ("coredns", "./coredns"),
];

/// The same tags for all, so that packages compile once.
const TAGS: &str = "selinux,notest,grpcnotrace";
/// Both packages must know the version: an empty one builds, and breaks later.
const VERSION_PACKAGES: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
/// Fetched where no Go is installed. It is the module that Go itself would fetch.
const GO: &str = "go1.26.8";
const GO_SHA256: &str = "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7";

/// Takes URL, folder to work in, SHA-256, name of the module's version, and where the toolchain is to be.
const FETCH: &str = "
import hashlib, io, os, sys, urllib.request, zipfile
url, work, sha256, version, to = sys.argv[1:]
data = urllib.request.urlopen(url).read()
if sha256 and hashlib.sha256(data).hexdigest() != sha256: sys.exit('its checksum is another one')
zipfile.ZipFile(io.BytesIO(data)).extractall(work)
root = os.path.join(work, 'golang.org', 'toolchain@' + version)
for folder in ('bin', 'pkg/tool'):
    for at, _, files in os.walk(os.path.join(root, folder)):
        for file in files: os.chmod(os.path.join(at, file), 0o755)
os.rename(root, to)
";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Builds what is missing; from empty caches that takes 13 minutes of two cores.
    pub fn build() -> Result<Programs, String> {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        let flags = flags(&module)?;
        let bin = cache::folder(&format!("cluster/bin-{:016x}", fingerprint(&module, &flags)?));
        let missing = PROGRAMS.into_iter().filter(|(program, _)| !bin.join(program).exists());
        let (own, of_module): (Vec<_>, Vec<_>) =
            missing.partition(|(_, package)| module.join(package).join("go.mod").exists());
        // Together: while one is linked, which one core does, others are compiled.
        if !of_module.is_empty() {
            build(&bin, &module, &flags, &of_module)?;
        }
        for (program, package) in own {
            build(&bin, &module.join(package), &flags, &[(program, ".")])?;
        }
        Ok(Programs(bin))
    }

    /// The full path of one.
    pub fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

/// Builds programs of one module.
fn build(bin: &Path, module: &Path, flags: &str, programs: &[(&str, &str)]) -> Result<(), String> {
    let begun = Instant::now();
    let names = programs.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
    eprintln!("building {names}");
    let unfinished = bin.join("unfinished");
    fs::create_dir_all(&unfinished).map_err(|e| format!("{}: {e}", unfinished.display()))?;
    let mut go = Command::new(go()?);
    go.current_dir(module).args(["build", "-tags", TAGS, "-ldflags", flags, "-o"]).arg(&unfinished);
    go.args(programs.iter().map(|(_, package)| package));
    go.env("GOCACHE", cache::folder("cluster/go-build")).env("GOMODCACHE", cache::folder("cluster/go-mod"));
    go.env("CGO_ENABLED", "0").env("GOFLAGS", "-trimpath -buildvcs=false").env("PATH", path());
    succeed(&mut go)?;
    for (program, _) in programs {
        let (from, to) = (unfinished.join(made(program)), bin.join(program));
        fs::rename(&from, &to).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))?;
    }
    // Nothing is left in it.
    let _ = fs::remove_dir(&unfinished);
    eprintln!("built {names} in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// What Go calls a program: the last element of its package's path that is no version.
fn made(program: &str) -> &str {
    if program == "etcd" { "server" } else { program }
}

fn flags(module: &Path) -> Result<String, String> {
    let text = read(&module.join("go.mod"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version =
        line.and_then(|rest| rest.split_whitespace().next()).ok_or("go.mod requires no k8s.io/kubernetes")?;
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut flags = String::from("-s -w");
    for package in VERSION_PACKAGES {
        for (name, value) in [
            ("gitVersion", format!("v{version}").as_str()),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("gitCommit", "unknown"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

/// Changes with all that goes into the programs.
fn fingerprint(module: &Path, flags: &str) -> Result<u64, String> {
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum", "pause/main.go", "coredns/main.go", "coredns/go.mod", "coredns/go.sum"] {
        hasher.write(read(&module.join(file))?.as_bytes());
    }
    hasher.write(flags.as_bytes());
    Ok(hasher.finish())
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}

/// The Go to build with: an installed one that can fetch the version that go.mod asks for, else that version itself.
fn go() -> Result<PathBuf, String> {
    let installed =
        find("go").or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.exists()));
    match installed {
        Some(go) if fetches_toolchains(&go) => Ok(go),
        Some(_) | None => fetch_go(),
    }
}

/// Go fetches the toolchain that a module asks for since 1.21.
fn fetches_toolchains(go: &Path) -> bool {
    let version = succeed(Command::new(go).args(["env", "GOVERSION"]).current_dir("/"));
    let minor = version
        .ok()
        .and_then(|version| version.trim().strip_prefix("go1.")?.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 21)
}

fn fetch_go() -> Result<PathBuf, String> {
    let folder = cache::folder("cluster").join(GO);
    let go = folder.join("bin/go");
    if go.exists() {
        return Ok(go);
    }
    let module =
        format!("v0.0.1-{GO}.linux-{}", if env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" });
    let url = format!("https://proxy.golang.org/golang.org/toolchain/@v/{module}.zip");
    eprintln!("fetching {url}");
    let work = cache::folder(&format!("cluster/unfinished-{GO}"));
    let sha256 = if env::consts::ARCH == "x86_64" { GO_SHA256 } else { "" };
    let mut python = Command::new(need("python3"));
    succeed(python.args(["-c", FETCH, &url]).arg(&work).args([sha256, &module]).arg(&folder))?;
    // Nothing of use is left in it.
    let _ = fs::remove_dir_all(&work);
    Ok(go)
}
