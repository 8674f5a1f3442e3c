//! Objects as an API server sends them.

use operator_core::Reason;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn camera(spec: &Value) -> DynamicObject {
    object(json!({
        "apiVersion": "media.penstock.dev/v1alpha1",
        "kind": "MediaStream",
        "metadata": {"name": "door", "namespace": "site", "uid": "u", "resourceVersion": "9", "generation": 2},
        "spec": spec,
        "status": {"epoch": 4, "term": 3},
    }))
}

#[test]
fn a_stream_is_read_with_its_name_version_and_status() {
    let stream = stream(&camera(&json!({"source": {"push": {}}})));
    assert_eq!(stream.name, ObjectName::new("site", "door"));
    assert_eq!((stream.resource_version.0, stream.generation, stream.status.epoch), (9, 2, 4));
    assert_eq!(stream.spec.unwrap().path.as_str(), "site/door");
}

#[test]
fn a_stream_that_does_not_read_is_refused_by_name_and_keeps_its_record() {
    let stream = stream(&camera(&json!({"source": {"push": {}}, "paused": "often"})));
    let refusal = stream.spec.unwrap_err();
    assert_eq!(refusal.reason, Reason::InvalidSpec);
    assert!(refusal.message.contains("often"), "{}", refusal.message);
    assert_eq!((stream.status.epoch, stream.status.term), (4, 3));
}

#[test]
fn a_node_is_reached_as_annotated_else_from_outside_first() {
    let node = |annotations: Value| -> NodeObject {
        let node = json!({
            "metadata": {"name": "n", "annotations": annotations},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [
                    {"type": "InternalIP", "address": "10.0.0.7"},
                    {"type": "Hostname", "address": "n"},
                    {"type": "ExternalIP", "address": "192.0.2.7"},
                ],
            },
        });
        super::node(&serde_json::from_value(node).unwrap())
    };
    let plain = node(json!({}));
    assert!(plain.ready && plain.unschedulable);
    assert_eq!(plain.addresses, ["192.0.2.7".into(), "10.0.0.7".into()]);
    let annotated = node(json!({"media.penstock.dev/addresses": "cams.example, 2001:db8::7,"}));
    assert_eq!(annotated.addresses, ["cams.example".into(), "2001:db8::7".into()]);
}

#[test]
fn where_a_node_its_pods_and_services_are_is_no_matter_of_how_it_is_reached() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n", "annotations": {"media.penstock.dev/addresses": "192.0.2.7"}},
        "spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24", "fd00::700/120"]},
        "status": {"addresses": [
            {"type": "Hostname", "address": "10.0.0.9"},
            {"type": "ExternalIP", "address": "198.51.100.7"},
            {"type": "InternalIP", "address": "10.0.0.7"},
            {"type": "InternalIP", "address": "2001:db8::7"},
        ]},
    }))
    .unwrap();
    let node = super::node(&node);
    let own: Vec<String> = node.own.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.0.0.7", "2001:db8::7", "198.51.100.7"]);
    let pods: std::collections::BTreeSet<String> = node.pods.iter().map(ToString::to_string).collect();
    assert_eq!(pods, ["10.244.7.0/24".to_owned(), "fd00::700/120".to_owned()].into());

    let (name, networks) = service_cidr(
        &serde_json::from_value(json!({
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00:10:96::/112"]},
        }))
        .unwrap(),
    );
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    assert_eq!(
        (name.as_str(), networks),
        ("kubernetes", vec!["10.96.0.0/12".into(), "fd00:10:96::/112".into()])
    );
}
