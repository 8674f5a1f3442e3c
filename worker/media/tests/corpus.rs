//! Replays the fuzz corpus on the stable toolchain: what fuzzing has found stays found.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

#[test]
fn every_input_of_the_corpus_is_borne() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut inputs: Vec<_> = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("corpus of {name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let data = fs::read(&input).unwrap();
            if std::panic::catch_unwind(|| target(&data)).is_err() {
                panic!("{name} fails on {}", input.display());
            }
        }
    }
}

#[test]
fn every_target_bears_nothing_and_a_single_byte() {
    for (_, target) in targets::TARGETS {
        target(&[]);
        (0..=u8::MAX).for_each(|byte| target(&[byte]));
    }
}
