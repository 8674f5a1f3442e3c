//! `media`'s RTMP client on a socket, for what no stock client does: silence, bad manners, five hundred at once.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::frame::Frame;
use media::rtmp::{Client, ClientConfig, ClientEvent, Role};

/// A connection that publishes or plays.
pub struct Connection {
    client: Client,
    socket: TcpStream,
    begun: Instant,
    events: VecDeque<ClientEvent>,
}

/// The client that publishes or plays `path` at `to`.
pub fn client(role: Role, to: SocketAddr, path: &str) -> Client {
    let (app, key) = path.rsplit_once('/').expect("a path has an app and a key");
    Client::new(ClientConfig {
        role,
        host: to.to_string(),
        app: app.into(),
        key: key.into(),
        chunk_size: 4096,
        seed: 1,
    })
}

impl Connection {
    /// Connects, and begins to publish or play.
    pub fn open(role: Role, to: SocketAddr, path: &str) -> io::Result<Connection> {
        let socket = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        socket.set_nodelay(true)?;
        let client = client(role, to, path);
        let mut connection = Connection { client, socket, begun: Instant::now(), events: VecDeque::new() };
        connection.flush()?;
        Ok(connection)
    }

    /// Publishes: returns when the server has accepted it.
    ///
    /// # Panics
    /// When it does not, with its words.
    #[track_caller]
    pub fn publish(to: SocketAddr, path: &str) -> Connection {
        Connection::try_publish(to, path).unwrap_or_else(|e| panic!("publishing {path}: {e}"))
    }

    /// The same, or why not.
    pub fn try_publish(to: SocketAddr, path: &str) -> Result<Connection, String> {
        let mut connection = Connection::open(Role::Publish, to, path).map_err(|e| format!("{to}: {e}"))?;
        let answer = connection.wait(Duration::from_secs(10), |event| match event {
            ClientEvent::Started => Some(Ok(())),
            ClientEvent::Status { code, description, .. } => Some(Err(format!("{code}: {description}"))),
            _ => None,
        });
        answer.map_err(|e| e.to_string())??;
        Ok(connection)
    }

    /// Reads until `wanted` picks an event, and returns what it made of it.
    pub fn wait<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(ClientEvent) -> Option<T>,
    ) -> io::Result<T> {
        let end = Instant::now() + limit;
        loop {
            while let Some(event) = self.next_event() {
                if let Some(found) = wanted(event) {
                    return Ok(found);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("nothing of the kind within {limit:?}"),
                ));
            }
            self.socket.set_read_timeout(Some(left))?;
            self.read()?;
        }
    }

    /// The code of the next onStatus that the server sends.
    pub fn wait_status(&mut self, limit: Duration) -> io::Result<String> {
        self.wait(limit, |event| match event {
            ClientEvent::Status { code, .. } => Some(code),
            _ => None,
        })
    }

    /// Waits until the server closes the connection.
    pub fn wait_close(&mut self, limit: Duration) -> io::Result<()> {
        match self.wait(limit, |_| None::<()>) {
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Ok(())
            }
            Err(e) => Err(e),
            Ok(()) => unreachable!("nothing is picked"),
        }
    }

    /// Sends a frame of an accepted publish.
    pub fn send(&mut self, frame: &Frame, timestamp: u32) -> io::Result<()> {
        self.client.send(frame, timestamp);
        self.flush()
    }

    /// Sends bytes that are no RTMP.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Asks the server to pause a play.
    pub fn pause(&mut self) -> io::Result<()> {
        self.client.pause(true);
        self.flush()
    }

    /// Ends politely.
    pub fn stop(&mut self) -> io::Result<()> {
        self.client.stop();
        self.flush()
    }

    /// Vanishes with a reset, as a program does that was killed with bytes unread.
    pub fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))
    }

    /// The socket, for who has no more to do with the protocol.
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Takes in what has come, without waiting.
    pub fn poll(&mut self) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        let result = self.read();
        self.socket.set_nonblocking(false)?;
        match result {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let n = match self.socket.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server")),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::TimedOut => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "nothing came"));
            }
            Err(e) => return Err(e),
        };
        match self.client.receive(Bytes::copy_from_slice(&buffer[..n]), self.begun.elapsed()) {
            Ok(()) => {}
            // Told like any other status: the connection itself goes on until one side closes it.
            Err(media::rtmp::Error::Refused { code, description }) => {
                self.events.push_back(ClientEvent::Status { code, description });
            }
            Err(e) => return Err(io::Error::other(e)),
        }
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.client.poll_transmit() {
            self.socket.write_all(&bytes)?;
        }
        Ok(())
    }
}
