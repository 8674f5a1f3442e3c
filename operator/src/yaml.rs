//! From the text of a file to objects: each document by itself, each mistake with its field.

use std::{collections::BTreeMap, fmt, sync::Arc};

use operator_core::{
    api::{self, MediaStream, ObjectMeta, PortPool, check::Refusal, read},
    ids::ObjectName,
    limits,
    reason::Reason,
};
use serde::Deserialize;
use serde_json::Value;

use crate::store::{Key, Object};

#[cfg(test)]
mod tests;

/// Something in a file that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The object, where that much could be read.
    pub(crate) key: Option<Key>,
    /// Field and remedy.
    pub(crate) text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Reads a file. The outer error is for text that is no YAML: then nothing is known of any document in it.
pub(crate) fn documents(text: &str) -> Result<Vec<Result<Object, Mistake>>, Mistake> {
    // As YAML 1.2 has it, only true and false are truths: a namespace may be called n.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents = serde_saphyr::from_multiple_with_options::<Value>(text, options).map_err(|error| {
        Mistake { key: None, text: format!("is not YAML: {}", one_line(&error.to_string())) }
    })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).map(object).collect())
}

fn object(mut document: Value) -> Result<Object, Mistake> {
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    let version = document["apiVersion"].as_str().unwrap_or_default().to_owned();
    let expected = match kind.as_str() {
        "MediaStream" | "PortPool" => api::API_VERSION,
        "Secret" => "v1",
        "" => return Err(mistake(None, "kind is missing: write MediaStream, PortPool or Secret")),
        _ => {
            return Err(mistake(
                None,
                &format!("kind {kind} is not known here: write MediaStream, PortPool or Secret"),
            ));
        }
    };
    if version != expected {
        return Err(mistake(
            None,
            &format!("apiVersion of a {kind} must be {expected}: write that, not \"{version}\""),
        ));
    }
    if let Some(fields) = document.as_object_mut() {
        // As the API server does with what `kubectl get -o yaml` wrote: status is not the writer's to say.
        fields.remove("status");
    }
    let key = key(&kind, &document["metadata"])?;
    let refused = |refusals: Vec<Refusal>| mistake(Some(key.clone()), &in_words(&refusals));
    match &key {
        Key::Stream(name) => {
            let mut stream: MediaStream = read::object(document).map_err(refused)?;
            stream.metadata.namespace = Some(name.namespace.to_string());
            Ok(Object::Stream(Box::new(stream)))
        }
        Key::Pool(_) => {
            let pool: PortPool = read::object(document).map_err(refused)?;
            Ok(Object::Pool(Box::new(pool)))
        }
        Key::Secret(name) => {
            let secret: Secret = read::object(document).map_err(refused)?;
            let token_sha256 = secret.token_sha256().map_err(|text| mistake(Some(key.clone()), &text))?;
            Ok(Object::Secret { name: name.clone(), token_sha256 })
        }
    }
}

fn key(kind: &str, metadata: &Value) -> Result<Key, Mistake> {
    let name = metadata["name"].as_str().unwrap_or_default();
    if !is_name(name, 253, true) {
        let text = format!(
            "{kind}: metadata.name \"{name}\" must be of lower-case letters, digits, - and ., such as cam-1: write one that is"
        );
        return Err(mistake(None, &text));
    }
    if kind == "PortPool" {
        return match &metadata["namespace"] {
            Value::Null => Ok(Key::Pool(name.into())),
            _ => Err(mistake(
                Some(Key::Pool(name.into())),
                "metadata.namespace: a PortPool has none, it is for all: remove it",
            )),
        };
    }
    let namespace = metadata["namespace"].as_str().unwrap_or(api::DEFAULT_NAMESPACE);
    let object = ObjectName::new(namespace, name);
    let key = if kind == "Secret" { Key::Secret(object) } else { Key::Stream(object) };
    if is_name(namespace, 63, false) {
        Ok(key)
    } else {
        let text = "metadata.namespace must be of lower-case letters, digits and -: write one that is, or leave it out for default";
        Err(mistake(Some(key), text))
    }
}

/// RFC 1123: a label, or with dots a subdomain.
fn is_name(text: &str, length_max: usize, dots: bool) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let inside = bytes.iter().all(|b| edge(*b) || *b == b'-');
        inside && bytes.first().is_some_and(|b| edge(*b)) && bytes.last().is_some_and(|b| edge(*b))
    };
    text.len() <= length_max && if dots { text.split('.').all(label) } else { label(text) }
}

/// The part of a core/v1 Secret that is of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    #[serde(rename = "metadata")]
    _metadata: ObjectMeta,
    #[serde(rename = "type", default)]
    type_: String,
    #[serde(default)]
    data: BTreeMap<String, k8s_openapi::ByteString>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
    #[serde(rename = "immutable", default)]
    _immutable: bool,
}

impl Secret {
    fn token_sha256(&self) -> Result<Arc<[[u8; 32]]>, String> {
        if self.type_ != api::TOKEN_SECRET_TYPE {
            return Err(
                "type must be media.penstock.dev/token: write that, or take the file away; no other Secret is read"
                    .to_owned(),
            );
        }
        let plain = self.string_data.get(api::TOKEN_SECRET_KEY).map(String::as_bytes);
        let encoded = self.data.get(api::TOKEN_SECRET_KEY).map(|bytes| bytes.0.as_slice());
        self::token_sha256(plain.or(encoded))
    }
}

/// The digest of each token of a Secret, by the value of its key `token`: one a line. Empty lines are none, so that a file may end
/// in a newline.
pub(crate) fn token_sha256(text: Option<&[u8]>) -> Result<Arc<[[u8; 32]]>, String> {
    let Some(text) = text else {
        return Err("key token is missing: write stringData: {token: VALUE}, one value a line".to_owned());
    };
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let hashes: Arc<[[u8; 32]]> = lines.map(sha256).collect();
    match hashes.len() {
        0 => Err("key token is empty: write at least one value".to_owned()),
        1..=limits::TOKENS_MAX => Ok(hashes),
        more => Err(format!(
            "key token has {more} values, more than {}: take out those that nobody uses, or give other streams another Secret",
            limits::TOKENS_MAX
        )),
    }
}

/// SHA-256 of a token; nothing else of it is kept.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn mistake(key: Option<Key>, text: &str) -> Mistake {
    Mistake { key, text: text.to_owned() }
}

/// A refused object, for the log.
pub(crate) fn in_words(refusals: &[Refusal]) -> String {
    let supported = |refusal: &&Refusal| refusal.reason != Reason::NotSupported;
    // What is plainly wrong comes first; the rest is for later.
    let (wrong, later): (Vec<&Refusal>, Vec<&Refusal>) = refusals.iter().partition(supported);
    wrong.into_iter().chain(later).map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
