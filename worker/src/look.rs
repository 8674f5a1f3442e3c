//! A look at another worker's health port: whether a process is there, and which (design §5, witnesses).

use std::io;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// From the first SYN to the last byte. The watchdog answers in milliseconds, at worst after 200.
pub const LOOK: Duration = Duration::from_millis(300);

/// The page of a worker with 256 shards has 25 KiB.
const PAGE_BYTES_MAX: u64 = 64 << 10;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A worker's watchdog answered.
    Answered {
        /// Which start of the process.
        boot_id: String,
    },
    /// The host is there, and no process has the port; or the one that has it is about to end.
    Refused,
    /// No answer in time, no way there, or an answer that is no worker's.
    Silent,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "bootId")]
    boot_id: String,
    #[serde(default)]
    ending: bool,
}

/// Looks once.
pub async fn look(address: &str, port: u16) -> Sight {
    match timeout(LOOK, ask(address, port)).await {
        Ok(Ok(Page { boot_id: _, ending: true })) => Sight::Refused,
        Ok(Ok(Page { boot_id, ending: false })) => Sight::Answered { boot_id },
        Ok(Err(error))
            if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) =>
        {
            Sight::Refused
        }
        Ok(Err(_)) | Err(_) => Sight::Silent,
    }
}

async fn ask(address: &str, port: u16) -> io::Result<Page> {
    let mut socket = TcpStream::connect((address, port)).await?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    socket.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &answer[at + 4..]);
    Ok(serde_json::from_slice(body.unwrap_or_default())?)
}

#[cfg(test)]
mod tests;
