//! A connection on its way from front to the shard of its stream.

use std::net::SocketAddr;
use std::sync::Arc;

use media::rtmp;

use crate::directory::Entry;
use crate::seats::Seat;

/// A peer whose request is understood and allowed; the shard answers it.
#[derive(Debug)]
pub struct Arrival {
    /// The socket, non-blocking, in no runtime.
    pub socket: std::net::TcpStream,
    /// Address of the peer.
    pub remote: SocketAddr,
    /// The path it asks for, without slashes at its ends.
    pub path: Arc<str>,
    /// What the directory said of the path when it was asked.
    pub entry: Arc<Entry>,
    /// What it wants, with the session so far.
    pub wants: Wants,
    /// Its place among the connections of its address; a canary has none.
    pub seat: Option<Seat>,
}

/// What a peer wants.
#[derive(Debug)]
pub enum Wants {
    /// To publish over RTMP.
    PublishRtmp(Box<rtmp::Session>),
    /// To play over RTMP.
    PlayRtmp(Box<rtmp::Session>),
    /// To play over HTTP-FLV; no byte of the answer is written yet.
    PlayFlv,
}
