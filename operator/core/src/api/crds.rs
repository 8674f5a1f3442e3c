//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::{MediaStream, PortPool};

/// The CRDs in JSON, each with the name of its plural: what `manifests/crds` holds as YAML.
pub fn crds() -> Vec<(&'static str, Value)> {
    vec![("mediastreams", tidied(MediaStream::crd())), ("portpools", tidied(PortPool::crd()))]
}

fn tidied(crd: CustomResourceDefinition) -> Value {
    let mut crd = serde_json::to_value(crd).expect("a CRD is JSON");
    tidy(&mut crd);
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    spread_effect(crd.pointer_mut(spec).expect("each of our kinds has a spec"), None);
    crd
}

/// What begins the sentence of a description that says when an edit takes effect (docs/edits.md).
const EFFECT: &str = "Takes effect: ";

/// Has `kubectl explain` say of each setting when an edit takes effect, also where that is written once for all of an object.
fn spread_effect(schema: &mut Value, above: Option<&str>) {
    let said =
        schema["description"].as_str().and_then(|text| text.find(EFFECT).map(|at| text[at..].to_owned()));
    let effect = said.as_deref().or(above);
    let below = ["/properties", "/items/properties"].into_iter().find(|at| schema.pointer(at).is_some());
    match below.and_then(|at| schema.pointer_mut(at)?.as_object_mut()) {
        Some(fields) => fields.values_mut().for_each(|field| spread_effect(field, effect)),
        None => {
            if let (None, Some(effect)) = (&said, effect) {
                let text = schema["description"].as_str().unwrap_or_default();
                schema["description"] = format!("{text} {effect}").into();
            }
        }
    }
}

/// Takes out what the derive adds and an API server does not want: `nullable`, which would let a null stand beside a default
/// instead of being dropped, and number formats that Kubernetes does not know.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| match name.as_str() {
                "nullable" => value != &Value::Bool(true),
                "format" => !value.as_str().is_some_and(|format| format.starts_with("uint")),
                _ => true,
            });
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
