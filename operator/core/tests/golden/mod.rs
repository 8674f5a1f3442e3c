//! Golden text: `UPDATE=1` rewrites it, and a person reads the difference.

use std::path::Path;

/// Compares `text` with the file; with `UPDATE=1` in the environment the file is written instead.
pub(crate) fn check(file: &Path, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(file).unwrap_or_default();
    if golden != text {
        let line = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
        panic!(
            "{} is not what the code says, first in line {}: run UPDATE=1 cargo test and read the difference\n--- now\n{text}",
            file.display(),
            line.unwrap_or_else(|| golden.lines().count().min(text.lines().count())) + 1
        );
    }
}
