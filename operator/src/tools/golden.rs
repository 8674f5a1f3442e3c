//! Cases as files with golden text beside them: `UPDATE=1` rewrites it, and the diff is read by a person.

use std::{fs, path::Path};

/// Says each case of `folder`, below `src/tools`, and compares that with the `.out` beside it.
pub(super) fn compare(folder: &str, extension: &str, say: impl Fn(&Path, &str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools").join(folder);
    let update = std::env::var_os("UPDATE").is_some();
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|of| of == extension))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut wrong = Vec::new();
    for case in cases {
        let said = say(&case, &fs::read_to_string(&case).unwrap());
        let golden = case.with_extension("out");
        if update {
            fs::write(&golden, &said).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ; UPDATE=1 rewrites them:\n{}", wrong.join("\n"));
}
