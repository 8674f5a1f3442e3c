//! From JSON to an object of the API, with every mistake named by its field: unknown fields, wrong types, unknown values.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::reason::Reason;

use super::check::Refusal;

/// Reads one object. A null counts as absent, as in the API server, which drops it.
pub fn object<T: DeserializeOwned>(mut value: Value) -> Result<T, Vec<Refusal>> {
    drop_nulls(&mut value);
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let mut unknown = Vec::new();
    // The types know their kind; the caller has looked at it to choose the type.
    let mut on_unknown = |path: serde_ignored::Path<'_>| match path_of_unknown(&path) {
        field if field == "apiVersion" || field == "kind" => {}
        field => unknown.push(field),
    };
    let reader = serde_ignored::Deserializer::new(value, &mut on_unknown);
    let read = serde_path_to_error::deserialize(reader).map_err(|error| {
        let field = match error.path().to_string() {
            field if field == "." => String::new(),
            field => field,
        };
        refusal(field, remedy(&error.into_inner().to_string()))
    });
    let mut refusals: Vec<Refusal> =
        unknown.into_iter().map(|field| refusal(field.clone(), unknown_field(&kind, &field))).collect();
    match read {
        Ok(object) if refusals.is_empty() => Ok(object),
        Ok(_) => Err(refusals),
        Err(refusal) => {
            refusals.push(refusal);
            Err(refusals)
        }
    }
}

fn refusal(field: String, message: String) -> Refusal {
    Refusal { reason: Reason::InvalidSpec, field, message }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `serde_ignored` writes `spec.ranges.0.x` and a `?` for each Option in between; the API's form is `spec.ranges[0].x`.
fn path_of_unknown(path: &serde_ignored::Path<'_>) -> String {
    let mut text = String::new();
    for part in path.to_string().split('.').filter(|part| *part != "?") {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
    }
    text
}

/// What to write instead of a field that is not known: the one that was meant, as far as can be told.
fn unknown_field(kind: &str, field: &str) -> String {
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let known = fields_of(kind, parent);
    let meant = known.iter().map(|known| (distance(known, name), known)).min();
    match meant {
        Some((changes, meant)) if changes <= 2 => format!("is not a field that is known here: write {meant}"),
        Some(_) => {
            format!("is not a field that is known here: remove it, or write one of {}", known.join(", "))
        }
        None => "is not a field that is known here: remove it".to_owned(),
    }
}

/// The fields below `parent`, as the CRD has them. Only asked for after a mistake, so nothing is kept.
fn fields_of(kind: &str, parent: &str) -> Vec<String> {
    let crds = super::crds();
    let Some((_, crd)) = crds.iter().find(|(_, crd)| crd["spec"]["names"]["kind"] == kind) else {
        return Vec::new();
    };
    let mut schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for part in parent.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        schema = if part.bytes().all(|b| b.is_ascii_digit()) {
            &schema["items"]
        } else {
            &schema["properties"][part]
        };
    }
    schema["properties"].as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

/// How many letters must be added, taken or changed to make one of the other (Levenshtein), whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

/// Adds what to write instead, where serde only says what is wrong.
fn remedy(error: &str) -> String {
    match error {
        _ if error.contains("expected a string") => format!("{error}: write it in quotes"),
        _ if error.starts_with("missing field") => format!("{error}: add it"),
        _ => error.to_owned(),
    }
}
