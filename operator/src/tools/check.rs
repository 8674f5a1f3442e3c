//! `penstock check`: whether an installation on a cluster does its job, as `helm test` asks.

use std::{collections::BTreeSet, fmt::Write as _, net::SocketAddr, time::Duration};

use axum::http::StatusCode;
use tokio::{net::lookup_host, time::timeout};

use crate::{args::Check, page};

/// Each question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks each replica that the name leads to, and tells what it says.
pub(crate) async fn check(args: &Check) -> Result<String, String> {
    let found = timeout(PATIENCE, lookup_host(args.operator.as_str())).await;
    let found = found.map_err(|_| format!("{}: no answer to the name in {PATIENCE:?}", args.operator))?;
    let replicas: BTreeSet<SocketAddr> =
        found.map_err(|error| format!("{}: {error}", args.operator))?.collect();
    let (mut told, mut well) = (String::new(), !replicas.is_empty());
    for replica in replicas {
        let said = ask(replica).await;
        well &= matches!(said, Ok(heard) if heard >= args.workers);
        let line = match said {
            Ok(heard) => format!("ready, hears {heard} workers"),
            Err(error) => error,
        };
        let _ = writeln!(told, "{replica}: {line}");
    }
    if well {
        Ok(told)
    } else {
        let _ = write!(
            told,
            "not each replica is ready and hears at least {} workers: look at the pods of {}, and at what their logs say",
            args.workers, args.operator
        );
        Err(told)
    }
}

async fn ask(replica: SocketAddr) -> Result<usize, String> {
    let page = async |path| match timeout(PATIENCE, page::get(replica, path)).await {
        Ok(Ok((status, body))) => Ok((status, String::from_utf8_lossy(&body).trim().to_owned())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {PATIENCE:?}")),
    };
    let (status, text) = page("/readyz").await?;
    if status != StatusCode::OK {
        return Err(format!("not ready: {text}"));
    }
    let (_, heard) = page("/heard").await?;
    heard.parse().map_err(|_| format!("not an operator of this version: it hears {heard:?}"))
}

#[cfg(test)]
mod tests;
