//! The service of the contract, as it would be generated, but for the directory: that goes to all workers, and is encoded once.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use prost::{Message as _, bytes::Bytes};
use proto::control::v1::{OperatorMessage, WorkerMessage, control_server::SERVICE_NAME};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, EncodeBuf, Encoder},
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::{Outgoing, Sessions};
use crate::limits;

/// A message to a worker.
#[derive(Clone, Debug)]
pub(crate) enum Outbound {
    /// Boxed: a session's queue keeps room for some dozens when it is empty.
    Message(Box<OperatorMessage>),
    Directory(DirectoryMessage),
}

/// An `OperatorMessage` with a directory, to the last byte.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DirectoryMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    /// A `DirectoryUpdate`.
    #[prost(bytes = "bytes", optional, tag = "6")]
    directory: Option<Bytes>,
}

impl Outbound {
    /// With an encoded `DirectoryUpdate`.
    pub(crate) fn directory(term: u64, sequence: u64, directory: Bytes) -> Self {
        Self::Directory(DirectoryMessage { term, sequence, directory: Some(directory) })
    }
}

impl From<OperatorMessage> for Outbound {
    fn from(message: OperatorMessage) -> Self {
        Self::Message(Box::new(message))
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
            let mut grpc = Grpc::new(Contract).max_decoding_message_size(limits::MESSAGE_BYTES);
            Ok(grpc.streaming(Opened(sessions), request).await)
        })
    }
}

struct Opened(Sessions);

impl StreamingService<WorkerMessage> for Opened {
    type Response = Outbound;
    type ResponseStream = Outgoing;
    type Future = BoxFuture<Response<Outgoing>, Status>;

    fn call(&mut self, request: Request<Streaming<WorkerMessage>>) -> Self::Future {
        let sessions = self.0.clone();
        Box::pin(async move { sessions.session(request).await })
    }
}

#[derive(Clone, Copy)]
struct Contract;

impl Codec for Contract {
    type Encode = Outbound;
    type Decode = WorkerMessage;
    type Encoder = Contract;
    type Decoder = ProstDecoder<WorkerMessage>;

    fn encoder(&mut self) -> Contract {
        Contract
    }

    fn decoder(&mut self) -> ProstDecoder<WorkerMessage> {
        ProstCodec::<OperatorMessage, WorkerMessage>::default().decoder()
    }
}

impl Encoder for Contract {
    type Item = Outbound;
    type Error = Status;

    fn encode(&mut self, message: Outbound, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = match message {
            Outbound::Message(message) => message.encode(to),
            Outbound::Directory(message) => message.encode(to),
        };
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proto::control::v1::{DirectoryEntry, DirectoryUpdate, operator_message::Body};

    use super::*;

    #[test]
    fn a_directory_that_is_encoded_once_is_the_message_of_the_contract() {
        for update in [
            DirectoryUpdate::default(),
            DirectoryUpdate {
                version: 7,
                full: true,
                entries: vec![DirectoryEntry { path: "live/cam".to_owned(), ..DirectoryEntry::default() }],
                removed_paths: vec!["live/gone".to_owned()],
                more: true,
            },
        ] {
            let encoded = Bytes::from(update.encode_to_vec());
            let Outbound::Directory(ours) = Outbound::directory(3, 300, encoded) else {
                panic!("a directory")
            };
            let body = Some(Body::Directory(update));
            let generated = OperatorMessage { term: 3, sequence: 300, body };
            assert_eq!(ours.encode_to_vec(), generated.encode_to_vec());
        }
    }
}
