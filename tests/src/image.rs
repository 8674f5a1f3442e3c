//! Container images of one program, made without a container engine.

pub mod penstock;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::tools::{need, succeed};

/// An archive as `docker save` writes it, which containerd imports and `docker load` takes.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    archive: PathBuf,
}

impl Image {
    /// An image `name` (`localhost/NAME:TAG`) that holds one static program, which is its entry point and runs as `user`, and a
    /// folder /tmp. The archive is made in `folder`, unless it is there and not older than the program.
    pub fn of_program(folder: &Path, name: &str, program: &Path, user: &str) -> Result<Image, String> {
        let work = folder.join(name.replace(['/', ':'], "-"));
        let archive = work.with_added_extension("tar");
        let image = Image { name: name.to_owned(), archive };
        if modified(&image.archive).is_some_and(|made| modified(program).is_some_and(|new| new <= made)) {
            return Ok(image);
        }
        let root = work.join("root");
        let file = program.file_name().and_then(|file| file.to_str()).ok_or("a program has a name")?;
        let put = || {
            fs::create_dir_all(root.join("tmp"))?;
            // For any user, as everywhere.
            fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
            fs::copy(program, root.join(file))
        };
        put().map_err(|e| format!("{}: {e}", root.display()))?;
        let layer = work.join("layer.tar");
        tar(&root, &layer, &["."])?;
        let digest = succeed(Command::new(need("sha256sum")).arg(&layer))?;
        let digest = digest.split_whitespace().next().unwrap_or_default();
        let config = json!({
            "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": [format!("/{file}")], "User": user},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        write(&work.join("config.json"), &config.to_string())?;
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        write(&work.join("manifest.json"), &manifest.to_string())?;
        // Nodes that boot at once make the same; the last rename wins.
        let unfinished = work.with_added_extension(format!("{:?}", std::thread::current().id()));
        tar(&work, &unfinished, &["manifest.json", "config.json", "layer.tar"])?;
        fs::rename(&unfinished, &image.archive).map_err(|e| format!("{}: {e}", image.archive.display()))?;
        Ok(image)
    }

    /// As pods name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    /// What it takes on a node, to a few KiB.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.archive).map_or(0, |archive| archive.len())
    }
}

fn tar(folder: &Path, to: &Path, what: &[&str]) -> Result<(), String> {
    let mut tar = Command::new(need("tar"));
    tar.arg("--create").arg("--file").arg(to).arg("--directory").arg(folder);
    tar.args(["--owner=0", "--group=0", "--mtime=@0", "--sort=name"]).args(what);
    succeed(&mut tar).map(drop)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}

fn modified(file: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(file).and_then(|file| file.modified()).ok()
}
