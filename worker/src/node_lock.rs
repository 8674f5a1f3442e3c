//! One worker a node (design §5): an abstract Unix socket, which is scoped to the network namespace and goes with its process.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::Duration;

/// The same for every worker of every version: two of them must meet.
const NAME: &str = "media.penstock.dev/worker";

/// Between two attempts, while another worker has the node.
const RETRY: Duration = Duration::from_millis(100);

/// Held for as long as it lives.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _socket: UnixListener,
}

/// Waits until no other worker of this node runs. Nothing is listened on before, so probes find the pod not ready.
pub(crate) fn wait() -> io::Result<NodeLock> {
    let address = SocketAddr::from_abstract_name(NAME)?;
    let mut told = false;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(socket) => return Ok(NodeLock { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("another worker runs on this node: waits until it has ended");
                }
                sleep(RETRY);
            }
            Err(error) => return Err(error),
        }
    }
}
