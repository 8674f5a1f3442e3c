//! The shape of the repository: layers, headers, dead files, licences. What a reviewer should not have to look for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::tools::succeed;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout is there")
}

/// The files that git knows or would take, relative to the root.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = succeed(&mut git).expect("this is a git checkout");
    let files = listed.lines().filter(|line| line.ends_with(ending)).map(PathBuf::from);
    files.filter(|file| root().join(file).exists()).collect()
}

fn text(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The code of a file above its tests, without comments.
fn code(file: &Path) -> String {
    let text = text(file);
    let above_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    above_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn each_file_says_first_what_it_is_about() {
    let silent: Vec<String> = files(".rs")
        .iter()
        // The tests of a module, in a file of their own, are about that module.
        .filter(|file| !file.ends_with("tests.rs") && !text(file).starts_with("//! "))
        .map(|file| file.display().to_string())
        .collect();
    none("files that do not begin with `//! `", &silent);
}

/// Long files are no failure: this is what reviewers look at.
#[test]
fn long_files_are_told() {
    for file in files(".rs") {
        let lines = text(&file).lines().count();
        if lines > 450 {
            eprintln!("{lines} lines: {}", file.display());
        }
    }
}

#[test]
fn each_module_file_is_part_of_its_crate() {
    let mut dead = Vec::new();
    for file in files(".rs") {
        let parts: Vec<&str> = file.iter().map(|part| part.to_str().expect("names are UTF-8")).collect();
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a .rs file has a stem");
        let folder = file.parent().expect("a file is in a folder");
        let in_tests = parts.len() >= 2
            && ["tests", "benches", "examples", "bin", "targets"].contains(&parts[parts.len() - 2]);
        if ["lib", "main", "build", "mod"].contains(&stem) || in_tests {
            continue;
        }
        // The parent is the folder's own file, or the crate's root.
        let parents = [
            folder.with_extension("rs"),
            folder.join("lib.rs"),
            folder.join("main.rs"),
            folder.join("mod.rs"),
        ];
        let declared = parents.iter().filter(|parent| root().join(parent).exists()).any(|parent| {
            let text = text(parent);
            [format!("mod {stem};"), format!("mod {stem} {{"), format!("\"{stem}.rs\"")]
                .iter()
                .any(|words| text.contains(words))
        });
        if !declared {
            dead.push(file.display().to_string());
        }
    }
    none("files that no `mod` names", &dead);
}

/// Which of our crates a crate may depend on, as the picture in ARCHITECTURE.md has it.
const EDGES: &[(&str, &[&str])] = &[
    ("operator-core", &[]),
    ("media", &[]),
    ("proto", &[]),
    ("worker", &["media", "proto"]),
    ("operator", &["operator-core", "proto", "worker"]),
    ("tests", &["media"]),
];

/// What the pure crates may not depend on: I/O, runtimes, randomness.
const IMPURE: &[&str] =
    &["tokio", "hyper", "tonic", "axum", "socket2", "rustix", "libc", "mio", "rand", "getrandom", "reqwest"];

#[test]
fn crates_depend_only_on_what_stands_before_them() {
    let metadata = metadata(&["--no-deps"]);
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().expect("a list") {
        let name = package["name"].as_str().expect("a name");
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
            wrong.push(format!("{name} is not in the list of tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("a list") {
            let on = dependency["name"].as_str().expect("a name");
            // Development dependencies do not ship.
            if dependency["kind"] == "dev" {
                continue;
            }
            if EDGES.iter().any(|(ours, _)| *ours == on) && !allowed.contains(&on) {
                wrong.push(format!("{name} depends on {on}"));
            }
            if ["operator-core", "media"].contains(&name) && IMPURE.contains(&on) {
                wrong.push(format!("{name} is pure and depends on {on}"));
            }
        }
    }
    none("crates", &wrong);
}

#[test]
fn the_pure_crates_touch_no_socket_clock_file_or_thread() {
    let banned = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::env",
        "std::process",
        "tokio",
    ];
    let mut found = Vec::new();
    for file in files(".rs") {
        let pure = ["operator/core/src", "worker/media/src"].iter().any(|of| file.starts_with(of));
        // Tools that come with the crate are no part of it; a module of tests stands in its own file.
        if !pure || file.iter().any(|part| part == "bin" || part == "tests.rs" || part == "tests") {
            continue;
        }
        let code = code(&file);
        found.extend(
            banned
                .iter()
                .filter(|word| code.contains(**word))
                .map(|word| format!("{}: {word}", file.display())),
        );
    }
    none("I/O in pure code", &found);
}

#[test]
fn the_contract_and_the_core_meet_in_convert() {
    let mut found = Vec::new();
    for file in files(".rs").iter().filter(|file| file.starts_with("operator/src")) {
        // Sessions carry messages and events past each other and read neither's fields.
        let may = file.iter().any(|part| {
            ["convert", "convert.rs", "sessions.rs", "tests.rs"].iter().any(|name| part == *name)
        });
        let code = code(file);
        if !may && code.contains("proto::") && code.contains("operator_core::") {
            found.push(format!("{}: both proto and operator_core", file.display()));
        }
        if file.ends_with("sessions.rs") && code.contains("State") {
            found.push(format!("{}: the planner's State", file.display()));
        }
    }
    none("layers of operator", &found);
}

#[test]
fn each_scenario_has_its_golden_text() {
    let names = |ending: &str| -> BTreeSet<PathBuf> {
        let of = files(ending).into_iter().filter(|file| file.starts_with("operator/core/tests/scenarios"));
        of.map(|file| file.with_extension("")).collect()
    };
    assert_eq!(names(".txt"), names(".out"));
}

#[test]
fn one_crypto_library_is_in_the_product() {
    let names = shipped();
    assert!(names.contains("aws-lc-rs"), "no aws-lc-rs in the product");
    let others =
        ["ring", "openssl", "openssl-sys", "native-tls", "mbedtls", "sha1", "sha2", "blake3", "md-5"];
    let found: Vec<String> =
        others.iter().filter(|name| names.contains(**name)).map(|name| (*name).to_owned()).collect();
    none("crypto beside aws-lc-rs", &found);
}

#[test]
fn licences_and_bans_of_deny_toml_hold() {
    let deny = text(Path::new("deny.toml"));
    let allowed: BTreeSet<String> = quoted(section(&deny, "allow = ["));
    let banned: BTreeSet<String> = quoted(section(&deny, "\ndeny = ["));
    assert!(allowed.contains("Apache-2.0") && banned.contains("ring"), "deny.toml is read as it is written");
    let shipped = shipped();
    let mut wrong = Vec::new();
    for package in metadata(&[])["packages"].as_array().expect("a list") {
        let name = package["name"].as_str().expect("a name");
        if !shipped.contains(name) {
            continue;
        }
        if banned.contains(name) {
            wrong.push(format!("{name} is banned"));
        }
        let license = package["license"].as_str().unwrap_or("");
        if !satisfied(license, &allowed) {
            wrong.push(format!("{name}: licence {license:?}"));
        }
    }
    none("packages", &wrong);
}

/// An SPDX expression without parentheses across operators, as crates write them: each AND part needs one OR part.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|one| allowed.contains(one.trim())))
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for (expression, holds) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0", false),
        ("ISC AND (MIT OR X)", true),
        ("ISC AND X", false),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), holds, "{expression}");
    }
}

/// What follows `from`, to the first line that closes the list.
fn section<'a>(text: &'a str, from: &str) -> &'a str {
    let behind = text.split_once(from).map_or("", |(_, behind)| behind);
    behind.split("\n]").next().unwrap_or("")
}

fn quoted(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The names of all packages that are linked into the product. cargo's metadata would name those of weak features too (`ring?/std`
/// of rustls-webpki), which nothing compiles.
fn shipped() -> BTreeSet<String> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--package", "operator", "--edges", "normal", "--prefix", "none"]);
    let tree = succeed(tree.args(["--format", "{p}"])).expect("cargo tree");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn metadata(more: &[&str]) -> Value {
    let mut command = cargo();
    command
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .args(more);
    let json = succeed(&mut command).expect("cargo metadata");
    serde_json::from_str(&json).expect("cargo writes JSON")
}

fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root());
    command
}
