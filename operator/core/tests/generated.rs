//! The files in manifests/ are what the code says: CRDs are generated (UPDATE=1 rewrites them), examples are accepted.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use operator_core::api::{self, MediaStream, PortPool, check, read};
use serde_json::{Value, json};

mod golden;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

fn generated(crd: &Value) -> String {
    let yaml = serde_saphyr::to_string(crd).unwrap();
    format!(
        "# Generated from operator/core/src/api by `UPDATE=1 cargo test -p operator-core`. Don't edit.\n{yaml}"
    )
}

#[test]
fn the_crds_are_current() {
    for (name, crd) in api::crds() {
        let text = generated(&crd);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), crd, "{name} survives YAML");
        golden::check(&manifests().join(format!("crds/{name}.yaml")), &text);
    }
}

/// The chart's are templates, so that an upgrade changes them, and they outlive the chart.
#[test]
fn the_crds_of_the_chart_are_current() {
    let chart = manifests().join("../charts/penstock/files/crds");
    for (name, mut crd) in api::crds() {
        crd["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
        golden::check(&chart.join(format!("{name}.yaml")), &generated(&crd));
    }
}

#[test]
fn the_examples_are_accepted() {
    let mut kinds = Vec::new();
    for file in fs::read_dir(manifests().join("examples")).unwrap() {
        let file = file.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            assert_eq!(object["apiVersion"], api::API_VERSION, "{}", file.display());
            let kind = object["kind"].as_str().unwrap().to_owned();
            let refusals = match kind.as_str() {
                "MediaStream" => {
                    read::object::<MediaStream>(object).map_or_else(|no| no, |yes| check::stream(&yes, None))
                }
                "PortPool" => read::object::<PortPool>(object).map_or_else(|no| no, |yes| check::pool(&yes)),
                other => panic!("{other} in {}", file.display()),
            };
            assert_eq!(refusals, [], "{}", file.display());
            kinds.push(kind);
        }
    }
    kinds.sort();
    assert_eq!(kinds, ["MediaStream", "MediaStream", "MediaStream", "PortPool"]);
}
