//! A publisher over RTMP: one task that reads its socket and pushes what it says into the stream it holds the token of.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use media::rtmp::{Event, PublishEnd, PublishRefusal, Session};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::counters::DropReason;
use crate::hub::{Ended, HubStream, Publisher, Refusal};
use crate::limits::{READ_BYTES_MAX, READ_BYTES_MIN, READS_PER_TURN, REFUSAL_DEADLINE};
use crate::shard::EndReason;

/// Serves a publisher until it leaves, breaks its protocol or loses the token.
pub(crate) async fn publish(
    socket: TcpStream,
    mut session: Box<Session>,
    remote: SocketAddr,
    stream: HubStream,
) {
    let publisher = match stream.publish(remote, "RTMP") {
        Ok(publisher) => publisher,
        Err(refusal) => {
            let why = match refusal {
                Refusal::Duplicate => {
                    "the path has a publisher; stop it first, or set publish.onDuplicate: Takeover"
                }
                Refusal::Stopped => "the stream is being stopped or moved; connect again",
            };
            session.refuse_publish(PublishRefusal::BadName, why);
            return last_words(&socket, &mut session).await;
        }
    };
    session.accept_publish();
    let clock = stream.clock();
    let Err(end) = serve(&socket, &mut session, &publisher, clock).await;
    let reason = match end {
        End::Lost(Ended(reason)) => {
            let (end, why) = farewell(reason);
            session.end_publish(end, why);
            last_words(&socket, &mut session).await;
            return;
        }
        End::Protocol(error) => {
            tracing::info!(%remote, stream = %stream.assignment(), %error, "publisher broke its protocol");
            stream.counters().drop_one(DropReason::Protocol);
            EndReason::Protocol
        }
        End::Left => {
            publisher.give_up(EndReason::Left);
            return see_off(&socket, &mut session).await;
        }
    };
    // The path is free before the peer hears that it is, so that it may come back at once.
    publisher.give_up(reason);
    last_words(&socket, &mut session).await;
}

/// Why a publisher is ended.
enum End {
    /// It left.
    Left,
    /// It holds the token no more.
    Lost(Ended),
    /// It can't be followed any further.
    Protocol(media::rtmp::Error),
}

/// Reads and pushes until the peer leaves.
async fn serve(
    socket: &TcpStream,
    session: &mut Session,
    publisher: &Publisher,
    clock: Clock,
) -> Result<Infallible, End> {
    let mut buffer = BytesMut::new();
    let mut room = READ_BYTES_MIN;
    let ended = publisher.ended();
    tokio::pin!(ended);
    // Media may have come with the request.
    let mut left = follow(session, publisher)?;
    let mut words = Bytes::new();
    loop {
        let is_said = say(socket, session, &mut words).map_err(|_| End::Left)?;
        if left {
            return Err(End::Left);
        }
        tokio::select! {
            biased;
            lost = &mut ended => return Err(End::Lost(lost)),
            ready = socket.readable() => ready.map_err(|_| End::Left)?,
            ready = socket.writable(), if !is_said => ready.map_err(|_| End::Left)?,
        }
        for _ in 0..READS_PER_TURN {
            if buffer.capacity() < READ_BYTES_MIN / 2 {
                buffer.reserve(room);
            }
            match socket.try_read_buf(&mut buffer) {
                Ok(0) => return Err(End::Left),
                Ok(length) => {
                    publisher.heard(length);
                    let full = buffer.capacity() == buffer.len();
                    let input = buffer.split().freeze();
                    left = publisher.step(|| {
                        session.receive(input, clock.now()).map_err(End::Protocol)?;
                        follow(session, publisher)
                    })?;
                    if left || !full {
                        break;
                    }
                    room = (room * 2).min(READ_BYTES_MAX);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(End::Left),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Pushes what the session has understood; true where the peer ended its publish.
fn follow(session: &mut Session, publisher: &Publisher) -> Result<bool, End> {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Frame(frame) => publisher.push(frame).map_err(End::Lost)?,
            Event::Unpublish => return Ok(true),
            Event::Leave(_) => publisher.stream().counters().drop_one(DropReason::NotCarried),
            // A session asks once only.
            Event::Publish(_) | Event::Play(_) => {}
        }
    }
    Ok(false)
}

/// Writes what the session has to say, as far as the socket takes it; true where that is all. How much may wait in the session is
/// bounded by it.
fn say(socket: &TcpStream, session: &mut Session, words: &mut Bytes) -> io::Result<bool> {
    loop {
        if words.is_empty() {
            match session.poll_transmit() {
                Some(next) => *words = next,
                None => return Ok(true),
            }
        }
        match socket.try_write(words) {
            Ok(written) => words.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn farewell(reason: EndReason) -> (PublishEnd, &'static str) {
    match reason {
        EndReason::TakenOver => (PublishEnd::TakenOver, "another publisher took over"),
        EndReason::NeverStarted => (PublishEnd::Idle, "no media came within publish.startTimeout"),
        EndReason::Stalled => (PublishEnd::Idle, "no media came for publish.stallTimeout"),
        EndReason::Revoked => (PublishEnd::Stopped, "the stream was stopped or moved; connect again"),
        EndReason::Drained => (PublishEnd::Stopped, "this worker is being stopped; connect again"),
        EndReason::Kicked => (PublishEnd::Stopped, "a person has ended this publish"),
        EndReason::Left | EndReason::Protocol | EndReason::Panicked => {
            (PublishEnd::Stopped, "the publish is over")
        }
    }
}

/// Writes what the session still has to say, for as long as a refusal may take, and closes.
pub(crate) async fn last_words(socket: &TcpStream, session: &mut Session) {
    let mut words = vec![];
    while let Some(more) = session.poll_transmit() {
        words.extend_from_slice(&more);
    }
    close_with(socket, &words, REFUSAL_DEADLINE).await;
}

/// Writes what the session still has to say and leaves it to the peer to close, for as long as a refusal may take. One that said
/// goodbye is still busy with it: GStreamer calls a connection that is closed before an error.
async fn see_off(socket: &TcpStream, session: &mut Session) {
    let mut words = vec![];
    while let Some(more) = session.poll_transmit() {
        words.extend_from_slice(&more);
    }
    let closing = async {
        write_all(socket, &words).await?;
        until_closed(socket).await
    };
    // It is over in each case.
    let _ = tokio::time::timeout(REFUSAL_DEADLINE, closing).await;
}

/// Writes `words`, says that no more come, and waits until the peer closes: closing first, with unread bytes about, would reset the
/// connection and take the words with it.
pub(crate) async fn close_with(socket: &TcpStream, words: &[u8], deadline: Duration) {
    let closing = async {
        write_all(socket, words).await?;
        socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write)?;
        until_closed(socket).await
    };
    // Whatever goes wrong, or takes too long: the socket closes when it is dropped.
    let _ = tokio::time::timeout(deadline, closing).await;
}

async fn write_all(socket: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        socket.writable().await?;
        match socket.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads and forgets until the peer closes.
async fn until_closed(socket: &TcpStream) -> io::Result<()> {
    let mut ignored = [0; 1024];
    loop {
        socket.readable().await?;
        match socket.try_read(&mut ignored) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
