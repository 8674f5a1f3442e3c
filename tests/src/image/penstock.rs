//! The image of the product: one static binary, built for musl beside the release binary.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{Image, modified};
use crate::tools::{cargo, find, need, root, succeed, target};

/// What Debian offers for it, as (program, packages): jemalloc and aws-lc are written in C.
pub const DEBIAN: &[(&str, &[&str])] = &[("musl-gcc", &["musl-tools"]), ("objcopy", &["binutils"])];

/// The most that it may take.
const BYTES_MAX: u64 = 25 << 20;

/// Bytes of a function's name that is kept.
const NAME_MAX: usize = 200;

/// Nobody: the user of images that hold nothing else.
const USER: &str = "65532:65532";

/// Builds the image, which takes 5 minutes of two cores the first time. The chart's values name it by default.
pub fn build() -> Result<Image, String> {
    let built = binary()?;
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    // Two tests that need it at once would else read what the other has half written.
    let lock = folder.join("lock");
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|e| format!("{}: {e}", folder.display()))?;
    let stripped = strip(&built, &folder)?;
    let name = format!("localhost/penstock:{}", env!("CARGO_PKG_VERSION"));
    let image = Image::of_program(&folder, &name, &stripped, USER)?;
    let bytes = image.bytes();
    if bytes > BYTES_MAX {
        return Err(format!("{} has {bytes} bytes; {BYTES_MAX} is the most", image.archive().display()));
    }
    Ok(image)
}

/// Where [`build`] leaves the program that is in the image.
pub fn program() -> PathBuf {
    folder().join("penstock")
}

fn folder() -> PathBuf {
    target().join("image")
}

/// The static binary, current.
fn binary() -> Result<PathBuf, String> {
    let triple = format!("{}-unknown-linux-musl", env::consts::ARCH);
    if find("musl-gcc").is_none() {
        return Err("musl-gcc is not installed; `cargo xtask setup` as root on Debian installs it".into());
    }
    add_target(&triple)?;
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "operator", "--target", &triple]);
    build.env(format!("CC_{}", triple.replace('-', "_")), "musl-gcc");
    let ended = build.status().map_err(|e| format!("{build:?}: {e}"))?;
    if !ended.success() {
        return Err(format!("{build:?} ended with {ended}"));
    }
    Ok(target().join(triple).join("release/penstock"))
}

/// Rust's own library for the target, which rustup fetches.
fn add_target(triple: &str) -> Result<(), String> {
    let mut asked = Command::new("rustc");
    asked.current_dir(root()).args(["--print", "target-libdir", "--target", triple]);
    if Path::new(succeed(&mut asked)?.trim()).is_dir() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    succeed(add.current_dir(root()).args(["target", "add", triple])).map(drop).map_err(|e| {
        format!(
            "the image needs Rust's library for {triple}, and rustup does not bring it; where the network has \
             static.rust-lang.org, run: rustup target add {triple}\n{e}"
        )
    })
}

/// Without debug information, which is 65 % of it; with the names of functions, which the watchdog's dump and a panic's report need.
fn strip(binary: &Path, folder: &Path) -> Result<PathBuf, String> {
    let stripped = program();
    if modified(&stripped) >= modified(binary) {
        return Ok(stripped);
    }
    let symbols = succeed(Command::new(need("nm")).arg("--defined-only").arg(binary))?;
    let functions: String = symbols.lines().filter_map(function).map(|name| format!("{name}\n")).collect();
    let kept = folder.join("functions");
    fs::write(&kept, functions).map_err(|e| format!("{}: {e}", kept.display()))?;
    let mut objcopy = Command::new(need("objcopy"));
    objcopy.arg("--strip-all").arg(format!("--keep-symbols={}", kept.display()));
    let whole = folder.join("penstock.whole");
    succeed(objcopy.arg(binary).arg(&whole))?;
    copy_in_pieces(&whole, &stripped).map_err(|e| format!("{}: {e}", stripped.display()))?;
    Ok(stripped)
}

/// A file that is written at once lies in the page cache in pieces of up to 2 MiB, and Linux (6.18, ext4) maps such a piece as a whole
/// for one page of it that is touched. How many MiB a process is resident by that is an accident of how its binary was written.
fn copy_in_pieces(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    let part = to.with_extension("part");
    let mut file = File::create(&part)?;
    bytes.chunks(PIECE).try_for_each(|piece| file.write_all(piece))?;
    file.set_permissions(fs::metadata(from)?.permissions())?;
    fs::remove_file(from)?;
    fs::rename(&part, to)
}

/// Bytes of a write.
const PIECE: usize = 16 * 1024;

/// The name in a line of nm, if it is that of a function and short enough to be read: some of generic code are 20 KB long.
fn function(line: &str) -> Option<&str> {
    let [_, kind, name] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    (["t", "T", "w", "W"].contains(&kind) && name.len() <= NAME_MAX).then_some(name)
}
