//! Container images of one program, made without a container engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Parts, write};
use crate::tools::{need, succeed};

/// An archive as `docker save` writes it, which containerd imports.
pub struct Image {
    name: String,
    archive: PathBuf,
}

impl Image {
    /// An image `name` (`localhost/NAME:TAG`) that holds one static program, which is its entry point.
    pub(super) fn of_program(parts: &Parts, name: &str, program: &Path) -> Result<Image, String> {
        let folder = parts.file("images").join(name.replace(['/', ':'], "-"));
        let archive = folder.with_extension("tar");
        if archive.exists() {
            return Ok(Image { name: name.to_owned(), archive });
        }
        let root = folder.join("root");
        let file = program.file_name().and_then(|file| file.to_str()).ok_or("a program has a name")?;
        let put = || {
            fs::create_dir_all(root.join("tmp"))?;
            fs::copy(program, root.join(file))
        };
        put().map_err(|e| format!("{}: {e}", root.display()))?;
        let layer = folder.join("layer.tar");
        tar(&root, &layer, &["."])?;
        let digest = succeed(Command::new(need("sha256sum")).arg(&layer))?;
        let digest = digest.split_whitespace().next().unwrap_or_default();
        let config = json!({
            "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": [format!("/{file}")]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        write(&folder.join("config.json"), &config.to_string())?;
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        write(&folder.join("manifest.json"), &manifest.to_string())?;
        // Nodes that boot at once make the same; the last rename wins.
        let unfinished = folder.with_extension(format!("{:?}", std::thread::current().id()));
        tar(&folder, &unfinished, &["manifest.json", "config.json", "layer.tar"])?;
        fs::rename(&unfinished, &archive).map_err(|e| format!("{}: {e}", archive.display()))?;
        Ok(Image { name: name.to_owned(), archive })
    }

    /// As pods name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn archive(&self) -> &Path {
        &self.archive
    }
}

fn tar(folder: &Path, to: &Path, what: &[&str]) -> Result<(), String> {
    let mut tar = Command::new(need("tar"));
    tar.arg("--create").arg("--file").arg(to).arg("--directory").arg(folder);
    tar.args(["--owner=0", "--group=0", "--mtime=@0", "--sort=name"]).args(what);
    succeed(&mut tar).map(drop)
}
