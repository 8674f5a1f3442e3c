//! `cargo xtask image`: the container image as an archive.

use tests::image::penstock;

use crate::setup;

/// Builds it and says where it is.
pub(crate) fn run() -> Result<bool, String> {
    setup::image()?;
    let image = penstock::build()?;
    let mib = image.bytes() as f64 / f64::from(1 << 20);
    println!("{}: {}, {mib:.1} MiB", image.archive().display(), image.name());
    Ok(true)
}
