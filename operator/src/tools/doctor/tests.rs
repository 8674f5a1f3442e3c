//! Judgements of small hosts. Each `cases/*.txt` is a host's files, one after the other under `== PATH`, its pools as YAML under
//! `== pools`, who has which socket open under `== opened by`, and what no file says under `== facts`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use worker::scan::Protocol;

use super::{
    super::golden,
    examine::examine,
    finding::Findings,
    host::{Clock, Files, Host, Limits, scan},
    pools::Known,
};

/// A folder that goes with the test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("penstock-doctor-{}-{name}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.0.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn judge(name: &str, text: &str) -> Findings {
    let root = Root::new(name);
    // Every kernel has these, and nobody has a socket where the case does not say so.
    for table in ["tcp", "udp"] {
        root.write(&format!("proc/net/{table}"), "");
    }
    let (mut known, mut facts) = (Known::default(), BTreeMap::new());
    for section in text.split("\n== ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap();
        match title.trim() {
            "pools" => {
                let pools: Vec<Value> = serde_saphyr::from_multiple(body).unwrap();
                known = Known::of(&pools);
            }
            "facts" => {
                facts = body.lines().filter_map(|line| line.split_once(": ")).collect();
            }
            "opened by" => {
                // PID NAME INODE: a process has the socket of this inode open.
                for line in body.lines() {
                    let [pid, name, inode] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
                    root.write(&format!("proc/{pid}/comm"), &format!("{name}\n"));
                    fs::create_dir_all(root.0.join(format!("proc/{pid}/fd"))).unwrap();
                    let descriptor = root.0.join(format!("proc/{pid}/fd/3"));
                    std::os::unix::fs::symlink(format!("socket:[{inode}]"), descriptor).unwrap();
                }
            }
            file => root.write(file, body),
        }
    }
    let number = |key: &str| facts.get(key).and_then(|text| text.parse::<u64>().ok());
    known.is_cluster = facts.get("cluster") == Some(&"yes");
    known.unknown = facts.get("unknown").map(|why| (*why).to_owned());
    known.bound = number("bound over TCP")
        .map(|port| (u16::try_from(port).unwrap(), Protocol::Tcp))
        .into_iter()
        .collect();
    let host = Host {
        scan: scan(&root.0, &known.ranges()).unwrap(),
        files: Files::read(&root.0),
        limits: Limits { open_files: number("open files"), threads: number("threads"), cores: 2 },
        clock: Clock {
            is_synchronised: facts.get("synchronised").map(|text| *text == "yes"),
            moved: Duration::from_millis(number("clock moved").unwrap_or_default()),
        },
    };
    Findings(examine(&host, &known))
}

#[test]
fn each_host_is_judged_as_it_is_written() {
    golden::compare("doctor/cases", "txt", |path, text| {
        let found = judge(path.file_stem().unwrap().to_str().unwrap(), text);
        assert_eq!(found.json()["well"], found.are_well());
        found.to_string()
    });
}

#[tokio::test]
async fn this_machine_is_looked_at() {
    let host = Host::of_this_machine(Path::new("/"), &[]).await.unwrap();
    assert!(host.scan.host.ephemeral.is_some() && host.scan.holders.is_empty());
    assert!(host.limits.cores > 0);
    assert!(host.clock.moved < Duration::from_secs(3600), "{:?}", host.clock);
}
