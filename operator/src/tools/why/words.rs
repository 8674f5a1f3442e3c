//! What each reason means for a stream that does not play, and what a person does about it.

use operator_core::Reason;

/// A reason, for people. `{…}` are filled in by the answer.
pub(super) struct Words {
    /// Ends the sentence "… does not play: ".
    pub(super) why: &'static str,
    /// What to do, the likeliest first.
    pub(super) remedies: &'static [&'static str],
}

const AGAIN: &str = "Nothing yet: this takes a moment. Ask again in a few seconds.";

const TOUCH: &str = "Wake it by any edit, or by another value of the annotation media.penstock.dev/touch.";

/// What is said of a reason, wherever it is met.
pub(super) fn words(reason: Reason) -> Words {
    let (why, remedies): (_, &'static [_]) = match reason {
        Reason::Accepted => ("its spec is in force", &[AGAIN]),
        Reason::InvalidSpec => {
            ("its spec is refused", &["Correct the field that is named, and apply it again."])
        }
        Reason::NotSupported => (
            "its spec asks for what does not work yet",
            &["Take the field that is named out of the spec, or write the value that is named instead."],
        ),
        Reason::PathConflict => (
            "an older stream has its path {path}",
            &[
                "Delete the older stream: this one takes over at once.",
                "Or make this one again with another spec.path.",
            ],
        ),
        Reason::SsrcConflict => (
            "an older stream has its SSRC on the ports that streams share",
            &[
                "Delete the older stream: this one takes over at once.",
                "Or invite its device with another SSRC, and write that into spec.source.rtp.ssrc.",
                "Or remove spec.source.rtp.shared: on a port of its own it meets nobody.",
            ],
        ),
        Reason::PathNotGranted => (
            "its path {path} is outside of its namespace and not granted to it",
            &[
                "Make it again with a spec.path that begins with its namespace, or with none.",
                "Or grant it: --path-grants PREFIX=NAMESPACE of the operator, pathGrants of the chart.",
            ],
        ),
        Reason::Overlap => (
            "its PortPool {pool} has numbers that an older pool has too",
            &["Edit spec.ranges of the PortPool {pool}, so that no number is in two pools of a node."],
        ),
        Reason::PoolNotFound => (
            "the PortPool that it is to lease from is not there",
            &[
                "Make that PortPool, or one with spec.default: true, or name one that is there in spec.portPoolRef.",
            ],
        ),
        Reason::PoolNotAccepted => (
            "its PortPool {pool} is itself not accepted",
            &["Look at the condition Accepted of the PortPool {pool}, and correct what it names."],
        ),
        Reason::NamespaceNotAllowed => (
            "its PortPool {pool} is not for its namespace",
            &[
                "Add the namespace to spec.allowedNamespaces of the PortPool {pool}, or name another in spec.portPoolRef.",
            ],
        ),
        Reason::Leased => ("its ports are leased", &[AGAIN]),
        Reason::Shared => ("its worker {worker} has a port for all such streams", &[AGAIN]),
        Reason::NoSharedPort => (
            "no worker that may take it has a port for streams that are told apart by SSRC",
            &[
                "Start workers with one: --rtp-shared 0.0.0.0:10000 of penstock standalone and worker, worker.ports.rtpShared of the chart.",
                "Or remove spec.source.rtp.shared: a PortPool leases it a port of its own.",
            ],
        ),
        Reason::PoolExhausted => (
            "no number of its PortPool {pool} is free",
            &[
                "Grow spec.ranges of the PortPool {pool}: nothing restarts, and the first in line is served at once.",
                "Or end streams that hold numbers: delete or pause them, or give them spec.releaseAfterIdle.",
            ],
        ),
        Reason::PortTaken => (
            "the one number that it may have is not free",
            &[
                "Nothing, if what holds the number will end: the stream has it then.",
                "Or end what holds it; or write another spec.source.rtp.port, or none.",
            ],
        ),
        Reason::PortOutside => (
            "the one number that it may have is not in its PortPool {pool}",
            &[
                "Put the number into spec.ranges of the PortPool {pool}, or write another spec.source.rtp.port.",
            ],
        ),
        Reason::Assigned => ("its worker {worker} has it", &[AGAIN]),
        Reason::Assigning => (
            "its worker {worker} is told of it and has not answered yet",
            &[AGAIN, "If it stays so, read the log of {worker}."],
        ),
        Reason::Claiming => {
            ("it is being given to a worker", &[AGAIN, "If it stays so, read the log of the operator."])
        }
        Reason::NoWorker => (
            "no worker can take it",
            &[
                "Look whether workers run and are ready; penstock check tells how many are heard.",
                "If some are: spec.placement.nodeSelector, and spec.nodeSelector of its PortPool, must match one's node.",
            ],
        ),
        Reason::AwaitingInventory => ("a worker has just come and is asked what its node holds", &[AGAIN]),
        Reason::WorkerUnheard => (
            "its worker {worker} is not heard",
            &[
                "Nothing, if another worker has room: it moves once a majority of witnesses finds {worker} gone.",
                "If it stays so, look at the pod {worker}, at its node, and at the network between it and the operator.",
            ],
        ),
        Reason::WorkerLost => (
            "its worker {worker} is gone",
            &[
                "Nothing, if another worker has room: it moves there. Else bring {worker} back, or start another one.",
            ],
        ),
        Reason::Drained => {
            ("its worker was emptied, and it has moved", &["Send to where it is now: {publish}."])
        }
        Reason::PortsMoving => (
            "its PortPool {pool} has its number no longer, and another one is open beside it",
            &["Invite the device to where it is to send from now on: {publish}."],
        ),
        Reason::PortsMoved => {
            ("its number has given way to another one", &["Send to where it is now: {publish}."])
        }
        Reason::DeadlineExceeded => (
            "its number was closed at the deadline in spec.shrink of its PortPool {pool}",
            &[
                "Invite the device to where it is now: {publish}.",
                "For the next time, a longer spec.shrink.deadline leaves more time for that.",
            ],
        ),
        Reason::Returned => ("it has gone back to its former worker, which has its publisher", &[AGAIN]),
        Reason::WorkerRestarted => (
            "the process of its worker {worker} was started again",
            &[AGAIN, "The log of {worker} says what ended it."],
        ),
        Reason::Paused => ("it is paused", &["Set spec.paused to false."]),
        Reason::Idle => (
            "it had no media for spec.releaseAfterIdle, so its ports went back",
            &[TOUCH, "Then invite the device to the ports that it has from then on."],
        ),
        Reason::Suspect => (
            "a worker's thread got stuck twice while it had this stream, so it is held back",
            &["Keep the state dumps in the worker's log: they are what a bug report needs.", TOUCH],
        ),
        Reason::TokenSecretNotFound => (
            "a token Secret that it names is not there, so nobody may come",
            &[
                "Make the Secret in the stream's namespace, with type media.penstock.dev/token and the key token.",
                "On a cluster the installation must read Secrets of that namespace: secretNamespaces of the chart.",
            ],
        ),
        Reason::TokenSecretInvalid => (
            "a token Secret that it names has no token or too many, so nobody may come",
            &[
                "Write 1 to 128 tokens into its key token, one a line. The operator's log line `nobody is let in` says what is wrong.",
            ],
        ),
        Reason::Media => ("media flows", &[]),
        Reason::NoPublisher => ("nobody publishes it", &["{send}"]),
        Reason::Stalled => (
            "{remote} publishes it, but no media comes",
            &[
                "Look at the encoder or device: it is connected and sends nothing that can be played.",
                "Or end it, so that it dials again: penstock kick {stream}",
            ],
        ),
        Reason::Deleted => (
            "it is being deleted",
            &["Nothing, if that is meant. metadata.finalizers names whom it waits for."],
        ),
        Reason::SpecChanged => ("its spec was changed, and it is given to a worker anew", &[AGAIN]),
        Reason::BindFailed => (
            "its number could not be bound, and it gets another one",
            &[AGAIN, "penstock doctor on that node names who holds the number."],
        ),
        Reason::PortContested => ("another stream really has its number, and it gets another one", &[AGAIN]),
        Reason::Superseded => ("it has gone to another epoch", &[AGAIN]),
        Reason::Leak => ("a worker held it although nobody asked for it", &[AGAIN]),
        Reason::TtlExpired => {
            ("its spec.ttlAfterIdle is over", &["Apply it again; in a folder, change its file."])
        }
        Reason::Available => ("its PortPool {pool} has numbers", &[AGAIN]),
        Reason::NoNode => (
            "no node that its PortPool {pool} is for has a worker",
            &["Start a worker on such a node, or edit spec.nodeSelector of the PortPool {pool}."],
        ),
        Reason::AboveThreshold => (
            "its PortPool {pool} is nearly exhausted",
            &["Grow spec.ranges of the PortPool {pool} before its numbers run out."],
        ),
        Reason::LeasesOutside => (
            "its PortPool {pool} has leases outside of its ranges",
            &[
                "Nothing: they end by themselves; status.blockedBy of the PortPool {pool} names them.",
                "Or have them move to other numbers, while they play: spec.shrink.policy Move of the PortPool {pool}.",
            ],
        ),
        Reason::ForeignHolder => (
            "somebody else holds numbers of its PortPool {pool}",
            &[
                "End that process, or list the number in spec.reserved of the PortPool {pool}; penstock doctor names both.",
            ],
        ),
        Reason::EphemeralRange => (
            "its PortPool {pool} meets the ports that the kernel hands out by itself",
            &["Run penstock doctor on the node: it has the sysctl line."],
        ),
        Reason::NodePortRange => (
            "its PortPool {pool} meets the ports of Services of type NodePort",
            &["Move spec.ranges of the PortPool {pool} out of them."],
        ),
        Reason::AbsenceHeld => (
            "a list lacks so many of its worker's streams that it is not believed",
            &[
                "If they were deleted, say so: the annotation media.penstock.dev/absence-confirmed on the operator's Lease.",
            ],
        ),
        Reason::ListWentBack => (
            "the API server went back to an older state, as after a restore from backup",
            &[
                "If what is there is right, say so: the annotation media.penstock.dev/absence-confirmed on the operator's Lease.",
            ],
        ),
        Reason::WriteRefused => (
            "the API server refuses what the operator writes about it",
            &[
                "Its words are below. CRDs and operator must be of one version, and the operator have its ClusterRole.",
            ],
        ),
        Reason::ControlDegraded => (
            "its worker {worker} runs, and is not heard by the operator",
            &["Look at the network between {worker} and the operator, port 9190. What plays goes on."],
        ),
        Reason::Hold => (
            "its worker {worker} is not heard, and too few witnesses are heard to say what became of it",
            &[
                "Look at the network between nodes. It moves when the node is NotReady or a majority can say that it is gone.",
            ],
        ),
    };
    Words { why, remedies }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer fills in.
    const KNOWN: [&str; 7] = ["{path}", "{pool}", "{worker}", "{publish}", "{send}", "{stream}", "{remote}"];

    #[test]
    fn each_reason_has_a_sentence_and_a_remedy() {
        for &reason in Reason::ALL {
            let Words { why, remedies } = words(reason);
            assert!(why.len() > 10 && !why.ends_with('.'), "{reason}: {why}");
            assert!(!remedies.is_empty() || reason == Reason::Media, "{reason} has no remedy");
            for text in remedies.iter().chain([&why]) {
                let plain = KNOWN.iter().fold((*text).to_owned(), |text, known| text.replace(known, ""));
                assert!(!plain.contains(['{', '}']), "{reason}: nobody fills in {text}");
            }
            assert!(remedies.iter().all(|remedy| remedy.ends_with(['.', '}'])), "{reason}");
        }
    }
}
