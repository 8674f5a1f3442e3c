//! `penstock doctor`: what on this host will hurt, why, and what to do about it.
//!
//! ```text
//!  folder, admin port, API server ─ pools.rs ─→ Known ─┐
//!  /proc, /sys, limits, both clocks ─ host.rs ─→ Host ─┴─ examine.rs ─→ Findings ─→ text or JSON
//! ```

mod examine;
mod finding;
mod host;
mod pools;

use std::path::Path;

use finding::Findings;
use host::Host;

use crate::args::{Doctor, Output};

/// Looks, and tells: what is fine, too, so that it is seen that it was looked at.
pub(super) async fn doctor(args: &Doctor) -> Result<String, String> {
    let known = pools::known(args).await.map_err(|error| error.to_string())?;
    let host = Host::of_this_machine(Path::new("/"), &known.ranges()).await;
    let host = host.map_err(|error| format!("/proc: {error}"))?;
    let findings = Findings(examine::examine(&host, &known));
    let said = match args.output {
        Output::Text => findings.to_string(),
        Output::Json => findings.json().to_string(),
    };
    if findings.are_well() { Ok(said) } else { Err(said) }
}

#[cfg(test)]
mod tests;
