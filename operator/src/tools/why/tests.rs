//! Answers to small stories, `cases/*.yaml`, and to each reason.

use std::collections::BTreeSet;

use operator_core::{
    Reason,
    ids::ObjectName,
    status::{ConditionType, Phase},
};
use serde_json::{Value, json};

use super::{
    super::golden,
    answer::{Answer, explain},
    facts::{Facts, Leader, Pages},
};

/// A story: the pages as they would be served, with short words for what never differs.
fn ask(case: &Value) -> Answer {
    let text = |key: &str| case[key].as_str().map(str::to_owned);
    let list = |key: &str| case[key].as_array().cloned().unwrap_or_default();
    let asked = text("ask").unwrap();
    let (namespace, name) = asked.split_once('/').unwrap();
    let asked = ObjectName::new(namespace, name);
    let (mut stream, mut others) = (None, Vec::new());
    for object in list("streams") {
        let metadata = &object["metadata"];
        if metadata["namespace"] == namespace && metadata["name"] == name {
            stream = Some(object);
        } else {
            others.push(object);
        }
    }
    let sessions = match (&case["worker"], &case["sessions"]) {
        (Value::String(silent), _) => Some(Err(silent.clone())),
        (_, Value::Null) => None,
        (_, sessions) => Some(Ok(sessions.clone())),
    };
    let leader = match text("leader").as_deref() {
        None => Leader::There,
        Some("nobody") => Leader::Nobody,
        Some("no lease") => Leader::NoLease("penstock-system/penstock".to_owned()),
        Some(why) => Leader::Unknown(why.to_owned()),
    };
    let pages = Pages { stream, others, pools: list("pools"), events: list("events"), sessions, leader };
    explain(&Facts::from_pages(&asked, text("url").as_deref(), &pages))
}

#[test]
fn each_story_is_told_as_it_is_written() {
    golden::compare("why/cases", "yaml", |path, text| {
        let case: Value = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        ask(&case).to_string()
    });
}

/// A stream whose condition says `reason`, as the planner would write it.
fn with(kind: ConditionType, reason: Reason) -> Answer {
    let condition = |of: ConditionType, status: &str, reason: Reason| {
        json!({
            "type": of.as_str(), "status": status, "reason": reason.as_str(), "message": "its words",
            "lastTransitionTime": "2026-11-28T12:00:00Z",
        })
    };
    let before = [
        (ConditionType::Accepted, Reason::Accepted),
        (ConditionType::Ready, Reason::Assigned),
        (ConditionType::Live, Reason::Media),
    ];
    let conditions: Vec<Value> = before
        .iter()
        .take_while(|(of, _)| *of != kind)
        .map(|(of, reason)| condition(*of, "True", *reason))
        .chain([condition(kind, "False", reason)])
        .collect();
    ask(&json!({
        "ask": "live/cam",
        "streams": [{
            "apiVersion": "media.penstock.dev/v1alpha1", "kind": "MediaStream",
            "metadata": {"namespace": "live", "name": "cam", "generation": 1},
            "spec": {"source": {"push": {}}},
            "status": {"observedGeneration": 1, "phase": Phase::Pending.as_str(), "conditions": conditions},
        }],
    }))
}

#[test]
fn each_reason_that_a_condition_may_have_is_a_sentence_of_its_own() {
    let mut sentences = BTreeSet::new();
    for kind in [ConditionType::Accepted, ConditionType::Ready, ConditionType::Live] {
        for &reason in Reason::ALL {
            let said = with(kind, reason).to_string();
            let first = said.lines().next().unwrap();
            assert!(first.starts_with("live/cam does not play: "), "{first}");
            assert!(first.ends_with(&format!(" ({reason}).")), "{first}");
            assert!(said.contains("The operator says: its words"), "{said}");
            assert!(!said.contains(['{', '}']), "{said}");
            sentences.insert(first.to_owned());
        }
    }
    assert_eq!(sentences.len(), Reason::ALL.len());
}
