//! One table of cases for what an object may say: `api::check` and the CRDs' own rules must answer alike.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use operator_core::api::{self, MediaStream, PortPool, check::Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

mod golden;
mod structure;

#[derive(Deserialize)]
struct Case {
    case: String,
    #[serde(default)]
    old: Option<Value>,
    new: Value,
}

#[test]
fn check_and_the_crds_answer_alike() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api");
    let text = std::fs::read_to_string(dir.join("cases.yaml")).unwrap();
    let cases: Vec<Case> = serde_saphyr::from_multiple(&text).unwrap();
    let mut out = String::new();
    let mut differ = String::new();
    for Case { case, old, new } in cases {
        let (old, new) = (old.map(complete), complete(new));
        let ours = by_check(&new, old.as_ref());
        let theirs = by_crd(&new, old.as_ref());
        if ours.iter().map(|r| (r.field.clone(), r.message.clone())).collect::<BTreeSet<_>>() != theirs {
            writeln!(differ, "{case}:\n  check: {ours:#?}\n  CRD: {theirs:#?}").unwrap();
        }
        writeln!(out, "{case}").unwrap();
        for Refusal { reason, field, message } in &ours {
            writeln!(out, "    {reason} {field}: {message}").unwrap();
        }
        if ours.is_empty() {
            writeln!(out, "    accepted").unwrap();
        }
    }
    golden::check(&dir.join("cases.out"), &out);
    assert!(differ.is_empty(), "{differ}");
}

#[test]
fn the_rules_of_the_crds_compile() {
    for (name, crd) in api::crds() {
        let schema = kube::core::cel::compile_schema(schema_of(&crd));
        assert!(!schema.has_errors(), "{name}: {:?}", schema.compilation_errors());
    }
}

fn schema_of(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// What each case leaves out.
fn complete(mut object: Value) -> Value {
    object["apiVersion"] = json!(api::API_VERSION);
    object["metadata"] = json!({"name": "one", "namespace": "default"});
    object
}

fn by_check(new: &Value, old: Option<&Value>) -> Vec<Refusal> {
    let answer = match new["kind"].as_str() {
        Some("MediaStream") => api::read::object::<MediaStream>(new.clone()).map(|new| {
            let old = old.map(|old| api::read::object(old.clone()).unwrap());
            api::check::stream(&new, old.as_ref())
        }),
        Some("PortPool") => api::read::object::<PortPool>(new.clone()).map(|new| api::check::pool(&new)),
        kind => panic!("{kind:?}"),
    };
    answer.unwrap_or_else(|refusals| refusals)
}

/// What an API server says: structure first, then defaults, then the rules. Where the structure is wrong, its words are the API
/// server's own and only the field is compared.
fn by_crd(new: &Value, old: Option<&Value>) -> BTreeSet<(String, String)> {
    let crds = api::crds();
    let (_, crd) = crds.iter().find(|(_, crd)| crd["spec"]["names"]["kind"] == new["kind"]).unwrap();
    let schema = schema_of(crd);
    let mut new = new.clone();
    structure::drop_nulls(&mut new);
    let wrong = structure::check(schema, &new);
    if !wrong.is_empty() {
        let ours = by_check(&new, old);
        let message =
            |field: &str| ours.iter().find(|r| r.field == field).map_or("-", |r| &r.message).to_owned();
        return wrong.into_iter().map(|field| (field.clone(), message(&field))).collect();
    }
    match kube::core::cel::Validator::new().validate_with_defaults(schema, &new, old) {
        Ok(()) => BTreeSet::new(),
        Err(errors) => errors
            .into_vec()
            .into_iter()
            .map(|error| (error.field_path.trim_start_matches('.').to_owned(), error.message))
            .collect(),
    }
}
