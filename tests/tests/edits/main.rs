//! When an edit takes effect (docs/edits.md): what each field's description says is what happens to a stream that plays.
//!
//! Each field has a row, and each row is tried out by the sentence that the CRD has: where that is another one than what the server
//! does, the row fails.

mod effect;
mod lives;
mod ports;
mod rules;

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use effect::{Effect, fields};
use tests::tools::root;

/// A field of the API and how its edits are seen.
struct Row {
    /// The CRD and the field's place in it.
    field: &'static str,
    seen: Seen,
}

enum Seen {
    /// Tries an edit out on a stream that plays: an error tells what was otherwise.
    Here(fn(Effect) -> Result<(), String>),
    /// One machine has one node: it is told in this scenario of the core, with the sentence in its head.
    Scenario(&'static str),
    /// One value works so far, so that no edit is one.
    OneValue,
}

#[test]
fn each_field_says_in_one_sentence_when_an_edit_takes_effect_and_has_a_row() {
    let (mut said, mut wrong) = (BTreeSet::new(), Vec::new());
    for (field, description) in fields() {
        match description.matches("Takes effect: ").count() {
            1 if Effect::of(&description).is_ok() => {}
            _ => wrong.push(format!("{field}: {description}")),
        }
        said.insert(field);
    }
    assert_eq!(wrong, Vec::<String>::new());
    let rows = [rules::ROWS, lives::ROWS, ports::ROWS].into_iter().flatten();
    let rows: Vec<String> = rows.map(|row| row.field.to_owned()).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "a field has one row");
    assert_eq!(said, rows.into_iter().collect(), "fields and rows");
}

#[test]
fn the_sentences_are_explained() {
    let page = fs::read_to_string(root().join("docs/edits.md")).expect("the page is there");
    let explained: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).skip(1).collect();
    assert_eq!(explained, Effect::ALL.map(Effect::sentence));
}

#[test]
fn rules_for_publishers_and_viewers() {
    try_out(rules::ROWS);
}

#[test]
fn sources_and_lives_of_streams() {
    try_out(lives::ROWS);
}

#[test]
fn ports_of_pools() {
    try_out(ports::ROWS);
}

#[track_caller]
fn try_out(rows: &[Row]) {
    let descriptions = fields();
    let mut wrong = Vec::new();
    for Row { field, seen } in rows {
        let begun = Instant::now();
        let effect = Effect::of(&descriptions[*field]).expect("it is one of the sentences");
        let outcome = match seen {
            Seen::Here(tried) => tried(effect),
            Seen::Scenario(name) => {
                let file = root().join("operator/core/tests/scenarios").join(name);
                let story = fs::read_to_string(file).expect("the scenario is there");
                let line = format!("# {field} takes effect: {}", effect.sentence());
                if story.lines().any(|it| it == line) {
                    Ok(())
                } else {
                    Err(format!("{name} has no line: {line}"))
                }
            }
            Seen::OneValue => Ok(()),
        };
        match outcome {
            Ok(()) => eprintln!("{field}: {} ({:?})", effect.sentence(), begun.elapsed()),
            Err(otherwise) => wrong.push(format!("{field}: {}, is said; {otherwise}", effect.sentence())),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
