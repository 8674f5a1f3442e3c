//! Message types, and the commands of NetConnection and NetStream as the server answers them.

/// Message type ids (RTMP 1.0 §5.4, §7.1).
pub(super) const AUDIO: u8 = 8;
pub(super) const VIDEO: u8 = 9;
pub(super) const DATA_AMF0: u8 = 18;
