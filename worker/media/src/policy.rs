//! Who may publish and play a stream, and what happens when they misbehave: the checked form of the contract's policies.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

/// SHA-256 of a token, the only form that the worker keeps one in.
pub type TokenDigest = [u8; 32];

/// How publishers of a stream are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishPolicy {
    /// What a second publisher meets.
    pub on_duplicate: OnDuplicate,
    /// From publish accepted to the first media.
    pub start_timeout: Duration,
    /// A publisher without media this long is ended.
    pub stall_timeout: Duration,
    /// How long viewers keep their sockets once the publisher is gone.
    pub resume_window: Duration,
    /// Who may publish.
    pub access: Access,
    /// Whether RTMP publishers are taken; never on rtp streams.
    pub rtmp: bool,
}

/// How viewers of a stream are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayPolicy {
    /// Whether it is played over RTMP.
    pub rtmp: bool,
    /// Whether it is played over HTTP-FLV.
    pub http_flv: bool,
    /// How frames are gathered into writes.
    pub latency: Latency,
    /// What happens to a viewer that cannot keep up.
    pub slow_viewer: SlowViewer,
    /// How long a viewer of a stream without media waits.
    pub start_timeout: Duration,
    /// Who may play.
    pub access: Access,
}

/// What a second publisher of a path meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It is refused while the first has been heard within [`HOLDER_HEARD`](crate::limits::HOLDER_HEARD).
    #[default]
    Reject,
    /// It ends the first.
    Takeover,
}

/// The merge window: cost is per send, not per byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// Each video frame, audio rides along; at most [`NORMAL_WINDOW`](crate::limits::NORMAL_WINDOW) after the first unsent byte.
    #[default]
    Normal,
    /// Each frame.
    Low,
    /// A timer of [`BULK_WINDOW`](crate::limits::BULK_WINDOW) only.
    Bulk,
}

/// What happens to a viewer that has fallen out of the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowViewer {
    /// It goes on at the newest key frame.
    #[default]
    SkipToKeyframe,
    /// It is ended.
    Disconnect,
}

/// Who may come: from where, and with which token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Digests of the tokens that are valid today (several while one is rotated).
    pub tokens: Vec<TokenDigest>,
    /// A token is asked for even when `tokens` is empty: its Secret is missing, so nobody may.
    pub token_required: bool,
    /// Networks that may come; empty: all.
    pub allowed: Vec<IpNet>,
}

/// Why somebody may not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The address is in none of the allowed networks.
    #[error("address is not in allowedCIDRs")]
    Address,
    /// No token came, and one is asked for.
    #[error("a token is required: add ?token=… to the URL")]
    TokenMissing,
    /// The token is none of the valid ones.
    #[error("token is not valid")]
    TokenWrong,
}

impl Access {
    /// Checks the peer's address, and the digest of the token it gave, if it gave one.
    pub fn check(&self, peer: IpAddr, token: Option<&TokenDigest>) -> Result<(), Denied> {
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d, which no IPv4 network contains.
        let peer = peer.to_canonical();
        if !self.allowed.is_empty() && !self.allowed.iter().any(|net| net.contains(&peer)) {
            return Err(Denied::Address);
        }
        if self.tokens.is_empty() && !self.token_required {
            return Ok(());
        }
        let token = token.ok_or(Denied::TokenMissing)?;
        // All are compared, and each to its last byte, so that time tells nothing about where they differ.
        let hits = self.tokens.iter().fold(0u8, |hits, valid| hits | u8::from(same(valid, token)));
        if hits == 0 { Err(Denied::TokenWrong) } else { Ok(()) }
    }
}

/// Whom a limit for each source address counts: an IPv4 address, or the /64 that a site has of IPv6.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

fn same(a: &TokenDigest, b: &TokenDigest) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0u8, |diff, (x, y)| diff | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_by_network_and_by_digest_of_token() {
        let nets =
            |list: &str| list.split(' ').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
        let open = Access::default();
        let lan = Access { allowed: nets("10.0.0.0/8 fd00::/8"), ..Access::default() };
        let token = Access { tokens: vec![[1; 32], [2; 32]], token_required: true, ..Access::default() };
        let lost = Access { token_required: true, ..Access::default() };
        type Case<'a> = (&'a Access, &'a str, Option<u8>, Result<(), Denied>);
        let cases: &[Case<'_>] = &[
            (&open, "192.0.2.1", None, Ok(())),
            (&open, "2001:db8::1", Some(9), Ok(())),
            (&lan, "10.1.2.3", None, Ok(())),
            (&lan, "::ffff:10.1.2.3", None, Ok(())),
            (&lan, "fd00::1", None, Ok(())),
            (&lan, "11.0.0.1", None, Err(Denied::Address)),
            (&lan, "fe80::1", None, Err(Denied::Address)),
            (&token, "192.0.2.1", Some(1), Ok(())),
            (&token, "192.0.2.1", Some(2), Ok(())),
            (&token, "192.0.2.1", Some(3), Err(Denied::TokenWrong)),
            (&token, "192.0.2.1", None, Err(Denied::TokenMissing)),
            (&lost, "192.0.2.1", Some(1), Err(Denied::TokenWrong)),
            (&lost, "192.0.2.1", None, Err(Denied::TokenMissing)),
        ];
        for (access, peer, token, want) in cases {
            let token = token.map(|byte| [byte; 32]);
            assert_eq!(
                access.check(peer.parse().unwrap(), token.as_ref()),
                *want,
                "{access:?} {peer} {token:?}"
            );
        }
    }
}
