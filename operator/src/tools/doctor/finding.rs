//! What was looked at, and what came of it.

use std::fmt;

use serde_json::{Value, json};

/// All of them, in the order in which they were looked at.
#[derive(Clone, Debug)]
pub(super) struct Findings(pub(super) Vec<Finding>);

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) subject: Subject,
    pub(super) level: Level,
    /// What is there.
    pub(super) what: String,
    /// Why it matters; empty where all is fine.
    pub(super) why: &'static str,
    /// What to do, command lines among it; empty where all is fine.
    pub(super) remedy: String,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Objects,
    Pools,
    Ephemeral,
    NodePorts,
    Holders,
    OpenFiles,
    Threads,
    Conntrack,
    Buffers,
    Clock,
    Ipv6,
    Memory,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Fine,
    /// It may hurt some, and is right for others.
    Note,
    /// It hurts, or will.
    Wrong,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Pools => "pools",
            Self::Ephemeral => "ephemeral ports",
            Self::NodePorts => "NodePorts",
            Self::Holders => "holders of ports",
            Self::OpenFiles => "open files",
            Self::Threads => "threads",
            Self::Conntrack => "conntrack",
            Self::Buffers => "buffers",
            Self::Clock => "clock",
            Self::Ipv6 => "IPv6",
            Self::Memory => "memory",
        }
    }
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

impl Finding {
    pub(super) fn fine(subject: Subject, what: String) -> Self {
        Self { subject, level: Level::Fine, what, why: "", remedy: String::new() }
    }

    pub(super) fn note(subject: Subject, what: String, why: &'static str, remedy: String) -> Self {
        Self { subject, level: Level::Note, what, why, remedy }
    }

    pub(super) fn wrong(subject: Subject, what: String, why: &'static str, remedy: String) -> Self {
        Self { subject, level: Level::Wrong, what, why, remedy }
    }
}

impl Findings {
    /// Whether nothing is wrong.
    pub(super) fn are_well(&self) -> bool {
        self.count(Level::Wrong) == 0
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let one = |finding: &Finding| {
            let Finding { subject, level, what, why, remedy } = finding;
            json!({ "subject": subject.as_str(), "level": level.as_str(), "what": what, "why": why, "remedy": remedy })
        };
        json!({ "well": self.are_well(), "findings": self.0.iter().map(one).collect::<Vec<_>>() })
    }
}

impl fmt::Display for Findings {
    /// What is wrong comes first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for level in [Level::Wrong, Level::Note, Level::Fine] {
            for finding in self.0.iter().filter(|finding| finding.level == level) {
                let Finding { subject, level, what, why, remedy } = finding;
                writeln!(f, "{:<5} {}: {what}", level.as_str(), subject.as_str())?;
                for (title, words) in [("why", *why), ("do", remedy.as_str())] {
                    if !words.is_empty() {
                        writeln!(f, "      {title}: {words}")?;
                    }
                }
            }
        }
        let (wrong, notes) = (self.count(Level::Wrong), self.count(Level::Note));
        writeln!(f, "{wrong} wrong, {notes} to note, {} fine", self.count(Level::Fine))
    }
}
