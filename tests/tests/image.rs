//! The container image: small, one static program, and it moves media with nothing but what a container is given.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::eventually::{ensure, eventually};
use tests::image::penstock;
use tests::player::Viewer;
use tests::ports::Block;
use tests::publisher::{self, Times};
use tests::running::{Folder, Running};
use tests::tools::{need, root, succeed};
use tests::{clips, http};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn it_is_one_static_program_with_symbols() {
    let image = penstock::build().expect("the image is built");
    let folder = Folder::new("image");
    let layer = layer(image.archive(), &folder);
    let files = succeed(Command::new(need("tar")).args(["--list", "--file"]).arg(&layer)).expect("tar lists");
    assert_eq!(files.lines().collect::<Vec<_>>(), ["./", "./penstock", "./tmp/"]);
    let mebibytes = image.bytes() >> 20;
    assert!(mebibytes < 25, "{mebibytes} MiB");

    let program = unpacked(&layer, &folder).join("penstock");
    let headers = succeed(Command::new(need("readelf")).args(["--wide", "--program-headers"]).arg(&program));
    assert!(!headers.expect("it is ELF").contains("INTERP"), "it asks for a dynamic loader");
    let symbols = succeed(Command::new(need("nm")).arg("--demangle").arg(&program)).expect("nm lists");
    for name in ["worker::watchdog::", "operator_core::plan::", "mallctl"] {
        assert!(symbols.contains(name), "no {name}");
    }
}

#[test]
fn it_plays_what_is_pushed_with_no_rights_and_no_file_to_write() {
    let image = penstock::build().expect("the image is built");
    let folder = Folder::new("image");
    let root = unpacked(&layer(image.archive(), &folder), &folder);
    let ports = Block::take(4);
    let address = |nth: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first() + nth));
    let (rtmp, http, admin) = (address(0), address(1), address(2));
    let mut arguments = vec!["/penstock".to_owned(), "standalone".into(), "/media".into()];
    for (flag, address) in [("rtmp", rtmp), ("http", http), ("admin", admin), ("health", address(3))] {
        arguments.push(format!("--{flag}={address}"));
    }
    arguments.push("--advertise=127.0.0.1".into());
    let container = Container::run(&folder, &root, &arguments);

    eventually("the stream of the examples", SOON, || {
        let page = http::get(admin, "/streams").map_err(|e| format!("{e}\n{}", container.output()))?;
        ensure(page.body.contains("rtmp://127.0.0.1"), || page.body.clone())
    });
    let metrics = http::get(admin, "/metrics").expect("the admin port answers").body;
    assert!(metrics.contains("penstock_"), "{metrics}");
    let mut publisher =
        publisher::ffmpeg(&folder, clips::h264_aac(10), Times::ForEver, &format!("rtmp://{rtmp}/live/cam-1"));
    let viewer = Viewer::waiting(http, "/live/cam-1.flv").join().expect("the viewer is let in");
    viewer.wait_pictures(25, SOON);
    publisher.kill();
}

/// The file in the archive that holds the image's files.
fn layer(archive: &Path, folder: &Folder) -> std::path::PathBuf {
    let mut tar = Command::new(need("tar"));
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder.path());
    succeed(&mut tar).expect("the archive is a tar");
    let manifest = fs::read_to_string(folder.file("manifest.json")).expect("it is a docker archive");
    let manifest: Value = serde_json::from_str(&manifest).expect("it is JSON");
    let config = fs::read_to_string(folder.file("config.json")).expect("it has a configuration");
    let config: Value = serde_json::from_str(&config).expect("it is JSON");
    assert_eq!(config["config"], json!({"Entrypoint": ["/penstock"], "User": "65532:65532"}));
    folder.file(manifest[0]["Layers"][0].as_str().expect("it has one layer"))
}

fn unpacked(layer: &Path, folder: &Folder) -> std::path::PathBuf {
    let root = folder.file("root");
    fs::create_dir(&root).expect("a new folder can be filled");
    let mut tar = Command::new(need("tar"));
    tar.arg("--extract").arg("--file").arg(layer).arg("--directory").arg(&root);
    succeed(&mut tar).expect("a layer is a tar");
    root
}

/// A container on the host's network, as `docker run --network=host --read-only --cap-drop=all` makes one.
struct Container {
    process: Running,
    state: String,
    name: String,
}

impl Container {
    fn run(folder: &Folder, files: &Path, arguments: &[String]) -> Container {
        let examples = root().join("manifests/examples").canonicalize().expect("the examples are there");
        let config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": files, "readonly": true},
            "process": {
                "args": arguments, "cwd": "/", "env": [], "noNewPrivileges": true,
                "user": {"uid": 65532, "gid": 65532},
                "capabilities": {"bounding": [], "effective": [], "permitted": []},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/media", "type": "bind", "source": examples, "options": ["rbind", "ro"]},
            ],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}]},
        });
        // Where a container's files are to be mounted, there must be something.
        for mounted in ["proc", "media"] {
            fs::create_dir(files.join(mounted)).expect("the root can be filled");
        }
        fs::write(folder.file("config.json"), config.to_string()).expect("a new folder can be filled");
        let name = format!("penstock-image-test-{}", std::process::id());
        let state = folder.file("runc").display().to_string();
        let mut runc = Command::new(need("runc"));
        runc.args(["--root", &state, "run", "--bundle"]).arg(folder.path()).arg(&name);
        let process = Running::start("the container", runc, folder.file("container.log"));
        Container { process, state, name }
    }

    fn output(&self) -> String {
        self.process.output()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its processes are no children of ours.
        let mut runc = Command::new(need("runc"));
        if let Err(error) = succeed(runc.args(["--root", &self.state, "delete", "--force", &self.name])) {
            eprintln!("the container is not gone: {error}");
        }
    }
}
