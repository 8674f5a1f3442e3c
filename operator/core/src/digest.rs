//! What much comes to in one number.
//!
//! A worker's media ports: FNV-1a 64 over port (u16 be), uid bytes, 0, epoch (u64 be) of each, ascending by port. Both ends compute
//! it; they compare only at an equal sequence.
//!
//! The directory: computed by the operator alone. A worker keeps it as it came, and gives it back.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::action::DirectoryEntry;
use crate::ids::StreamRef;

/// FNV-1a's offset basis and prime for 64 bits (RFC 9923 section 5).
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl Digest {
    /// Adds one bound port; ports must come ascending.
    pub fn add(&mut self, port: u16, stream: &StreamRef) {
        self.write(&port.to_be_bytes());
        self.write(stream.uid.as_str().as_bytes());
        self.write(&[0]);
        self.write(&stream.epoch.0.to_be_bytes());
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

/// What a directory's entries come to, in any order: the sum of their hashes, so that it moves with each change at the cost of that
/// change. Two replicas made from the same code agree; whoever was told by another version differs, and is told anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryDigest(u128);

impl DirectoryDigest {
    pub(crate) fn add(&mut self, entry: &DirectoryEntry) {
        self.0 = self.0.wrapping_add(Self::of(entry));
    }

    pub(crate) fn remove(&mut self, entry: &DirectoryEntry) {
        self.0 = self.0.wrapping_sub(Self::of(entry));
    }

    fn of(entry: &DirectoryEntry) -> u128 {
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            // What is said of an entry is said by this version.
            (which, env!("CARGO_PKG_VERSION"), entry).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }

    /// As the contract carries it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// As the contract carries it. Absent: another version's.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::action::Tokens;
    use crate::ids::{Epoch, Path, Uid};
    use crate::spec::{Latency, OnDuplicate, PlayPolicy, PublishPolicy, SlowViewer};

    #[test]
    fn it_is_fnv_1a() {
        assert_eq!(Digest::default().value(), OFFSET);
        let mut digest = Digest::default();
        digest.write(b"foobar");
        assert_eq!(digest.value(), 0x8594_4171_f739_67e8, "test vector of draft-eastlake-fnv");
    }

    #[test]
    fn another_epoch_is_another_digest() {
        let of = |epoch| {
            let mut digest = Digest::default();
            digest.add(20000, &StreamRef::new(Uid::from("u"), Epoch(epoch)));
            digest.value()
        };
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_directory_is_the_same_however_it_came_about() {
        let publish = PublishPolicy {
            on_duplicate: OnDuplicate::Reject,
            start_timeout: Duration::ZERO,
            stall_timeout: Duration::ZERO,
            resume_window: Duration::ZERO,
            token_secret: None,
            allowed_cidrs: Vec::new(),
        };
        let play = PlayPolicy {
            protocols: Vec::new(),
            latency: Latency::Low,
            slow_viewer: SlowViewer::Disconnect,
            start_timeout: Duration::ZERO,
            token_secret: None,
            allowed_cidrs: Vec::new(),
        };
        let (publish, play) = (Arc::new(publish), Arc::new(play));
        let entry = |path: &str, epoch| DirectoryEntry {
            path: Path::from(path),
            stream: StreamRef::new(Uid::from(path), Epoch(epoch)),
            worker: None,
            push: Vec::new(),
            publish: publish.clone(),
            publish_tokens: Tokens::Open,
            play: play.clone(),
            play_tokens: Tokens::Open,
        };
        let (a, b, later) = (entry("a", 1), entry("b", 1), entry("a", 2));
        let of = |entries: &[&DirectoryEntry]| {
            let mut digest = DirectoryDigest::default();
            entries.iter().for_each(|entry| digest.add(entry));
            digest
        };
        assert_eq!(of(&[&a, &b]), of(&[&b, &a]));
        let mut changed = of(&[&a, &b]);
        changed.remove(&a);
        changed.add(&later);
        assert_eq!(changed, of(&[&later, &b]));
        assert_ne!(changed, of(&[&a, &b]));
        let there_and_back = DirectoryDigest::from_bytes(&changed.to_bytes());
        assert_eq!((there_and_back, DirectoryDigest::from_bytes(b"short")), (Some(changed), None));
    }
}
