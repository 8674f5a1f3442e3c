//! What a worker's session needs before anything else: a welcome, the networks to keep from, the ranges to watch, the directory, and
//! the question what it holds.

use crate::action::Command;
use crate::event::Now;
use crate::ids::NodeName;
use crate::node::Informed;
use crate::plan::directory::Whole;
use crate::port_set::PortSet;
use crate::reason::Reason;
use crate::spec::PortRange;
use crate::state::State;
use crate::timers::Timer;

impl State {
    /// Looks at each session that something happened to.
    pub(super) fn greet_workers(&mut self, now: Now) {
        for (node, port, stream) in std::mem::take(&mut self.dirty.leaks) {
            self.command(&node, Command::CloseLeak { port, stream });
            self.timers.set_if_unset(Timer::ScanDue(node), now.mono + self.config.answer_after);
        }
        for (node, stream) in std::mem::take(&mut self.dirty.doubles) {
            self.command(&node, Command::Revoke { stream, reason: Reason::Superseded });
            self.ask_again(&node);
        }
        let mut whole = Whole::default();
        while let Some(name) = self.dirty.nodes.pop_first() {
            if self.session_mut(&name).is_none() {
                continue;
            }
            self.welcome(&name);
            self.send_networks(&name);
            self.watch(&name, now);
            self.send_directory(&name, &mut whole);
            self.request_inventory(&name, now);
        }
    }

    fn welcome(&mut self, name: &NodeName) {
        let Some(session) = self.session_mut(name) else { return };
        if !std::mem::replace(&mut session.welcomed, true) {
            self.command(name, Command::Welcome);
        }
    }

    fn watch(&mut self, name: &NodeName, now: Now) {
        let ranges = self.watched(name);
        let interval = self.config.scan_interval;
        let Some(session) = self.session_mut(name) else { return };
        if session.watch == ranges {
            return;
        }
        let Some(sequence) = self.command(name, Command::Watch { ranges: ranges.clone(), interval }) else {
            return;
        };
        let due = now.mono + self.config.answer_after;
        let Some(session) = self.session_mut(name) else { return };
        let told = std::mem::replace(&mut session.watch, ranges);
        let is_told =
            |range: &PortRange| told.iter().any(|it| it.start <= range.start && range.end <= it.end);
        session.looking |= !session.watch.iter().all(is_told);
        // Answered by an inventory.
        (session.awaiting, session.asked) = (true, sequence);
        self.timers.set(Timer::InventoryDue(name.clone()), due);
    }

    /// The ranges of all pools on this node.
    fn watched(&self, name: &NodeName) -> Vec<PortRange> {
        let Some(node) = self.nodes.get(name) else { return Vec::new() };
        let pools = node.ledger.shelves().keys().filter_map(|pool| self.pools.get(pool)?.spec.as_ref());
        PortSet::from_ranges(pools.flat_map(|spec| spec.ranges.iter().copied())).ranges()
    }

    fn request_inventory(&mut self, name: &NodeName, now: Now) {
        let Some(worker) = self.worker(name) else { return };
        let Some(session) = &worker.session else { return };
        let told = worker.known && session.compared && session.directory != Informed::Unknown;
        if session.awaiting || told {
            return;
        }
        let due = now.mono + self.config.answer_after;
        let Some(sequence) = self.command(name, Command::InventoryRequest) else { return };
        if let Some(session) = self.session_mut(name) {
            (session.awaiting, session.asked) = (true, sequence);
        }
        self.timers.set(Timer::InventoryDue(name.clone()), due);
    }
}
