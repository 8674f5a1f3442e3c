//! Values of arguments.

use super::*;

#[test]
fn a_grant_is_a_prefix_with_its_slash_and_a_namespace() {
    let grant =
        |prefix: &str, namespace: &str| PathGrant { prefix: prefix.into(), namespace: namespace.into() };
    assert_eq!(path_grant("live=cameras"), Ok(grant("live/", "cameras")));
    assert_eq!(path_grant("live/door/=cameras"), Ok(grant("live/door/", "cameras")));
    assert_eq!(path_grant("*=*"), Ok(grant("", "*")));
    for wrong in ["live", "=cameras", "live=", ""] {
        assert!(path_grant(wrong).unwrap_err().contains("PREFIX=NAMESPACE"), "{wrong}");
    }
}
