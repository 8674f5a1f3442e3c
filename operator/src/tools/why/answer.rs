//! From what is known of a stream to the one thing that keeps it from playing.

use std::fmt;

use operator_core::{
    Reason,
    api::{Condition, EndpointUse, MediaStreamSpec, MediaStreamStatus, RemoteAddress, RtpTransport},
};
use serde_json::{Value, json};

use super::{
    facts::{Facts, Leader, Mistake, Stream, Worker},
    near, url,
    words::{self, Words},
};

/// Why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    stream: String,
    /// Media flows, and what else was asked holds.
    plays: bool,
    /// A reason of the API, or one of this tool's own.
    reason: String,
    sentence: String,
    /// The condition's own words.
    operator_says: Option<String>,
    remedies: Vec<String>,
    /// What else was seen that may help.
    known: Vec<String>,
}

/// What keeps a stream from playing.
enum Cause<'a> {
    /// The API's own word for it.
    Condition(Reason, Option<&'a str>),
    /// A condition with a reason of another version.
    NewReason(&'a Condition),
    /// The operator has not come to it.
    Unseen,
    /// Nobody decides.
    NoLeader,
    /// The worker that is said to have it does not answer, or not about it.
    Worker(&'static str, String),
    /// The stream is well, and the URL is not.
    Url(Vec<String>),
    /// Nothing does.
    Nothing,
}

/// Explains.
pub(super) fn explain(facts: &Facts) -> Answer {
    let Some(stream) = &facts.stream else { return missing(facts) };
    let wrong_url = url_mistakes(facts, stream);
    let (reason, why, says, mut remedies) = match cause(facts, stream, &wrong_url) {
        Cause::Condition(reason, says) => {
            let Words { why, remedies } = words::words(reason);
            let fill = |text: &&str| fill(text, facts, stream);
            (reason.as_str().to_owned(), fill(&why), says, remedies.iter().map(fill).collect())
        }
        Cause::NewReason(condition) => {
            let remedies = vec![
                "This penstock does not know that reason: use the one of the operator's version.".to_owned(),
            ];
            (
                condition.reason.clone(),
                "the operator has a reason".to_owned(),
                Some(&*condition.message),
                remedies,
            )
        }
        Cause::Unseen => {
            let remedy = if facts.is_cluster {
                "Ask again in a few seconds. If it stays so, read the log of the operator's replica that leads."
            } else {
                "Ask again in a few seconds. If it stays so, read what penstock standalone writes."
            };
            let why = "the operator has not looked yet at what was applied last".to_owned();
            ("NotSeenYet".to_owned(), why, None, vec![remedy.to_owned()])
        }
        Cause::NoLeader => {
            let (why, remedies) = no_leader(&facts.leader);
            ("NoLeader".to_owned(), why, None, remedies)
        }
        Cause::Worker(reason, why) => {
            let remedy =
                "Its watchdog or its supervisor starts it again within seconds; its log says what happened.";
            (reason.to_owned(), why, None, vec![remedy.to_owned()])
        }
        Cause::Url(mistakes) => {
            let why = format!("media flows, but the URL that was given is wrong: {}", mistakes.join("; "));
            ("WrongURL".to_owned(), why, None, where_to(stream, EndpointUse::Play))
        }
        Cause::Nothing => return plays(facts, stream),
    };
    if reason == Reason::NoPublisher.as_str() && !wrong_url.is_empty() {
        remedies.insert(0, format!("The URL that was given does not lead to it: {}.", wrong_url.join("; ")));
    }
    Answer {
        stream: facts.asked.to_string(),
        plays: false,
        sentence: format!("{} does not play: {why} ({reason}).", facts.asked),
        reason,
        operator_says: says.filter(|says| !says.is_empty()).map(str::to_owned),
        remedies,
        known: known(facts, stream),
    }
}

fn cause<'a>(facts: &Facts, stream: &'a Stream, wrong_url: &[String]) -> Cause<'a> {
    let status = stream.status.as_ref();
    let is_behind = status.is_none_or(|status| status.observed_generation < Some(stream.generation));
    let condition = |kind: &str| status?.conditions.iter().find(|condition| condition.type_ == kind);
    let is_true = |kind: &str| condition(kind).is_some_and(|condition| condition.status == "True");
    let no_leader = match facts.leader {
        Leader::Nobody | Leader::NoLease(_) => true,
        Leader::There | Leader::Unknown(_) => false,
    };
    if no_leader && (is_behind || !is_true("Live")) {
        return Cause::NoLeader;
    }
    if stream.is_deleting {
        return Cause::Condition(Reason::Deleted, None);
    }
    if is_behind {
        return Cause::Unseen;
    }
    for kind in ["Accepted", "Ready"] {
        match condition(kind) {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => return of_condition(condition),
            None => return Cause::Unseen,
        }
    }
    match &facts.worker {
        Worker::Silent(words) => {
            return Cause::Worker("WorkerSilent", format!("its worker does not answer: {words}"));
        }
        Worker::ShardSilent => {
            return Cause::Worker(
                "ShardSilent",
                "the thread of its worker that has it does not answer".to_owned(),
            );
        }
        Worker::Lacks => {
            return Cause::Worker(
                "NotOnWorker",
                "its worker has just been started, and has not got it back yet".to_owned(),
            );
        }
        Worker::Unasked | Worker::Has { .. } => {}
    }
    match condition("Live") {
        Some(condition) if condition.status == "True" && wrong_url.is_empty() => Cause::Nothing,
        Some(condition) if condition.status == "True" => Cause::Url(wrong_url.to_vec()),
        Some(condition) => of_condition(condition),
        None => Cause::Unseen,
    }
}

fn of_condition(condition: &Condition) -> Cause<'_> {
    match Reason::parse(&condition.reason) {
        Some(reason) => Cause::Condition(reason, Some(&condition.message)),
        None => Cause::NewReason(condition),
    }
}

fn no_leader(leader: &Leader) -> (String, Vec<String>) {
    let pods =
        "Look at the pods of the operator, and at what their logs say; penstock check asks each of them.";
    match leader {
        Leader::NoLease(lease) => (
            format!("no operator decides here: there is no Lease {lease}"),
            vec![
                "Install the operator; or name the Lease of the installation with --lease NAMESPACE/NAME."
                    .to_owned(),
                pods.to_owned(),
            ],
        ),
        Leader::Nobody | Leader::There | Leader::Unknown(_) => (
            "no replica of the operator leads, so nothing is decided".to_owned(),
            vec![pods.to_owned(), "What plays goes on; another replica takes over after 4 s.".to_owned()],
        ),
    }
}

fn plays(facts: &Facts, stream: &Stream) -> Answer {
    let status = stream.status.as_ref();
    let publisher = status.and_then(|status| status.publisher.as_ref());
    let from = publisher.map_or(String::new(), |publisher| {
        format!(" from {} ({})", publisher.remote, publisher.codecs.join(", "))
    });
    let viewers = match facts.worker {
        Worker::Has { viewers: 1 } => ", and 1 viewer has it".to_owned(),
        Worker::Has { viewers } => format!(", and {viewers} viewers have it"),
        Worker::Unasked | Worker::Silent(_) | Worker::ShardSilent | Worker::Lacks => String::new(),
    };
    let mut remedies = where_to(stream, EndpointUse::Play);
    if facts.url.is_none() {
        remedies.push(format!(
            "If a player shows nothing, compare what it was given: penstock why {} --url URL",
            facts.asked
        ));
    }
    Answer {
        stream: facts.asked.to_string(),
        plays: true,
        reason: Reason::Media.as_str().to_owned(),
        sentence: format!("{} plays: media comes{from}{viewers}.", facts.asked),
        operator_says: None,
        remedies,
        known: known(facts, stream),
    }
}

/// There is no such stream.
fn missing(facts: &Facts) -> Answer {
    let asked = facts.asked.to_string();
    let named = format!("MediaStream {asked}: ");
    let of_it = facts
        .mistakes
        .iter()
        .rev()
        .find_map(|mistake| mistake.text.strip_prefix(&named).map(|text| (mistake, text)));
    let by_path = facts.others.iter().find(|other| other.path == asked);
    let (reason, sentence, says, mut remedies) = if let Some((Mistake { file, .. }, text)) = of_it {
        let sentence = format!("{asked} does not play: its file is refused, {file} (InvalidSpec).");
        let remedies = vec!["Correct what is named in that file: it is read when it is saved.".to_owned()];
        ("InvalidSpec", sentence, Some(text.to_owned()), remedies)
    } else if let Some(other) = by_path {
        let sentence =
            format!("There is no MediaStream {asked}; the path {asked} is that of {}.", other.name);
        ("NotFound", sentence, None, vec![format!("Ask: penstock why {}", other.name)])
    } else {
        let remedy = if facts.is_cluster {
            "Apply it: kubectl apply --filename FILE. kubectl get mediastreams --all-namespaces lists those there are."
        } else {
            "Put it into the folder that penstock standalone watches; a file without namespace is in default."
        };
        let near = near::names(&asked, &facts.others);
        let names: Vec<String> = near.iter().map(|other| other.name.to_string()).collect();
        let near = if names.is_empty() { String::new() } else { format!("; there is {}", names.join(", ")) };
        ("NotFound", format!("There is no MediaStream {asked}{near}."), None, vec![remedy.to_owned()])
    };
    let unread = facts.mistakes.iter().filter(|mistake| !mistake.text.starts_with("MediaStream "));
    for Mistake { file, at, text } in unread.rev().take(KNOWN_EVENTS_MAX) {
        if of_it.is_none() {
            remedies.push(format!("It may be in {file}, which was refused at {at}: {text}"));
        }
    }
    Answer {
        stream: asked,
        plays: false,
        reason: reason.to_owned(),
        sentence,
        operator_says: says,
        remedies,
        known: Vec::new(),
    }
}

fn url_mistakes(facts: &Facts, stream: &Stream) -> Vec<String> {
    let (Some(given), Ok(spec)) = (&facts.url, &stream.spec) else { return Vec::new() };
    let endpoints = stream.status.as_ref().map(|status| &status.endpoints[..]).unwrap_or_default();
    url::mistakes(given, &stream.path, spec, endpoints)
}

fn urls(stream: &Stream, use_: EndpointUse) -> Vec<&str> {
    let endpoints = stream.status.iter().flat_map(|status| &status.endpoints);
    endpoints.filter(|endpoint| endpoint.use_ == use_).map(|endpoint| &*endpoint.url).collect()
}

/// What to publish to or to play, and what is asked of who does.
fn where_to(stream: &Stream, use_: EndpointUse) -> Vec<String> {
    let verb = match use_ {
        EndpointUse::Publish => "Publish to",
        EndpointUse::Play => "Play",
    };
    let urls = urls(stream, use_);
    let mut lines = match urls.is_empty() {
        true => Vec::new(),
        false => vec![format!("{verb} {}.", urls.join(" or "))],
    };
    if let Ok(spec) = &stream.spec {
        lines.extend(asked_of_peers(spec, use_));
    }
    lines
}

fn asked_of_peers(spec: &MediaStreamSpec, use_: EndpointUse) -> Vec<String> {
    let access = match use_ {
        EndpointUse::Publish => spec.publish.access(),
        EndpointUse::Play => spec.play.access(),
    };
    let mut lines = Vec::new();
    if let Some(secret) = access.token_secret {
        lines.push(format!("Add ?token=… to it, with a value of the Secret {secret}."));
    }
    if !access.allowed_cidrs.iter().any(|network| network.ends_with("/0")) {
        lines.push(format!("Come from one of these networks: {}.", access.allowed_cidrs.join(", ")));
    }
    lines
}

/// Puts names into a text of `words`.
fn fill(text: &str, facts: &Facts, stream: &Stream) -> String {
    let status = stream.status.as_ref();
    let pool = facts.pool.as_ref().and_then(|pool| pool.metadata.name.clone());
    let named = || stream.spec.as_ref().ok()?.port_pool_ref.as_ref().map(|named| named.name.clone());
    let worker = status.and_then(|status| Some(status.assignment.as_ref()?.worker.clone()));
    let remote = status.and_then(|status| Some(status.publisher.as_ref()?.remote.clone()));
    let or = |found: Option<String>, otherwise: &str| found.unwrap_or_else(|| otherwise.to_owned());
    let publish = urls(stream, EndpointUse::Publish).join(" or ");
    text.replace("{path}", &stream.path)
        .replace("{pool}", &or(pool.or_else(named), "(none)"))
        .replace("{worker}", &or(worker, "(none)"))
        .replace("{remote}", &or(remote, "somebody"))
        .replace("{publish}", if publish.is_empty() { "what status.endpoints says" } else { &publish })
        .replace("{send}", &send(stream))
        .replace("{stream}", &facts.asked.to_string())
}

/// What one does who is to publish.
fn send(stream: &Stream) -> String {
    let urls = urls(stream, EndpointUse::Publish).join(" or ");
    let Some(rtp) = stream.spec.as_ref().ok().and_then(|spec| spec.source.rtp.as_ref()) else {
        return where_to(stream, EndpointUse::Publish).join(" ");
    };
    let ssrc = rtp.ssrc.as_ref().map_or("any SSRC".to_owned(), |ssrc| format!("the SSRC {ssrc}"));
    if let (RtpTransport::TcpActive, Some(RemoteAddress { host, port })) = (rtp.transport, &rtp.remote) {
        return format!(
            "Invite the device to listen on port {port} of {host}, and to send PS in RTP with {ssrc} to the worker, which connects again \
             and again."
        );
    }
    format!("Invite the device to send PS in RTP to {urls}, with {ssrc}.")
}

/// How standalone ends what it says of a refused edit.
const STAYS: &str = "it stays as it was";

/// Events that are shown.
const KNOWN_EVENTS_MAX: usize = 3;

/// What else may help.
fn known(facts: &Facts, stream: &Stream) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(status) = &stream.status {
        lines.push(record(status));
        let blocked =
            status.conditions.iter().find(|it| it.type_ == "FailoverBlocked" && it.status == "True");
        lines.extend(blocked.map(|blocked| format!("FailoverBlocked: {}", blocked.message)));
    }
    if let Err(error) = &stream.spec {
        lines.push(format!("this penstock can't read its spec, so it is of another version: {error}"));
    }
    if let Leader::Unknown(why) = &facts.leader {
        lines.push(format!("whether the operator has a leader can't be seen: {why}"));
    }
    if let Some(pool) = &facts.pool {
        lines.extend(pool_known(pool));
    }
    lines.extend(refused_edit(facts));
    let skipped = facts.events.len().saturating_sub(KNOWN_EVENTS_MAX);
    let said = facts.events.iter().skip(skipped);
    lines.extend(said.map(|said| format!("{} {}: {}", said.at, said.reason, said.message)));
    lines
}

/// An edit of its file that was not taken. Whether it was corrected since is not known.
fn refused_edit(facts: &Facts) -> Option<String> {
    let named = format!("MediaStream {}: ", facts.asked);
    let is_meant = |mistake: &&Mistake| mistake.text.starts_with(&named) && mistake.text.ends_with(STAYS);
    let Mistake { file, at, text } = facts.mistakes.iter().rev().find(is_meant)?;
    Some(format!("{file} was refused at {at}: {}", text.trim_start_matches(&named)))
}

fn record(status: &MediaStreamStatus) -> String {
    let phase = status.phase.map_or("no phase".to_owned(), |phase| format!("phase {phase:?}"));
    let epoch = status.epoch.unwrap_or_default();
    let worker = status.assignment.as_ref().map_or(String::new(), |assignment| {
        format!(", worker {} on node {}", assignment.worker, assignment.node)
    });
    let failovers = match status.failovers {
        0 => String::new(),
        failovers => format!(", {failovers} failovers"),
    };
    format!("{phase}, epoch {epoch}{worker}{failovers}")
}

fn pool_known(pool: &operator_core::api::PortPool) -> Vec<String> {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &pool.status else { return vec![format!("PortPool {name} has no status yet")] };
    let numbers = format!(
        "PortPool {name}: {} free + {} leased + {} cooling + {} quarantined = {} on {} nodes",
        status.free, status.leased, status.cooling, status.quarantined, status.capacity, status.nodes
    );
    let alarm = |condition: &&Condition| match condition.type_.as_str() {
        "Accepted" | "Ready" => condition.status != "True",
        _ => condition.status == "True",
    };
    let alarms = status.conditions.iter().filter(alarm);
    let alarms =
        alarms.map(|condition| format!("PortPool {name}: {}: {}", condition.type_, condition.message));
    std::iter::once(numbers).chain(alarms).collect()
}

impl Answer {
    /// Whether nothing is to be done.
    pub(super) fn plays(&self) -> bool {
        self.plays
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Self { stream, plays, reason, sentence, operator_says, remedies, known } = self;
        json!({
            "stream": stream, "plays": plays, "reason": reason, "sentence": sentence, "operatorSays": operator_says,
            "remedies": remedies, "known": known,
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sentence)?;
        if let Some(says) = &self.operator_says {
            writeln!(f, "The operator says: {says}")?;
        }
        let mut list = |title: &str, lines: &[String]| {
            if lines.is_empty() {
                return Ok(());
            }
            writeln!(f, "\n{title}")?;
            lines.iter().try_for_each(|line| writeln!(f, "- {line}"))
        };
        list(if self.plays { "How to see it:" } else { "What to do:" }, &self.remedies)?;
        list("What is known:", &self.known)
    }
}
