//! A canary's connections: the client's side of RTMP and of HTTP-FLV, with no more than a canary needs.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use media::frame::Frame;
use media::rtmp::{Client, ClientConfig, ClientEvent, Role};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::cage::{Cage, Guest};
use crate::limits::CANARY_ANSWER_BYTES_MAX;

/// A socket that front knows as a canary's before it comes.
struct Line {
    // Dropped first: as long as it is known, its address is nobody else's.
    _guest: Guest,
    socket: TcpStream,
    buffer: BytesMut,
}

/// Why there is no connection.
pub(super) enum NoLine {
    /// This side has no socket to spare: no descriptor, or no port.
    Socket(io::Error),
    /// The listener doesn't take it.
    Connect(io::Error),
}

impl Line {
    async fn connect(cage: &Cage, to: SocketAddr) -> Result<Line, NoLine> {
        let bound = || -> io::Result<_> {
            let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A lease of the same number may be bound beside it.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(to.ip(), 0))?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let (socket, address) = bound().map_err(NoLine::Socket)?;
        let guest = cage.admit(address);
        let socket = socket.connect(to).await.map_err(NoLine::Connect)?;
        let options = || {
            socket.set_nodelay(true)?;
            // Closed by a reset: a visit a second would else leave a hundred sockets in TIME_WAIT.
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))
        };
        options().map_err(NoLine::Socket)?;
        Ok(Line { _guest: guest, socket, buffer: BytesMut::new() })
    }

    /// Waits for more bytes and adds them to the buffer.
    async fn read(&mut self) -> io::Result<()> {
        loop {
            self.socket.readable().await?;
            self.buffer.reserve(4096);
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// An RTMP connection.
pub(super) struct Rtmp {
    line: Line,
    client: Client,
}

impl Rtmp {
    pub(super) async fn connect(cage: &Cage, to: SocketAddr, role: Role, path: &str) -> Result<Rtmp, NoLine> {
        let line = Line::connect(cage, to).await?;
        let (app, key) = path.rsplit_once('/').unwrap_or(("", path));
        let client = Client::new(ClientConfig {
            role,
            host: to.to_string(),
            app: app.into(),
            key: key.into(),
            chunk_size: 4096,
            seed: 0x63616e617279,
        });
        Ok(Rtmp { line, client })
    }

    /// Talks with the server until it has said `wanted`.
    pub(super) async fn until(&mut self, wanted: impl Fn(&ClientEvent) -> bool) -> io::Result<()> {
        loop {
            self.write().await?;
            while let Some(event) = self.client.poll_event() {
                if wanted(&event) {
                    return Ok(());
                }
            }
            self.line.read().await?;
            let said = self.line.buffer.split().freeze();
            self.client.receive(said, Duration::ZERO).map_err(io::Error::other)?;
        }
    }

    /// Sends frames of an accepted publish in one write.
    pub(super) async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        for frame in frames {
            self.client.send(frame, frame.dts_ms as u32);
        }
        self.write().await
    }

    async fn write(&mut self) -> io::Result<()> {
        while let Some(words) = self.client.poll_transmit() {
            self.line.socket.write_all(&words).await?;
        }
        Ok(())
    }
}

/// An HTTP connection that plays.
pub(super) struct Flv {
    line: Line,
}

impl Flv {
    /// Connects and asks.
    pub(super) async fn connect(cage: &Cage, to: SocketAddr) -> Result<Flv, NoLine> {
        Ok(Flv { line: Line::connect(cage, to).await? })
    }

    /// Asks to play, and waits until that is granted.
    pub(super) async fn play(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET /{path}.flv HTTP/1.1\r\nHost: canary\r\n\r\n");
        self.line.socket.write_all(request.as_bytes()).await?;
        self.until(|answer| answer.windows(4).any(|bytes| bytes == b"\r\n\r\n")).await?;
        match self.line.buffer.starts_with(b"HTTP/1.1 200 ") {
            true => Ok(()),
            false => Err(io::Error::other("refused")),
        }
    }

    /// Reads until what has come is enough. A tag's payload lies in one piece, so it need not be taken apart.
    pub(super) async fn until(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        while !is_enough(&self.line.buffer) {
            if self.line.buffer.len() > CANARY_ANSWER_BYTES_MAX {
                return Err(io::Error::other("more than was asked for"));
            }
            self.line.read().await?;
        }
        Ok(())
    }
}
