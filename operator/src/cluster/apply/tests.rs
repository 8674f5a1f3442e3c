//! What an answer of the API server says of a write.

use kube::core::Status;
use operator_core::status::StreamStatus;

use super::*;

fn answer(code: u16) -> WriteOutcome {
    failed(&kube::Error::Api(Box::new(Status::failure("the words", "Reason").with_code(code))))
}

#[test]
fn only_an_answer_that_refuses_tells_that_nothing_was_written() {
    assert_eq!(answer(409), WriteOutcome::Conflict);
    assert_eq!(answer(404), WriteOutcome::NotFound);
    for refusal in [400, 403, 422] {
        assert_eq!(answer(refusal), WriteOutcome::Refused { message: "the words".to_owned() });
    }
    // Too busy, broken, or gone in the middle: it may have been written all the same.
    for unclear in [401, 408, 429, 500, 503, 504] {
        assert_eq!(answer(unclear), WriteOutcome::Unknown, "{unclear}");
    }
}

#[test]
fn a_written_object_without_a_version_is_read_again() {
    let written = WriteOutcome::Written { resource_version: ResourceVersion(7) };
    assert_eq!(written_at(Some("7")), written);
    assert_eq!(written_at(None), WriteOutcome::Unknown);
    assert_eq!(written_at(Some("seven")), WriteOutcome::Unknown);
}

#[test]
fn a_status_is_written_with_its_preconditions_and_nothing_else() {
    let status = convert::api_stream_status(&StreamStatus::default());
    let written = body::<MediaStream>(json!({"name": "a", "uid": "u", "resourceVersion": "7"}), &status);
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["apiVersion"], "media.penstock.dev/v1alpha1");
    assert_eq!(written["kind"], "MediaStream");
    assert_eq!(written["metadata"], json!({"name": "a", "uid": "u", "resourceVersion": "7"}));
    assert!(written.get("spec").is_none(), "{written}");
}
