//! A publisher over RTMP: one task that reads its socket and pushes what it says into the stream it holds the token of.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
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
    let reason = match serve(&socket, &mut session, &publisher, clock).await {
        Err(End::Lost(Ended(reason))) => {
            let (end, why) = farewell(reason);
            session.end_publish(end, why);
            last_words(&socket, &mut session).await;
            return;
        }
        Err(End::Protocol(error)) => {
            tracing::info!(%remote, stream = %stream.assignment().path, %error, "publisher broke its protocol");
            stream.counters().drop_one(DropReason::Protocol);
            EndReason::Protocol
        }
        Ok(()) => EndReason::Left,
    };
    // The path is free before the peer hears that it is, so that it may come back at once.
    publisher.give_up(reason);
    last_words(&socket, &mut session).await;
}

/// Why a publisher is ended.
enum End {
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
) -> Result<(), End> {
    let mut buffer = BytesMut::new();
    let mut room = READ_BYTES_MIN;
    let ended = publisher.ended();
    tokio::pin!(ended);
    // Media may have come with the request.
    let mut left = follow(session, publisher)?;
    loop {
        let mut replies_wait = send(socket, session).is_err();
        if left {
            return Ok(());
        }
        tokio::select! {
            biased;
            lost = &mut ended => return Err(End::Lost(lost)),
            ready = socket.readable() => if ready.is_err() { return Ok(()) },
            ready = socket.writable(), if replies_wait => if ready.is_err() { return Ok(()) },
        }
        replies_wait = false;
        let _ = replies_wait;
        for _ in 0..READS_PER_TURN {
            if buffer.capacity() < READ_BYTES_MIN / 2 {
                buffer.reserve(room);
            }
            match socket.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    publisher.heard(length);
                    let full = buffer.capacity() == buffer.len();
                    session.receive(buffer.split().freeze(), clock.now()).map_err(End::Protocol)?;
                    left = follow(session, publisher)?;
                    if left || !full {
                        break;
                    }
                    room = (room * 2).min(READ_BYTES_MAX);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return Ok(()),
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

/// Writes what the session has to say as far as the socket takes it. An error says that some is left; it is dropped, since a peer
/// that does not read acknowledgements is not helped by more of them.
fn send(socket: &TcpStream, session: &mut Session) -> Result<(), ()> {
    while let Some(words) = session.poll_transmit() {
        match socket.try_write(&words) {
            Ok(written) if written == words.len() => {}
            Ok(_) | Err(_) => return Err(()),
        }
    }
    Ok(())
}

fn farewell(reason: EndReason) -> (PublishEnd, &'static str) {
    match reason {
        EndReason::TakenOver => (PublishEnd::TakenOver, "another publisher took over"),
        EndReason::NeverStarted => (PublishEnd::Idle, "no media came within publish.startTimeout"),
        EndReason::Stalled => (PublishEnd::Idle, "no media came for publish.stallTimeout"),
        EndReason::Revoked => (PublishEnd::Stopped, "the stream was stopped or moved; connect again"),
        EndReason::Drained => (PublishEnd::Stopped, "this worker is being stopped; connect again"),
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

/// Writes `words`, says that no more come, and waits until the peer closes: closing first, with unread bytes about, would reset the
/// connection and take the words with it.
pub(crate) async fn close_with(socket: &TcpStream, words: &[u8], deadline: Duration) {
    let closing = async {
        let mut rest = words;
        while !rest.is_empty() {
            socket.writable().await?;
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write)?;
        let mut ignored = [0; 1024];
        loop {
            socket.readable().await?;
            match socket.try_read(&mut ignored) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whatever goes wrong, or takes too long: the socket closes when it is dropped.
    let _ = tokio::time::timeout(deadline, closing).await;
}
