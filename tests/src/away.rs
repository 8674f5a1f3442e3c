//! Peers elsewhere: in a network namespace behind a cable. When it is cut they vanish without a word, as those do whose power fails.
//! Needs root.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cluster::run;

/// Such places at one time on a machine, each with a network of four addresses.
const PLACES: u8 = 64;

/// A place elsewhere, until it is dropped.
pub struct Away {
    number: u8,
    network: File,
    // Whose number it is; the kernel lets go of it when the test ends, however it ends.
    _lock: UnixListener,
}

impl Away {
    /// Makes one that no other test of this machine has.
    ///
    /// # Panics
    /// When there is none left, or the kernel refuses.
    pub fn make() -> Away {
        let (number, lock) = (0..PLACES)
            .find_map(|number| {
                let name = SocketAddr::from_abstract_name(format!("penstock-test-away-{number}")).ok()?;
                Some((number, UnixListener::bind_addr(&name).ok()?))
            })
            .unwrap_or_else(|| panic!("all {PLACES} places are taken"));
        // What a run has left that was killed.
        take_down(number);
        let file = up(number).unwrap_or_else(|e| panic!("a network namespace, which needs root: {e}"));
        Away { number, network: file, _lock: lock }
    }

    /// The address that this machine has there.
    pub fn here(&self) -> Ipv4Addr {
        here(self.number)
    }

    /// Does something there, on a thread of its own. Sockets that it opens stay there.
    ///
    /// # Panics
    /// When `work` does.
    pub fn go<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap_or_else(|e| panic!("the namespace {}: {e}", namespace(self.number)));
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Cuts the cable: whatever either side sends from here on is lost. Drop the place only when nobody sends there any more.
    pub fn cut(&self) {
        // The other end, so that the route here stays, and nothing takes the default one.
        run(&format!("ip -n {} link set eth0 down", namespace(self.number)))
            .unwrap_or_else(|e| panic!("cutting the cable: {e}"));
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        take_down(self.number);
    }
}

fn namespace(number: u8) -> String {
    format!("pkaway{number}")
}

fn cable(number: u8) -> String {
    format!("pkaway{number}v")
}

fn here(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, number, 1)
}

fn up(number: u8) -> Result<File, String> {
    let (namespace, cable, here) = (namespace(number), cable(number), here(number));
    run(&format!("ip netns add {namespace}"))?;
    run(&format!("ip link add {cable} type veth peer name eth0 netns {namespace}"))?;
    run(&format!("ip address add {here}/30 dev {cable}"))?;
    run(&format!("ip link set {cable} up"))?;
    run(&format!("ip -n {namespace} address add 10.98.{number}.2/30 dev eth0"))?;
    run(&format!("ip -n {namespace} link set eth0 up"))?;
    let path = Path::new("/run/netns").join(&namespace);
    File::open(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// What is not there is no error.
fn take_down(number: u8) {
    let _ = run(&format!("ip link delete {}", cable(number)));
    let _ = run(&format!("ip netns delete {}", namespace(number)));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::Away;

    #[test]
    fn who_is_cut_off_is_not_heard_to_leave() {
        let away = Away::make();
        let listener = TcpListener::bind((away.here(), 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let mut there = away.go(|| TcpStream::connect(to)).unwrap();
        let (here, from) = listener.accept().unwrap();
        assert_ne!(from.ip(), to.ip());
        there.write_all(b"x").unwrap();
        assert_eq!(here.peek(&mut [0]).unwrap(), 1);
        away.cut();
        drop(there);
        here.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut two = [0; 2];
        assert_eq!(std::io::Read::read(&mut &here, &mut two).unwrap(), 1);
        let silence = std::io::Read::read(&mut &here, &mut two).unwrap_err();
        assert!(matches!(silence.kind(), std::io::ErrorKind::WouldBlock), "{silence}");
    }
}
