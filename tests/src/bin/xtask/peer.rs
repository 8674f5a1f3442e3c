//! The crate `rtmp` as an interop peer: built apart from the workspace, run against the release binary.

use std::process::Command;

use tests::clips;
use tests::standalone::{Standalone, pushed};
use tests::tools::{cargo_path, root, succeed, target};

/// Long enough for a few GOPs; the peer sends it faster than real time.
const SECONDS: u32 = 20;

/// Builds the peer, lets it push a clip and play it, and leaves the comparison to it.
pub(crate) fn run() -> Result<(), String> {
    // A target folder of its own: its lock names other versions, and neither build is to wait for the other's files.
    let target = target().join("rtmp-peer");
    let mut build = Command::new(cargo_path());
    build.current_dir(root().join("tests/rtmp-peer")).args(["build", "--quiet", "--locked"]);
    build.env("CARGO_TARGET_DIR", &target);
    // Its vendored OpenSSL, which nothing here calls, takes minutes to compile.
    if succeed(Command::new("pkg-config").args(["--exists", "openssl"])).is_ok() {
        build.env("OPENSSL_NO_VENDOR", "1");
    }
    let built = build.status().map_err(|e| format!("{build:?}: {e}"))?;
    if !built.success() {
        return Err(format!("{build:?}: {built}"));
    }
    let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    let clip = standalone.folder.file("clip.flv");
    clips::as_flv(clips::h264_aac(SECONDS), &clip);
    let mut peer = Command::new(target.join("debug/rtmp-peer"));
    peer.args([&standalone.rtmp.to_string(), "live", "cam"]).arg(&clip);
    let ended = peer.status().map_err(|e| format!("{peer:?}: {e}"))?;
    match ended.success() {
        true => Ok(()),
        false => Err(format!("{peer:?}: {ended}; penstock wrote:\n{}", standalone.log())),
    }
}
