//! What an API server checks of an object's structure: types, required and unknown fields, enums, bounds.

use serde_json::Value;

/// The fields that are not as the schema wants them.
pub(crate) fn check(schema: &Value, object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(schema, object, String::new(), &mut wrong);
    wrong
}

/// Nulls of fields that are not nullable are dropped before anything else.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn walk(schema: &Value, value: &Value, at: String, wrong: &mut Vec<String>) {
    let right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        None => schema["x-kubernetes-int-or-string"] == true && (value.is_i64() || value.is_string()),
        Some(other) => panic!("{other} at {at}"),
    };
    let listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    let number = value.as_i64().is_none_or(|value| {
        schema["minimum"].as_f64().is_none_or(|min| value as f64 >= min)
            && schema["maximum"].as_f64().is_none_or(|max| value as f64 <= max)
    });
    let text = value.as_str().is_none_or(|value| {
        schema["maxLength"].as_u64().is_none_or(|max| value.chars().count() as u64 <= max)
    });
    let items = value
        .as_array()
        .is_none_or(|value| schema["maxItems"].as_u64().is_none_or(|max| value.len() as u64 <= max));
    if !(right && listed && number && text && items) {
        wrong.push(at);
        return;
    }
    match value {
        // The API server knows metadata by itself; the CRD says only that it is an object.
        Value::Object(fields) if at != "metadata" => {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(name.as_str().unwrap()) {
                    wrong.push(at.clone());
                }
            }
            for (name, value) in fields {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Null)
                        if matches!(at.as_str(), "apiVersion" | "kind" | "metadata") => {}
                    (Value::Null, Value::Null) => wrong.push(at),
                    (Value::Null, schema) | (schema, _) => walk(schema, value, at, wrong),
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(&schema["items"], value, format!("{at}[{index}]"), wrong);
            }
        }
        _ => {}
    }
}
