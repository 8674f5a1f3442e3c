//! Who may publish or play: tokens and addresses.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::words;

/// A Secret in the stream's own namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSecretRef {
    /// Name of a Secret of type media.penstock.dev/token. Its key `token` holds one token a line,
    /// 128 at most.
    #[x_kube(validation = Rule::new("self.size() > 0").message(words::NAME))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// The part of a policy that says who may come, borrowed from `publish` or `play`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Access<'a> {
    /// Absent: no token is asked for.
    pub token_secret: Option<&'a str>,
    /// Networks in CIDR notation.
    pub allowed_cidrs: &'a [String],
}

/// Everybody, IPv4 and IPv6.
pub(super) fn everybody() -> Vec<String> {
    vec!["0.0.0.0/0".into(), "::/0".into()]
}

/// How many networks a policy may name; each connection is compared with all of them.
pub(super) const CIDRS_MAX: u32 = 64;
