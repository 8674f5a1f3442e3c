//! Which tokens make a worker, by the API server's answer.

use k8s_openapi::api::authentication::v1::UserInfo;

use super::*;

const ACCOUNT: &str = "system:serviceaccount:media:penstock-worker";

fn status(account: &str, audience: &str, claims: &[(&str, &str)]) -> TokenReviewStatus {
    let extra = claims
        .iter()
        .map(|(name, value)| (format!("authentication.kubernetes.io/{name}"), vec![(*value).to_owned()]));
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec![audience.to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some(account.to_owned()),
            extra: Some(extra.collect()),
            ..UserInfo::default()
        }),
    }
}

const BOUND: &[(&str, &str)] = &[("pod-name", "w"), ("pod-uid", "u"), ("node-name", "n")];

#[test]
fn a_workers_pod_is_admitted_for_itself_and_its_node() {
    let pod = admit(status(ACCOUNT, "penstock", BOUND), "penstock", ACCOUNT).unwrap();
    assert_eq!(pod, Pod { name: "w".into(), uid: "u".into(), node: "n".into() });
}

#[test]
fn nobody_else_is_admitted_and_the_refusal_says_why() {
    let refused = |status, why: &str| {
        let refusal = admit(status, "penstock", ACCOUNT).unwrap_err();
        assert!(refusal.message().contains(why), "{refusal:?} does not say {why}");
    };
    let unknown = TokenReviewStatus { authenticated: Some(false), ..status(ACCOUNT, "penstock", BOUND) };
    refused(unknown, "not valid");
    // Made for the API server, say: whoever gets hold of it must not be a worker by it.
    refused(status(ACCOUNT, "https://kubernetes.default.svc", BOUND), "audience penstock");
    refused(status("system:serviceaccount:media:default", "penstock", BOUND), "is not");
    refused(status(ACCOUNT, "penstock", &BOUND[..2]), "not bound to a pod on a node");
}
