//! The certificate of the sessions. It is renewed under our feet (cert-manager, a new Secret): new dials get the new one, and sessions
//! that are open stay.

use std::{io, path::PathBuf, time::Duration};

use tokio::{net::TcpListener, time::sleep};
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::{limits, sessions::Sessions};

/// Where it is.
pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// Between two looks whether it was renewed.
    pub(super) look: Duration,
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
pub(super) struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("--{flag} {file}: {error}: mount the certificate that the chart makes there")]
    Read { flag: &'static str, file: String, error: io::Error },
    #[error("the certificate and its key don't make a TLS server: {0}")]
    Tls(#[from] tonic::transport::Error),
}

impl Certificate {
    /// Reads it, and sees whether it can be served with.
    pub(super) fn read(&self) -> Result<Pem, Unusable> {
        let read = |flag, path: &PathBuf| {
            let file = path.display().to_string();
            std::fs::read(path).map_err(|error| Unusable::Read { flag, file, error })
        };
        let pem = Pem { chain: read("tls-cert", &self.chain)?, key: read("tls-key", &self.key)? };
        Server::builder().tls_config(pem.tls())?;
        Ok(pem)
    }

    /// Waits until another one is there that can be served with.
    async fn renewed(&self, now: &Pem) -> Pem {
        let mut told = false;
        loop {
            sleep(self.look).await;
            match self.read() {
                Ok(pem) if pem != *now => return pem,
                Ok(_) => told = false,
                // The old one is served on, while it lasts. Between two files of one renewal this is no error.
                Err(error) if std::mem::replace(&mut told, true) => tracing::debug!("{error}"),
                Err(error) => tracing::warn!("a new certificate is not taken: {error}"),
            }
        }
    }
}

impl Pem {
    fn tls(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.chain, &self.key))
            .timeout(limits::TLS_HANDSHAKE)
    }
}

/// Serves sessions with the certificate as it is at each time. Ends with the process.
pub(super) async fn serve(
    sessions: Sessions,
    listener: std::net::TcpListener,
    certificate: Certificate,
    mut pem: Pem,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    loop {
        let accepting = TcpListener::from_std(listener.try_clone()?)?;
        tokio::select! {
            ended = sessions.clone().serve(accepting, Some(pem.tls())) => return Ok(ended?),
            new = certificate.renewed(&pem) => {
                tracing::info!("workers that dial from here on are shown the new certificate");
                pem = new;
            }
        }
    }
}

#[cfg(test)]
mod tests;
