//! `cargo xtask coverage`: how much of the parsers of network bytes the replayed fuzz corpus reaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::tools::{cargo_path, succeed};

/// Of the regions of the parsers, together.
const BOUND_PERCENT: f64 = 85.0;
/// What reads bytes that a stranger sent. Matched against the path below `worker/media/src`.
const PARSERS: &[&str] = &[
    "rtmp/handshake.rs",
    "rtmp/chunk.rs",
    "rtmp/amf0.rs",
    "rtmp/command.rs",
    "rtmp/request.rs",
    "rtmp/session.rs",
    "flv/",
    "http.rs",
    "rtp.rs",
    "rtp/",
    "ps.rs",
    "ps/",
    "h26x.rs",
    "h26x/",
];
/// Below those, but it writes.
const WRITERS: &[&str] = &["ps/mux.rs"];

pub(crate) fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = target.join("coverage");
    let profiles = folder.join("profiles");
    // Profiles of former runs would be added up.
    let _ = fs::remove_dir_all(&profiles);
    fs::create_dir_all(&profiles).map_err(|e| format!("{}: {e}", profiles.display()))?;
    let mut test = Command::new(cargo_path());
    test.current_dir(&root).args(["test", "--quiet", "--package", "media", "--test", "corpus"]);
    test.env("RUSTFLAGS", "-Cinstrument-coverage").env("CARGO_TARGET_DIR", &folder);
    test.env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
    succeed(&mut test)?;
    let merged = folder.join("corpus.profdata");
    let mut merge = llvm("llvm-profdata")?;
    merge.args(["merge", "--sparse", "--output"]).arg(&merged).arg(&profiles);
    succeed(&mut merge)?;
    let mut export = llvm("llvm-cov")?;
    export.args(["export", "--summary-only", "--instr-profile"]).arg(&merged).arg(newest_test(&folder)?);
    let json: Value = serde_json::from_str(&succeed(&mut export)?).map_err(|e| format!("llvm-cov: {e}"))?;
    report(&json)
}

fn report(json: &Value) -> Result<(), String> {
    let (mut all, mut reached) = (0, 0);
    println!("| parser | regions | reached |\n|---|---|---|");
    for file in json["data"][0]["files"].as_array().into_iter().flatten() {
        let path = file["filename"].as_str().unwrap_or("");
        let Some((_, name)) = path.split_once("worker/media/src/") else { continue };
        let parses = |parser: &str| name == parser || parser.ends_with('/') && name.starts_with(parser);
        if WRITERS.contains(&name) || !PARSERS.iter().any(|parser| parses(parser)) {
            continue;
        }
        let regions = &file["summary"]["regions"];
        let (count, covered) =
            (regions["count"].as_u64().unwrap_or(0), regions["covered"].as_u64().unwrap_or(0));
        all += count;
        reached += covered;
        println!("| {name} | {count} | {:.1} % |", percent(covered, count));
    }
    let whole = percent(reached, all);
    println!("| all | {all} | {whole:.1} % |");
    if all == 0 {
        Err("no parser is in the coverage report".to_owned())
    } else if whole < BOUND_PERCENT {
        Err(format!(
            "the corpus reaches {whole:.1} % of the parsers' regions; {BOUND_PERCENT} % are asked for"
        ))
    } else {
        Ok(())
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A tool of the toolchain's component llvm-tools, which is added if it is not there.
fn llvm(tool: &str) -> Result<Command, String> {
    let sysroot = succeed(Command::new("rustc").args(["--print", "sysroot"]))?;
    let version = succeed(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    let path = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin").join(tool);
    if !path.exists() {
        succeed(Command::new("rustup").args(["component", "add", "llvm-tools"]))?;
    }
    Ok(Command::new(path))
}

fn newest_test(folder: &Path) -> Result<PathBuf, String> {
    let deps = folder.join("debug/deps");
    let entries = fs::read_dir(&deps).map_err(|e| format!("{}: {e}", deps.display()))?;
    let tests = entries.flatten().map(|entry| entry.path()).filter(|path| {
        path.extension().is_none()
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("corpus-"))
    });
    let newest = tests.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest.ok_or_else(|| format!("no test binary in {}", deps.display()))
}
