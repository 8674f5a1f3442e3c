//! The API `media.penstock.dev/v1alpha1`: what a person writes in YAML and reads back as status.
//!
//! What one object can check by itself is a CEL rule in its CRD; [`check`] is the same list of rules for standalone, where no API
//! server stands between the file and us. Each rule's words live once, in `words`, so that both say the same. What several
//! objects decide together (two streams on one path, pools that overlap) is the planner's, and shows as a condition.

#![allow(
    unreachable_pub,
    reason = "KubeSchema repeats each struct inside a function, where `pub` reaches nobody"
)]

mod access;
pub mod check;
pub mod convert;
mod crds;
mod duration;
mod media_stream;
mod media_stream_status;
mod port_pool;
pub mod read;
mod words;

pub use access::{Access, LocalSecretRef};
pub use crds::crds;
pub use duration::{Duration, DurationError};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
pub use media_stream::*;
pub use media_stream_status::*;
pub use port_pool::*;

/// The API group of every kind defined here.
pub const GROUP: &str = "media.penstock.dev";

/// The version of the API, as `apiVersion` has it behind the group.
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` of every object of this API.
pub const API_VERSION: &str = "media.penstock.dev/v1alpha1";

/// Any change of this annotation wakes a stream that gave its ports back by `releaseAfterIdle`.
pub const TOUCH_ANNOTATION: &str = "media.penstock.dev/touch";

/// The type that a Secret with publish or play tokens must have.
pub const TOKEN_SECRET_TYPE: &str = "media.penstock.dev/token";

/// The key of such a Secret: one token a line, so that it can be rotated.
pub const TOKEN_SECRET_KEY: &str = "token";

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
