//! What a field's description says of edits, and how that is seen.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tests::eventually::{ensure, within};
use tests::standalone::{SOON, Standalone};
use tests::tools::root;

/// The stream that is edited.
pub(crate) const CAM: &str = "live/cam";

/// When an edit takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    AtOnce,
    NewStart,
    NextPublisher,
    NextViewer,
    NextLease,
    NextAssignment,
    Unchangeable,
    NotYet,
}

impl Effect {
    pub(crate) const ALL: [Effect; 8] = [
        Effect::AtOnce,
        Effect::NewStart,
        Effect::NextPublisher,
        Effect::NextViewer,
        Effect::NextLease,
        Effect::NextAssignment,
        Effect::Unchangeable,
        Effect::NotYet,
    ];

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Effect::AtOnce => "at once.",
            Effect::NewStart => "at once, by a new start.",
            Effect::NextPublisher => "with the next publisher.",
            Effect::NextViewer => "with the next viewer.",
            Effect::NextLease => "with the next lease.",
            Effect::NextAssignment => "with the next assignment.",
            Effect::Unchangeable => "never, it can't be changed.",
            Effect::NotYet => "never, it does not work yet.",
        }
    }

    /// By the end of a description.
    pub(crate) fn of(description: &str) -> Result<Effect, String> {
        let said = description.split("Takes effect: ").nth(1);
        let effect = Effect::ALL.into_iter().find(|effect| Some(effect.sentence()) == said);
        effect.ok_or_else(|| description.to_owned())
    }
}

/// The descriptions of all fields of both specs that have nothing below them.
pub(crate) fn fields() -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for kind in ["mediastreams", "portpools"] {
        let file = root().join(format!("manifests/crds/{kind}.yaml"));
        let crd: Value =
            serde_saphyr::from_str(&fs::read_to_string(file).expect("the CRD is there")).expect("it is YAML");
        let spec =
            crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").expect("it has a spec");
        add(&mut fields, format!("{kind} spec"), spec);
    }
    fields
}

fn add(fields: &mut BTreeMap<String, String>, at: String, schema: &Value) {
    let below =
        ["/properties", "/items/properties"].into_iter().find_map(|below| schema.pointer(below)?.as_object());
    match below {
        Some(below) => below.iter().for_each(|(name, schema)| add(fields, format!("{at}.{name}"), schema)),
        None => {
            fields.insert(at, schema["description"].as_str().unwrap_or_default().to_owned());
        }
    }
}

/// An edit while somebody publishes and somebody plays.
pub(crate) struct Edit<'a> {
    pub(crate) standalone: &'a Standalone,
    /// The files that are written.
    pub(crate) files: Vec<(&'static str, String)>,
    /// Whether it holds for who is there.
    pub(crate) now: &'a mut dyn FnMut() -> Result<(), String>,
    /// Whether it holds for who comes.
    pub(crate) next: &'a mut dyn FnMut() -> Result<(), String>,
}

/// Of what no edit of this kind could be seen by.
pub(crate) fn unseen() -> Result<(), String> {
    Err("nothing could be seen of that".to_owned())
}

impl Edit<'_> {
    /// Makes the edit and sees whether it takes effect so.
    pub(crate) fn takes_effect(self, effect: Effect) -> Result<(), String> {
        let Edit { standalone, files, now, next } = self;
        let epoch = || Ok::<_, String>(standalone.object("/streams", CAM)?["status"]["epoch"].as_u64());
        let before = epoch()?;
        files.iter().for_each(|(name, text)| standalone.write(name, text));
        let wait = |what: &str, probe: &mut dyn FnMut() -> Result<(), String>| {
            within(SOON, probe).map_err(|last| format!("{what}: {last}"))
        };
        let stays = || match epoch() {
            Ok(after) => ensure(after == before, || "the stream began anew".to_owned()),
            // It was deleted, or expired.
            Err(_) => Ok(()),
        };
        match effect {
            Effect::AtOnce => wait("not for who is there", now).and_then(|()| stays()),
            Effect::NewStart => wait("no new start", &mut || {
                let after = epoch()?;
                ensure(after > before, || format!("its epoch is {after:?}"))
            }),
            Effect::NextPublisher | Effect::NextViewer | Effect::NextLease | Effect::NextAssignment => {
                wait("not for who comes next", next)?;
                ensure(now().is_err(), || "it holds for who is there, too".to_owned()).and_then(|()| stays())
            }
            Effect::Unchangeable => refused(standalone, "can't be changed"),
            Effect::NotYet => refused(standalone, "does not work yet"),
        }
    }
}

/// As `kubectl apply` would be: the stream hears nothing of it.
fn refused(standalone: &Standalone, words: &str) -> Result<(), String> {
    within(SOON, || {
        let events = standalone.page("/events")?;
        let refused = events["items"].as_array().into_iter().flatten().any(|event| {
            let told = event["message"].as_str().unwrap_or_default();
            event["type"] == "Warning" && told.contains("spec.") && told.contains(words)
        });
        ensure(refused, || events.to_string())
    })
}
