//! Consistent lists, and what they lack: absence stops a stream only when a GET confirms it, and not even then when
//! too much is lacking at once or the list is older than one seen before.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{Action, ObjectRef, Severity};
use crate::event::{Listed, Now};
use crate::ids::{NodeName, ObjectName, ResourceVersion, ServiceCidrName, Uid};
use crate::limits;
use crate::reason::Reason;
use crate::state::{Kind, State};
use crate::stream::{Absence, Reading};

impl State {
    /// A consistent list of one kind has been delivered whole.
    pub(crate) fn note_list(&mut self, listed: Listed, now: Now) {
        let kind = Kind::of(&listed);
        match listed {
            Listed::Streams { resource_version, uids } => self.note_stream_list(resource_version, &uids, now),
            Listed::Pools { names } => {
                let gone: Vec<_> = self.pools.iter().filter(|(name, _)| !names.contains(*name)).collect();
                let gone: Vec<_> =
                    gone.into_iter().map(|(name, pool)| (name.clone(), pool.uid.clone())).collect();
                for (name, uid) in gone {
                    self.lose_pool(&name, &uid);
                }
            }
            Listed::Nodes { names } => {
                let gone: Vec<NodeName> =
                    self.nodes.keys().filter(|name| !names.contains(*name)).cloned().collect();
                for name in gone {
                    self.lose_node(&name);
                }
            }
            Listed::Secrets { names } => {
                let gone: Vec<ObjectName> =
                    self.secrets.keys().filter(|name| !names.contains(*name)).cloned().collect();
                for name in gone {
                    self.see_secret(name, None);
                }
            }
            Listed::ServiceCidrs { names: Some(names) } => {
                let gone: Vec<ServiceCidrName> =
                    self.service_cidrs.keys().filter(|name| !names.contains(*name)).cloned().collect();
                for name in gone {
                    self.lose_service_cidr(&name);
                }
            }
            Listed::ServiceCidrs { names: None } => {}
        }
        if let Some(lead) = &mut self.lead {
            lead.listed.insert(kind);
            if lead.has_listed_all() && !lead.recovered {
                self.recover(now);
            }
        }
    }

    fn note_stream_list(&mut self, version: ResourceVersion, uids: &BTreeSet<Uid>, now: Now) {
        self.went_back = version < self.version_seen || std::mem::take(&mut self.regressed);
        self.version_seen = self.version_seen.max(version);
        self.version_heard = version;
        if self.went_back {
            self.restored = true;
            self.emit_installation(
                Reason::ListWentBack,
                format!(
                    "a list of MediaStreams, of version {version}, is older than what was seen before (up to {}): the API was \
                     restored from a backup, or is behind. What it lacks goes on until a person confirms that it is gone",
                    self.version_seen
                ),
            );
            self.read_passed_over(uids);
            self.hold_adopted();
        }
        let absent: BTreeSet<Uid> = self.streams.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in uids {
            if self.held_absent.contains(uid) {
                self.end_absence(uid, now);
            }
        }
        match &mut self.lead {
            None => {}
            Some(lead) if lead.recovered => self.judge_absent(&absent, now),
            Some(lead) => lead.absent = absent,
        }
    }

    /// A stream that a list lacked is there. What happened to it meanwhile was passed over.
    pub(crate) fn end_absence(&mut self, uid: &Uid, now: Now) {
        self.held_absent.remove(uid);
        let Some(stream) = self.streams.get_mut(uid) else { return };
        if stream.absent.take().is_some() {
            self.mark(uid);
            self.arm_quiet(uid, now);
        }
    }

    /// Events that looked stale were what a restored API really has.
    fn read_passed_over(&mut self, uids: &BTreeSet<Uid>) {
        for uid in uids {
            if self.streams.get(uid).is_some_and(|stream| stream.passed_over) {
                self.read(uid);
            }
        }
    }

    /// Streams that a list lacked: each is read, or held when there are too many.
    pub(crate) fn judge_absent(&mut self, absent: &BTreeSet<Uid>, _now: Now) {
        let mut by_node: BTreeMap<NodeName, usize> = BTreeMap::new();
        for node in absent.iter().filter_map(|uid| self.node_of(uid)) {
            *by_node.entry(node).or_default() += 1;
        }
        let mut held = 0;
        for uid in absent {
            let too_many = self.node_of(uid).is_some_and(|node| {
                let all = self.nodes.get(&node).map_or(0, |entry| entry.claims.len());
                by_node.get(&node).is_some_and(|lacking| exceeds(*lacking, all))
            });
            let reason = if self.went_back { Some(Reason::ListWentBack) } else { None };
            match reason.or(too_many.then_some(Reason::AbsenceHeld)) {
                Some(reason) => {
                    let Some(stream) = self.streams.get_mut(uid) else { continue };
                    stream.absent = Some(Absence::Held(reason));
                    self.held_absent.insert(uid.clone());
                    self.dirty.statuses.remove(uid);
                    held += 1;
                }
                None => self.confirm_absence(uid),
            }
        }
        self.counters.absences_held += held;
        if held > 0 && !self.went_back {
            self.emit_installation(
                Reason::AbsenceHeld,
                format!("a list lacks {held} streams, too many to believe. They go on; confirm that they are gone, or restore them"),
            );
        }
    }

    /// A person says that what lists lack is really gone: each is read, and stops if it is not there.
    pub(crate) fn believe_absences(&mut self) {
        self.went_back = false;
        for uid in std::mem::take(&mut self.held_absent) {
            self.confirm_absence(&uid);
        }
        self.believe_adopted();
    }

    fn confirm_absence(&mut self, uid: &Uid) {
        self.held_absent.remove(uid);
        let Some(stream) = self.streams.get_mut(uid) else { return };
        stream.absent = Some(Absence::Confirming);
        self.read(uid);
    }

    /// Reads a stream, not from a cache. Nothing is written to it until the answer is here.
    pub(crate) fn read(&mut self, uid: &Uid) {
        let name = self.stream_name(uid);
        if let Some(stream) = self.streams.get_mut(uid) {
            if stream.reading.is_some() {
                return;
            }
            // An answer that is on its way already may be older than the last write, too.
            let beside = stream.write.is_some() || self.reads.contains_key(uid);
            stream.reading = Some(if beside { Reading::BesideWrite } else { Reading::AfterWrites });
        }
        if self.reads.contains_key(uid) {
            return;
        }
        self.reads.insert(uid.clone(), false);
        self.outbox.push(Action::Confirm { uid: uid.clone(), name, since: self.version_heard });
    }

    fn node_of(&self, uid: &Uid) -> Option<NodeName> {
        let epoch = self.streams.get(uid)?.claim?;
        self.claims.get(&crate::ids::StreamRef::new(uid.clone(), epoch)).map(|claim| claim.node.clone())
    }

    /// An event about the installation as a whole.
    pub(crate) fn emit_installation(&mut self, reason: Reason, note: String) {
        let severity = Severity::Warning;
        self.outbox.push(Action::Emit { object: ObjectRef::Installation, reason, severity, note });
    }
}

/// Whether `lacking` of `all` is more than a list may lack.
pub(crate) fn exceeds(lacking: usize, all: usize) -> bool {
    lacking * 100 > all * limits::ABSENT_PERCENT_MAX
}
