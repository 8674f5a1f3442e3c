//! The service of the contract, as it would be generated, but for what is kept: what goes to all workers is encoded once and copied for none
//! of them, and a session keeps no buffer as large as its largest message in either direction.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{Stream, task::AtomicWaker};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _, Bytes, BytesMut},
    encoding::{WireType, encode_key, encode_varint},
};
use proto::control::v1::{OperatorMessage, WorkerMessage, control_server::SERVICE_NAME};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    metadata::MetadataMap,
    server::NamedService,
};

use super::{Outgoing, Sessions};
use crate::limits;

/// A message to a worker.
#[derive(Clone, Debug)]
pub(crate) enum Outbound {
    Message(Box<OperatorMessage>),
    /// An `OperatorMessage` that differs from those to other workers by its head alone.
    Shared {
        term: u64,
        sequence: u64,
        body: Shared,
        /// The message in the body, encoded.
        encoded: Bytes,
    },
}

/// What goes to all workers, by the number of its field in an `OperatorMessage`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shared {
    /// A `DirectoryUpdate`.
    Directory = 6,
    /// `ClusterNetworks`.
    Networks = 11,
}

impl From<OperatorMessage> for Outbound {
    fn from(message: OperatorMessage) -> Self {
        Self::Message(Box::new(message))
    }
}

impl Outbound {
    /// What was encoded for all.
    pub(crate) fn shared(term: u64, sequence: u64, body: Shared, encoded: Bytes) -> Self {
        Self::Shared { term, sequence, body, encoded }
    }

    /// Appends the message as gRPC frames it: a flag for compression, which there is none of, its length, itself. What is behind it
    /// comes back: bytes that all workers share. A few are copied: a frame for them would cost more, for a session keeps 300 bytes
    /// for as many frames as ever waited in it.
    fn frame(self, to: &mut Vec<u8>) -> Option<Bytes> {
        let begin = to.len();
        to.put_bytes(0, PREFIX);
        let rest = match self {
            Self::Message(message) => {
                message.encode(to).expect("a vector takes any message");
                None
            }
            Self::Shared { term, sequence, body, encoded } => {
                let head = OperatorMessage { term, sequence, body: None };
                head.encode(to).expect("a vector takes any message");
                encode_key(body as u32, WireType::LengthDelimited, to);
                encode_varint(encoded.len() as u64, to);
                if encoded.len() < limits::FRAME_BYTES {
                    to.put(encoded);
                    None
                } else {
                    Some(encoded)
                }
            }
        };
        let length = to.len() - begin - PREFIX + rest.as_ref().map_or(0, Bytes::len);
        let length = u32::try_from(length).expect("directories come in pieces of some KiB");
        to[begin + 1..begin + PREFIX].copy_from_slice(&length.to_be_bytes());
        rest
    }
}

/// What stands before each message of gRPC.
const PREFIX: usize = 5;

/// The frames of a session's answer. A worker that is slow to read has few of them waiting: what comes meanwhile waits as messages and
/// goes out gathered.
struct Frames {
    messages: Outgoing,
    /// Follows the last frame.
    rest: Option<Bytes>,
    ended: bool,
    waiting: Arc<Waiting>,
}

/// Frames that HTTP/2 has and has not written yet. It would take 400 KB of them, and keeps room for as many as ever waited.
#[derive(Default)]
struct Waiting {
    frames: AtomicUsize,
    fewer: AtomicWaker,
}

/// The bytes of a frame, counted until they are written.
struct Counted(Bytes, Arc<Waiting>);

impl Counted {
    fn new(bytes: Bytes, waiting: &Arc<Waiting>) -> Self {
        waiting.frames.fetch_add(1, Ordering::Relaxed);
        Self(bytes, waiting.clone())
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.frames.fetch_sub(1, Ordering::Relaxed);
        self.1.fewer.wake();
    }
}

impl Frames {
    fn new(messages: Outgoing) -> Self {
        Self { messages, rest: None, ended: false, waiting: Arc::default() }
    }
}

impl Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let waiting = self.waiting.clone();
        // Registered before it is counted: one that is written in between wakes us.
        waiting.fewer.register(cx.waker());
        let are_many = waiting.frames.load(Ordering::Relaxed) >= limits::FRAMES_WAITING;
        if are_many && self.messages.poll_end(cx).is_pending() {
            return Poll::Pending;
        }
        let data =
            |bytes| Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Counted::new(bytes, &waiting))))));
        if let Some(rest) = self.rest.take() {
            return data(rest);
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut gathered = Vec::new();
        while self.rest.is_none() && gathered.len() < limits::FRAME_BYTES {
            match Pin::new(&mut self.messages).poll_next(cx) {
                Poll::Ready(Some(message)) => self.rest = message.frame(&mut gathered),
                Poll::Ready(None) if gathered.is_empty() => {
                    self.ended = true;
                    let mut end = http::HeaderMap::new();
                    Status::ok("").add_header(&mut end).expect("an empty message is a header");
                    return Poll::Ready(Some(Ok(Frame::trailers(end))));
                }
                Poll::Pending if gathered.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        data(gathered.into())
    }
}

/// What a worker says. tonic's `Streaming` would keep room for the largest message of a session for as long as that lasts.
pub(crate) struct Incoming {
    body: Body,
    /// Of messages that are not whole. There is no buffer while there are none.
    begun: BytesMut,
}

impl Incoming {
    fn new(body: Body) -> Self {
        Self { body, begun: BytesMut::new() }
    }

    /// The next message; absent: the worker has ended the session. An error ends it too: one beyond [`limits::MESSAGE_BYTES`], one that is
    /// no message of the contract. May be cancelled while it waits: nothing is lost.
    pub(super) async fn message(&mut self) -> Result<Option<WorkerMessage>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await.transpose()? {
                // Trailers say nothing here.
                Some(frame) => self.begun.extend(frame.into_data()),
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(Status::data_loss("the session has ended within a message")),
            }
        }
    }

    /// The first one of what has come, if it is whole: a flag for compression, which nobody here asks for, its length, itself.
    fn take(&mut self) -> Result<Option<WorkerMessage>, Status> {
        let mut begun = &self.begun[..];
        let (Ok(compressed), Ok(length)) = (begun.try_get_u8(), begun.try_get_u32()) else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::unimplemented("a message is compressed"));
        }
        let length = length as usize;
        if length > limits::MESSAGE_BYTES {
            let text = format!("a message has {length} bytes; {} are the most", limits::MESSAGE_BYTES);
            return Err(Status::out_of_range(text));
        }
        let Some(whole) = begun.get(..length) else { return Ok(None) };
        let message = WorkerMessage::decode(whole).map_err(|error| Status::internal(error.to_string()))?;
        self.begun.advance(PREFIX + length);
        if self.begun.is_empty() {
            self.begun = BytesMut::new();
        }
        Ok(Some(message))
    }
}

/// Serves [`Sessions`].
#[derive(Clone)]
pub(super) struct ControlService(pub(super) Sessions);

impl NamedService for ControlService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for ControlService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sessions = self.0.clone();
        Box::pin(async move {
            let path = request.uri().path();
            if path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME)) != Some("/Session") {
                return Ok(Status::unimplemented("there is only Session").into_http());
            }
            let (parts, body) = request.into_parts();
            let metadata = MetadataMap::from_headers(parts.headers);
            Ok(match sessions.session(&metadata, Incoming::new(body)).await {
                Ok(messages) => {
                    let mut response = http::Response::new(Body::new(StreamBody::new(Frames::new(messages))));
                    let headers = response.headers_mut();
                    headers.insert(http::header::CONTENT_TYPE, GRPC);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}

/// The media type of gRPC.
const GRPC: http::HeaderValue = http::HeaderValue::from_static("application/grpc");

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proto::control::v1::{
        Beat, ClusterNetworks, DirectoryEntry, DirectoryUpdate, Hello, operator_message::Body as Told,
        worker_message::Body as Said,
    };
    use tokio_util::sync::CancellationToken;
    use tonic::Code;

    use super::{super::Queue, *};

    #[test]
    fn what_a_slow_worker_has_not_read_waits_as_messages() {
        let (queue, end) = (Queue::default(), CancellationToken::new());
        let mut frames = Frames::new(Outgoing::new(queue.clone(), end.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = || {
            let frame = Pin::new(&mut frames).poll_next(&mut cx);
            frame.map(|frame| frame.map(|Ok(frame)| frame.into_data().map_err(drop)))
        };
        let send = || {
            let message = OperatorMessage { term: 1, sequence: 1, body: None };
            queue.push(message.into()).expect("there is room");
        };
        let unread: Vec<_> = std::iter::repeat_with(|| {
            send();
            next()
        })
        .take_while(Poll::is_ready)
        .collect();
        assert_eq!(unread.len(), limits::FRAMES_WAITING);
        (0..8).for_each(|_| send());
        assert!(next().is_pending(), "none of them is read yet");
        let one = unread.into_iter().next();
        let Some(Poll::Ready(Some(Ok(one)))) = one else { panic!("{one:?}") };
        let length = one.len();
        drop(one);
        let Poll::Ready(Some(Ok(all))) = next() else { panic!("all were read") };
        assert_eq!(all.len(), 9 * length, "what waited goes out as one");
        let whole = [next(), next()];
        assert!(whole.iter().all(Poll::is_pending), "there is nothing more");
        end.cancel();
        assert!(matches!(next(), Poll::Ready(Some(Err(())))), "trailers end it");
        assert!(matches!(next(), Poll::Ready(None)));
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let beat =
            |number| WorkerMessage { body: Some(Said::Beat(Beat { sequence: number, ..Beat::default() })) };
        let large = WorkerMessage {
            body: Some(Said::Hello(Hello { worker: "w".repeat(100_000), ..Hello::default() })),
        };
        let said = [beat(1), large, WorkerMessage { body: None }, beat(2)];
        let framed = |message: &WorkerMessage| {
            let length = u32::try_from(message.encoded_len()).unwrap();
            [&[0][..], &length.to_be_bytes(), &message.encode_to_vec()].concat()
        };
        let all: Vec<u8> = said.iter().flat_map(framed).collect();
        for piece in [1, 4, 5, 6, 1000, all.len()] {
            let mut incoming = incoming(all.chunks(piece).map(|it| Ok(it.to_vec())).collect());
            for message in &said {
                assert_eq!(incoming.message().await.unwrap().as_ref(), Some(message), "in pieces of {piece}");
            }
            assert_eq!(incoming.message().await.unwrap(), None);
            assert_eq!(incoming.begun.capacity(), 0, "no room is kept");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_session() {
        let too_long = u32::try_from(limits::MESSAGE_BYTES).unwrap() + 1;
        let cases: [(Vec<u8>, Code); 4] = [
            (vec![1, 0, 0, 0, 0], Code::Unimplemented),
            ([&[0][..], &too_long.to_be_bytes()].concat(), Code::OutOfRange),
            (vec![0, 0, 0, 0, 1, 0xff], Code::Internal),
            (vec![0, 0, 0, 0, 2, 0], Code::DataLoss),
        ];
        for (bytes, code) in cases {
            let answer = incoming(vec![Ok(bytes.clone())]).message().await;
            assert_eq!(answer.map_err(|status| status.code()), Err(code), "{bytes:?}");
        }
        let reset = incoming(vec![Err(Status::cancelled("reset"))]).message().await;
        assert_eq!(reset.map_err(|status| status.code()), Err(Code::Cancelled));
    }

    fn incoming(pieces: Vec<Result<Vec<u8>, Status>>) -> Incoming {
        let pieces = pieces.into_iter().map(|piece| piece.map(|bytes| Frame::data(Bytes::from(bytes))));
        Incoming::new(Body::new(StreamBody::new(futures_util::stream::iter(pieces))))
    }

    #[test]
    fn what_is_encoded_once_is_the_message_of_the_contract() {
        let entry = |path| DirectoryEntry { path, ..DirectoryEntry::default() };
        let small = DirectoryUpdate {
            version: 7,
            full: true,
            entries: vec![entry("live/cam".to_owned())],
            removed_paths: vec!["live/gone".to_owned()],
            more: true,
            digest: vec![6; 16],
        };
        let large = (0..1000).map(|number| entry(format!("live/camera-{number}"))).collect();
        let large = DirectoryUpdate { entries: large, ..small.clone() };
        let nodes = (0..2000).map(|number| format!("10.0.{}.{}/32", number / 256, number % 256)).collect();
        let networks = ClusterNetworks { services: vec!["10.96.0.0/12".to_owned()], nodes, pods: Vec::new() };
        let of_directory = |update: DirectoryUpdate, is_shared| {
            (Shared::Directory, update.encode_to_vec(), Told::Directory(update), is_shared)
        };
        for (field, encoded, body, is_shared) in [
            of_directory(DirectoryUpdate::default(), false),
            of_directory(small, false),
            of_directory(large, true),
            (Shared::Networks, networks.encode_to_vec(), Told::Networks(networks), true),
        ] {
            let encoded = Bytes::from(encoded);
            let ours = Outbound::shared(3, 300, field, encoded.clone());
            let mut framed = Vec::new();
            let rest = ours.frame(&mut framed);
            let shared = rest.as_ref().map(|rest| rest.as_ptr());
            assert_eq!(shared, is_shared.then_some(encoded.as_ptr()), "many bytes are not copied");
            framed.extend(rest.into_iter().flatten());
            let generated = Outbound::from(OperatorMessage { term: 3, sequence: 300, body: Some(body) });
            let mut whole = Vec::new();
            assert_eq!(generated.frame(&mut whole), None);
            assert_eq!(framed, whole);
        }
    }
}
