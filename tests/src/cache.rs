//! The cache folder: downloaded tools and made clips. It is outside of the checkout; `PENSTOCK_CACHE` moves it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

/// A folder of the cache, made if it is not there.
pub fn folder(name: &str) -> PathBuf {
    let base = env::var_os("PENSTOCK_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_else(env::temp_dir);
        home.join(".cache/penstock")
    });
    let folder = base.join(name);
    fs::create_dir_all(&folder).unwrap_or_else(|e| {
        panic!("cannot make the cache folder {}: {e}; set PENSTOCK_CACHE", folder.display())
    });
    folder
}

/// The file `name` in the folder `within`; `make` writes it, under another name first, if it is not there.
///
/// Two tests that make it at once both succeed: the last rename wins, and both wrote the same.
pub fn file<E: From<io::Error>>(
    within: &str,
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = folder(within).join(name);
    if !path.exists() {
        // The ending is kept: ffmpeg chooses a container by it.
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let unfinished = folder(within).join(format!("unfinished-{}-{nth}-{name}", process::id()));
        make(&unfinished)?;
        fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}
