//! What is read of a file, and what is said of a mistake in it.

use super::*;

/// One line a document: what it is, or what is wrong with it.
fn read(text: &str) -> String {
    match documents(text) {
        Err(mistake) => format!("file: {mistake}"),
        Ok(documents) => documents
            .into_iter()
            .map(|document| {
                document.map_or_else(|mistake| format!("- {mistake}"), |object| object.key().to_string())
            })
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

const STREAM: &str = "apiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {name: a}\nspec: {source: {push: {}}}\n";

#[test]
fn documents_are_read_one_by_one() {
    let text = format!(
        "# a comment alone\n---\n{STREAM}---\n\n---\napiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {{name: p}}\n\
         spec: {{ranges: [{{start: 20000, end: 29999}}]}}\n---\nkind: Pod\napiVersion: v1\n"
    );
    assert_eq!(
        read(&text),
        "MediaStream default/a\nPortPool p\n- kind Pod is not known here: write MediaStream, PortPool or Secret"
    );
}

#[test]
fn an_empty_file_has_no_objects() {
    assert_eq!(read(""), "");
    assert_eq!(read("# nothing yet\n"), "");
}

#[test]
fn text_that_is_no_yaml_names_its_line() {
    let said = read("kind: MediaStream\n  spec: [\n");
    assert!(said.starts_with("file: is not YAML: ") && said.contains("line 2"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_kubectl_wrote_can_be_read_back() {
    let text = STREAM.replace(
        "{name: a}",
        "{name: a, namespace: n, uid: x, resourceVersion: '7', generation: 2, creationTimestamp: '2026-11-21T09:00:00Z'}",
    ) + "status: {epoch: 3}\n";
    assert_eq!(read(&text), "MediaStream n/a");
}

#[test]
fn mistakes_name_the_object_the_field_and_the_remedy() {
    for (change, with, said) in [
        ("kind: MediaStream\n", "", "- kind is missing: write MediaStream, PortPool or Secret"),
        (
            "v1alpha1",
            "v1",
            "- apiVersion of a MediaStream must be media.penstock.dev/v1alpha1: write that, not \"media.penstock.dev/v1\"",
        ),
        (
            "{name: a}",
            "{name: A_b}",
            "- MediaStream: metadata.name \"A_b\" must be of lower-case letters, digits, - and ., such as cam-1: write one that is",
        ),
        (
            "{name: a}",
            "{name: a, label: {}}",
            "- MediaStream default/a: metadata.label: is not a field that is known here: remove it",
        ),
        (
            "push: {}",
            "rtp: {ssrc: 0200000001}",
            "- MediaStream default/a: spec.source.rtp.ssrc: invalid type: floating point `200000001.0`, expected a string: write it in quotes",
        ),
        (
            "spec:",
            "sepc:",
            "- MediaStream default/a: sepc: is not a field that is known here: write spec; missing field `spec`: add it",
        ),
    ] {
        assert_eq!(read(&STREAM.replace(change, with)), said, "{change} -> {with}");
    }
}

#[test]
fn tokens_are_kept_as_digests_only() {
    let secret = |fields: &str| {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: t}}\n{fields}");
        match documents(&text).unwrap().remove(0) {
            Ok(Object::Secret { token_sha256, .. }) => Ok(token_sha256.to_vec()),
            Ok(_) => panic!("no Secret"),
            Err(mistake) => Err(mistake.to_string()),
        }
    };
    let ours = "type: media.penstock.dev/token\n";
    let two = Ok(vec![sha256(b"one"), sha256(b"two")]);
    assert_eq!(secret(&format!("{ours}stringData: {{token: \"one\\ntwo\\n\"}}\n")), two);
    assert_eq!(secret(&format!("{ours}data: {{token: b25lCnR3bwo=}}\n")), two);
    let most = format!("{ours}stringData: {{token: \"{}\"}}\n", "one\\n".repeat(limits::TOKENS_MAX));
    assert_eq!(secret(&most).map(|all| all.len()), Ok(limits::TOKENS_MAX));
    for (fields, said) in [
        (ours.to_owned(), "key token is missing: write stringData: {token: VALUE}, one value a line"),
        (format!("{ours}stringData: {{token: ''}}\n"), "key token is empty: write at least one value"),
        (
            "type: Opaque\n".to_owned(),
            "type must be media.penstock.dev/token: write that, or take the file away; no other Secret is read",
        ),
        (
            format!("{ours}stringData: {{token: \"{}\"}}\n", "one\\n".repeat(129)),
            "key token has 129 values, more than 128: take out those that nobody uses, or give other streams another Secret",
        ),
    ] {
        assert_eq!(secret(&fields), Err(format!("Secret default/t: {said}")));
    }
}
