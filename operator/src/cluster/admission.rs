//! Who may open a session: the bearer of a token that the API server calls one of a worker's pods', for that pod and node alone.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{
    Client,
    api::{Api, ObjectMeta, PostParams},
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::Status;

use crate::{limits, sessions::Pod};

/// Asks the API server about tokens.
pub(crate) struct Reviewer {
    reviews: Api<TokenReview>,
    audience: String,
    /// As the API server names the workers' ServiceAccount.
    account: String,
    turns: Arc<Semaphore>,
}

impl Reviewer {
    pub(crate) fn new(client: Client, audience: String, namespace: &str, service_account: &str) -> Self {
        Self {
            reviews: Api::all(client),
            audience,
            account: format!("system:serviceaccount:{namespace}:{service_account}"),
            turns: Arc::new(Semaphore::new(limits::REVIEWS_IN_FLIGHT)),
        }
    }

    /// Whose pod's token it is.
    pub(crate) async fn review(&self, token: &str) -> Result<Pod, Status> {
        // Whoever reaches the port can ask; the API server must not feel it.
        let Ok(_turn) = self.turns.try_acquire() else {
            return Err(Status::resource_exhausted("too many tokens are being looked at; dial again"));
        };
        if token.is_empty() || token.len() > limits::TOKEN_BYTES {
            return Err(Status::unauthenticated("the session's token is missing or too long"));
        }
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![self.audience.clone()]) },
            status: None,
        };
        let answer = timeout(limits::API_CALL, self.reviews.create(&PostParams::default(), &review)).await;
        match answer {
            Ok(Ok(review)) => admit(review.status.unwrap_or_default(), &self.audience, &self.account),
            Ok(Err(error)) => Err(Status::unavailable(format!("the token can't be looked at: {error}"))),
            Err(_) => Err(Status::unavailable("the API server does not say whose the token is")),
        }
    }
}

/// The pod that a reviewed token is bound to.
fn admit(status: TokenReviewStatus, audience: &str, account: &str) -> Result<Pod, Status> {
    if status.authenticated != Some(true) || !status.audiences.iter().flatten().any(|it| it == audience) {
        return Err(Status::unauthenticated(format!(
            "the session's token is not valid for the audience {audience}"
        )));
    }
    let user = status.user.unwrap_or_default();
    if user.username.as_deref() != Some(account) {
        let name = user.username.unwrap_or_default();
        return Err(Status::permission_denied(format!("{name} is not {account}, whose pods are workers")));
    }
    let extra = user.extra.unwrap_or_default();
    let claim = |name: &str| one(&extra, name);
    match (claim("pod-name"), claim("pod-uid"), claim("node-name")) {
        (Some(name), Some(uid), Some(node)) => Ok(Pod { name, uid, node }),
        _ => Err(Status::permission_denied(
            "the session's token is not bound to a pod on a node: mount it as a projected serviceAccountToken \
             (Kubernetes 1.30 or newer names the node)",
        )),
    }
}

fn one(extra: &BTreeMap<String, Vec<String>>, name: &str) -> Option<String> {
    extra.get(&format!("authentication.kubernetes.io/{name}"))?.first().cloned()
}

#[cfg(test)]
mod tests;
