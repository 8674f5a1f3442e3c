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
    crd
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
