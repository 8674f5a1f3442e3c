//! Whether a stream should be assigned at all, and whether its claim still is what it asks for.

use crate::claim::Claim;
use crate::config::PathGrants;
use crate::ids::Uid;
use crate::reason::Reason;
use crate::spec::RtpSource;
use crate::state::{State, shared_ssrc};
use crate::stream::Stream;

impl State {
    /// Whether a stream should be assigned; else why not.
    pub(super) fn wish(&self, uid: &Uid) -> Result<(), Reason> {
        let Some(stream) = self.streams.get(uid) else { return Err(Reason::Deleted) };
        if stream.deleting {
            return Err(Reason::Deleted);
        }
        self.accept(uid, stream)?;
        if stream.spec.as_ref().is_some_and(|spec| spec.paused) {
            return Err(Reason::Paused);
        }
        if stream.suspect {
            return Err(Reason::Suspect);
        }
        if stream.idle {
            return Err(Reason::Idle);
        }
        Ok(())
    }

    /// Whether its spec is taken, and the path is its own, and on shared ports the SSRC.
    pub(super) fn accept(&self, uid: &Uid, stream: &Stream) -> Result<(), Reason> {
        let Some(spec) = &stream.spec else {
            return Err(stream.refusal.as_ref().map_or(Reason::InvalidSpec, |refusal| refusal.reason));
        };
        if !self.grants(stream.namespace(), spec.path.as_str()) {
            return Err(Reason::PathNotGranted);
        }
        if self.winner(&spec.path).is_some_and(|winner| winner != uid) {
            return Err(Reason::PathConflict);
        }
        if shared_ssrc(spec).and_then(|ssrc| self.ssrc_winner(ssrc)).is_some_and(|winner| winner != uid) {
            return Err(Reason::SsrcConflict);
        }
        Ok(())
    }

    /// Whether a namespace may use a path.
    pub(crate) fn grants(&self, namespace: &str, path: &str) -> bool {
        let own = path.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        own || match &self.config.path_grants {
            PathGrants::All => true,
            PathGrants::Namespaces(grants) => [namespace, PathGrants::ANY_NAMESPACE]
                .into_iter()
                .filter_map(|namespace| grants.get(namespace))
                .flatten()
                .any(|prefix| path.starts_with(&**prefix)),
        }
    }

    /// Whether a claim is still what its stream asks for. Rules for publishers and players change in place.
    pub(super) fn fits(&self, stream: &Stream, claim: &Claim) -> bool {
        let Some(spec) = &stream.spec else { return true };
        if claim.path.as_ref().is_some_and(|path| *path != spec.path) {
            return false;
        }
        let placed = self.nodes.get(&claim.node).is_none_or(|node| {
            // A node that is not known matches until it is seen.
            node.object.is_none() || self.matches(node, &spec.node_selector)
        });
        placed
            && match (stream.rtp(), &claim.lease) {
                (None, None) => true,
                (Some(rtp), None) => rtp.shared,
                (None, Some(_)) => false,
                (Some(rtp), Some(lease)) => {
                    // Whatever it asked for when it was leased: the numbers are what counts. Who sends to them is told in place, where its
                    // worker knows of that.
                    let same = |source: &RtpSource| RtpSource { port: rtp.port, ..source.clone() } == *rtp;
                    let follows = self.worker(&claim.node).is_none_or(|worker| worker.changes_leases);
                    stream.shape().is_some_and(|shape| shape.takes(lease.ports))
                        && lease.transport.is_none_or(|transport| transport == rtp.transport)
                        && (follows || lease.source.as_ref().is_none_or(same))
                        && spec.pool.as_ref().is_none_or(|pool| *pool == lease.pool)
                }
            }
    }
}
