//! nginx-rtmp as a peer: one worker, `live on`, otherwise as it comes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use crate::census;
use crate::eventually::eventually;
use crate::ports::Block;
use crate::running::{Folder, Running};
use crate::standalone::SOON;
use crate::tools::need;

/// Where Debian's libnginx-mod-rtmp puts the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// A configuration on a free port, and the process when it runs.
pub struct Nginx {
    process: Option<Running>,
    folder: Folder,
    /// Where RTMP is served, once it runs.
    pub rtmp: SocketAddr,
    _ports: Block,
}

impl Nginx {
    /// Writes a configuration.
    ///
    /// # Panics
    /// When the module is not installed.
    pub fn configure() -> Nginx {
        assert!(
            fs::exists(MODULE).unwrap_or(false),
            "{MODULE} is not there; `cargo xtask test` as root on Debian installs libnginx-mod-rtmp"
        );
        let folder = Folder::new("nginx");
        let ports = Block::take(2);
        let rtmp = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first()));
        let path = folder.path().display();
        // `user root` only matters to root, whose temporary folder nobody else may read.
        let text = format!(
            "load_module {MODULE};
daemon off;
master_process on;
worker_processes 1;
user root;
pid {path}/pid;
error_log {path}/error.log warn;
events {{ worker_connections 4096; }}
rtmp {{ server {{ listen {rtmp}; application live {{ live on; }} }} }}
"
        );
        fs::write(folder.file("nginx.conf"), text).expect("a new folder can be filled");
        Nginx { process: None, folder, rtmp, _ports: ports }
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(need("nginx"));
        command.arg("-e").arg(self.error_log()).arg("-p").arg(self.folder.path());
        command.arg("-c").arg(self.folder.file("nginx.conf"));
        command
    }

    /// Starts it and waits until it accepts.
    pub fn start() -> Nginx {
        let mut nginx = Nginx::configure();
        nginx.process = Some(Running::start("nginx", nginx.command(), nginx.folder.file("nginx.out")));
        eventually("nginx to accept", SOON, || TcpStream::connect(nginx.rtmp).map(|_| ()));
        nginx
    }

    /// The process that serves.
    pub fn worker_pid(&self) -> u32 {
        let master = self.process.as_ref().expect("it was started").pid();
        eventually("nginx's worker", SOON, || census::children(master).first().copied().ok_or("no child"))
    }

    /// The URL of a name in its one application.
    pub fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    fn error_log(&self) -> PathBuf {
        self.folder.file("error.log")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its worker when it is asked to; SIGKILL would leave the worker behind.
        if let Some(process) = &mut self.process {
            process.signal(rustix::process::Signal::TERM);
            process.wait_end(SOON);
        }
    }
}
