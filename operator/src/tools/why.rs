//! `penstock why`: why a stream is not playing, in a sentence, and what to do about it.
//!
//! ```text
//!  admin port ─┐
//!              ├─ gather.rs ─→ Pages ─ facts.rs ─→ Facts ─ answer.rs, words.rs ─→ Answer ─→ text or JSON
//!  API server ─┘   (I/O)                        (pure)
//! ```

mod answer;
mod facts;
mod gather;
mod near;
mod url;
mod words;

use facts::Facts;

use super::source::Source;
use crate::args::{Output, Why};

/// Asks who knows, and explains.
pub(super) async fn why(args: &Why) -> Result<String, String> {
    let source = Source::find(&args.whom, "/streams").await.map_err(|error| error.to_string())?;
    let pages = match source {
        Source::Admin(admin) => gather::standalone(admin, &args.stream).await,
        Source::Cluster(cluster) => gather::cluster(&cluster, &args.stream, &args.whom.lease).await,
    };
    let pages = pages.map_err(|error| error.to_string())?;
    let answer = answer::explain(&Facts::from_pages(&args.stream, args.url.as_deref(), &pages));
    let said = match args.output {
        Output::Text => answer.to_string(),
        Output::Json => answer.json().to_string(),
    };
    if answer.plays() { Ok(said) } else { Err(said) }
}

#[cfg(test)]
mod tests;
